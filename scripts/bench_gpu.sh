#!/usr/bin/env bash
# bench_gpu.sh [OPTION...]: measures trireme beside PyTorch on this machine's GPU and writes the
# table of docs/benchmarks.md. Options go to tools/bench_gpu.py (--help).
#
# It needs a Python with PyTorch (--python) and the program: build/cuda/trireme, which it builds, or
# the one of a bundle (--trireme FOLDER/bin/trireme).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=1
for option in "$@"; do
  case $option in
    --trireme | --trireme=* | -h | --help) build=0 ;;
  esac
done
if (( build )); then scripts/build.sh cuda trireme; fi
exec python3 tools/bench_gpu.py "$@"
