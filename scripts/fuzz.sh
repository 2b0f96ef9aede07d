#!/usr/bin/env bash
# fuzz.sh [SECONDS [TARGET...]]: builds the libFuzzer targets (tests/fuzz/fuzz_*.cpp) with clang and
# runs each for SECONDS (default 20).
#
# Seeds: tests/fuzz/seeds/NAME/ for fuzz_NAME; what a run finds stays in build/fuzz/corpus/NAME.
# A crash leaves its input in build/fuzz/crashes and ends the script with status 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-20}
shift || true
targets=("$@")
if (( ! ${#targets[@]} )); then
  for source in tests/fuzz/fuzz_*.cpp; do
    [[ -f $source ]] && targets+=("$(basename "$source" .cpp)")
  done
fi
(( ${#targets[@]} )) || { echo "fuzz: no targets in tests/fuzz"; exit 0; }

scripts/setup.sh fuzz
build=build/fuzz
if [[ ! -f $build/build.ninja ]]; then
  # -w: warnings are g++'s business; the sanitizers and the coverage go into every file.
  cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER=clang++-14 -DCMAKE_BUILD_TYPE=Release \
    -DTRIREME_FUZZ=ON -DTRIREME_DEPS="${TRIREME_DEPS:-${HOME:?}/.cache/trireme/deps}" \
    -DCMAKE_CXX_FLAGS_RELEASE="-O1 -g1 -w" \
    -DCMAKE_CXX_FLAGS="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
fi
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 # objects of another clone count
cmake --build "$build" --parallel "${TRIREME_JOBS:-$(nproc)}" --target "${targets[@]}"

mkdir -p "$build/crashes"
status=0
for target in "${targets[@]}"; do
  name=${target#fuzz_}
  corpus=$build/corpus/$name
  mkdir -p "$corpus"
  seeds=()
  [[ -d tests/fuzz/seeds/$name ]] && seeds+=("tests/fuzz/seeds/$name")
  echo "== $target: $seconds s"
  if "$build/tests/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -malloc_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$build/crashes/$name-" \
    "$corpus" "${seeds[@]}" >"$build/$target.log" 2>&1; then
    grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$build/$target.log" || true
  else
    tail -n 40 "$build/$target.log"
    echo "fuzz: $target FAILED; its input is in $build/crashes"
    status=1
  fi
done
exit "$status"
