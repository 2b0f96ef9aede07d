#!/usr/bin/env bash
# bench_data.sh [ROUNDS]: pictures a second of the DataLoader beside torchvision's, and their ratio.
#
# Two workers make augmented 224 x 224 batches of JPEGs: 512 synthetic ones of about 500 x 375, and
# CIFAR-10's test set where ../shared/data/cifar10.tar.xz is. The two programs take turns.
# $TRIREME_PEERS is a python with torchvision and Pillow (default: python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-3}
python=${TRIREME_PEERS:-python3}
data=${TRIREME_TEST_DATA:-../shared/data}
"$python" -c 'import torchvision' || { echo "bench_data: $python has no torchvision" >&2; exit 1; }
TRIREME_CMAKE_ARGS="-DTRIREME_BENCH=ON ${TRIREME_CMAKE_ARGS-}" scripts/build.sh release trireme >&2
cmake -S . -B build/release -DTRIREME_BENCH=ON >/dev/null
cmake --build build/release --target data_loader >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" bench/data_loader.py --make "$work/photos"
folders=(photos)
if [[ -f $data/cifar10.tar.xz ]]; then
  tar -C "$work" -xJf "$data/cifar10.tar.xz" cifar10/test
  folders+=(cifar10/test)
fi
for folder in "${folders[@]}"; do
  for (( i = 0; i < rounds; ++i )); do
    build/release/bench/data_loader "$work/$folder" 2 64 2 >>"$work/ours.jsonl"
    "$python" bench/data_loader.py "$work/$folder" 2 64 2 >>"$work/peer.jsonl"
  done
  python3 - "$folder" "$work/ours.jsonl" "$work/peer.jsonl" <<'PYTHON'
import json, statistics, sys
rates = []
for path in sys.argv[2:]:
    runs = [json.loads(line)["pictures_per_s"] for line in open(path)]
    rates.append(statistics.median(rate for run in runs for rate in run))
ours, peer = rates
print(f"{sys.argv[1]}: {ours:.0f} pictures/s, torchvision {peer:.0f}, ratio {ours / peer:.2f}")
PYTHON
  rm "$work"/*.jsonl
done
