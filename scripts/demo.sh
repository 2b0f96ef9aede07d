#!/usr/bin/env bash
# demo.sh [PICTURE]: from a bare Debian 12 to the text of a picture: set-up, release build, models,
# OCR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

picture=${1:-examples/ocr/sample.png}
annotated=build/demo.png
# Chinese and Latin in one; `setup.sh demo` installs it.
font=/usr/share/fonts/truetype/wqy/wqy-microhei.ttc
step() { printf '\n== %s\n' "$*"; }

step "1/3  build the release (the first time: a few minutes)"
scripts/setup.sh demo
scripts/build.sh release
step "2/3  fetch the models of ch_PP-OCRv4"
build/release/trireme model fetch ch_PP-OCRv4
step "3/3  trireme ocr $picture --draw $annotated --font ${font##*/}"
drawing=(--draw "$annotated")
[[ ! -f $font ]] || drawing+=(--font "$font")
build/release/trireme ocr "$picture" "${drawing[@]}"

printf '\nThe picture with its boxes and text: %s\n' "$PWD/$annotated"
