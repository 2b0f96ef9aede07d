#!/usr/bin/env bash
# bench_train_cpu.sh [OPTION...]: measures training steps of trireme beside PyTorch and Paddle on
# this machine and writes the tables of docs/benchmarks.md. Options go to tools/bench_train.py
# (--help).
#
# The peers get a Python environment of their own under
# ${XDG_CACHE_HOME:-~/.cache}/trireme/train_peers; --python names another instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # they slow a current numpy down

own=1
for option in "$@"; do
  case $option in
    --python | --python=*) own=0 ;;
    -h | --help) exec python3 tools/bench_train.py --help ;;
  esac
done

scripts/build.sh release
options=("$@")
if (( own )); then
  peers=${XDG_CACHE_HOME:-${HOME:?}/.cache}/trireme/train_peers
  options+=(--python "$peers/bin/python")
  if ! cmp -s tools/bench_train_requirements.txt "$peers/requirements.txt"; then
    echo "bench_train_cpu: installing the peers into $peers" >&2
    rm -rf "$peers"
    python3 -m venv "$peers"
    "$peers/bin/python" -m pip install --quiet --disable-pip-version-check \
      -r tools/bench_train_requirements.txt
    cp tools/bench_train_requirements.txt "$peers/requirements.txt"
  fi
fi
exec python3 tools/bench_train.py "${options[@]}"
