#!/usr/bin/env bash
# bench_cpu.sh [OPTION...]: measures trireme beside ONNX Runtime, OpenVINO and Paddle on this
# machine and writes the tables of docs/benchmarks.md. Options go to tools/bench_cpu.py (--help).
#
# The peers get a Python environment of their own, and networks with random weights, under
# ${XDG_CACHE_HOME:-~/.cache}/trireme/peers (3 GB). --python and --models name others instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # they slow a current numpy down

peers=${XDG_CACHE_HOME:-${HOME:?}/.cache}/trireme/peers
python='' models=''
options=("$@")
for (( i = 0; i < ${#options[@]}; ++i )); do
  case ${options[i]} in
    --python) python=${options[i + 1]-} ;;
    --python=*) python=${options[i]#*=} ;;
    --models) models=${options[i + 1]-} ;;
    --models=*) models=${options[i]#*=} ;;
    -h | --help) exec python3 tools/bench_cpu.py --help ;;
  esac
done

scripts/build.sh release
build/release/trireme model fetch ch_PP-OCRv4

if [[ -z $python ]]; then
  python=$peers/venv/bin/python
  options+=(--python "$python")
  if ! cmp -s tools/bench_requirements.txt "$peers/venv/requirements.txt"; then
    echo "bench_cpu: installing the peers into $peers/venv" >&2
    rm -rf "$peers/venv"
    python3 -m venv "$peers/venv"
    "$python" -m pip install --quiet --disable-pip-version-check -r tools/bench_requirements.txt
    # Without their dependencies: they would bring a second OpenCV.
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps \
      rapidocr-paddle==1.4.5 rapidocr-onnxruntime==1.4.4
    cp tools/bench_requirements.txt "$peers/venv/requirements.txt"
  fi
fi
if [[ -z $models ]]; then
  models=$peers/models
  options+=(--models "$models")
  [[ -f $models/bert_base.onnx ]] || "$python" tools/make_bench_models.py "$models"
fi
exec python3 tools/bench_cpu.py "${options[@]}"
