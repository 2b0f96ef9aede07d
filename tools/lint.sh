#!/usr/bin/env bash
# lint.sh [--fix] [--tidy] [FILE...]: format, layers, house rules and spelling of the files given,
# or of all.
#
# --fix formats in place. --tidy adds clang-tidy (minutes; needs build/release configured) over the
# folders whose headers are light, or over the files given. Every check runs; the exit status is 1
# when one of them failed. The tools come with `scripts/setup.sh lint`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fix=0 tidy=0 files=()
while (( $# )); do
  case $1 in
    --fix) fix=1 ;;
    --tidy) tidy=1 ;;
    -*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    *) files+=("$1") ;;
  esac
  shift
done
chosen=${#files[@]}
if (( ! chosen )); then
  mapfile -t files < <(git ls-files --cached --others --exclude-standard | sort -u)
fi
present=()
for file in "${files[@]}"; do [[ -f $file && ! -L $file ]] && present+=("$file"); done

matching() { # prints the present files whose names match $1
  (( ! ${#present[@]} )) || printf '%s\n' "${present[@]}" | grep -E "$1" || true
}
mapfile -t cpp < <(matching '\.(h|cpp|cu|cuh)$')
mapfile -t python < <(matching '\.py$')
mapfile -t code < <(matching '\.(h|cpp|cu|cuh|py|sh|proto|cmake|def)$|CMakeLists\.txt$|^\.ci/run$')
mapfile -t text < <(matching '\.(md|json|ya?ml|txt|graph)$|^\.[a-z-]+$')
text+=("${code[@]}")
wide=() # tables may be wider
for file in "${code[@]}"; do [[ $file == *.def ]] || wide+=("$file"); done

failed=()
check() { # NAME COMMAND...: runs one check, remembers that it failed
  local name=$1
  shift
  if "$@"; then echo "lint: $name: ok"; else echo "lint: $name: FAILED"; failed+=("$name"); fi
}

check_format() {
  (( ${#cpp[@]} )) || return 0
  if (( fix )); then clang-format-14 -i "${cpp[@]}"; fi
  local file bad=0
  while read -r file; do
    echo "$file: not formatted (tools/lint.sh --fix $file)"
    bad=1
  done < <(printf '%s\0' "${cpp[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c \
    'clang-format-14 --dry-run -Werror "$0" 2>/dev/null || echo "$0"' | sort)
  return "$bad"
}

check_python() {
  (( ${#python[@]} )) || return 0
  local options=(--quiet --line-length 100 --skip-magic-trailing-comma)
  if (( fix )); then black "${options[@]}" "${python[@]}"; fi
  local file bad=0
  for file in "${python[@]}"; do
    if ! black "${options[@]}" --check "$file"; then
      echo "$file: not formatted (tools/lint.sh --fix $file)"
      bad=1
    fi
  done
  return "$bad"
}

# Prints what grep finds and fails when it finds something. The patterns are written so that they
# miss themselves.
none_of() { # WHY PATTERN FILE...
  local why=$1 pattern=$2
  shift 2
  (( $# )) || return 0
  if grep -nEI -e "$pattern" -- "$@"; then echo "  ^ $why"; return 1; fi
}

check_rules() {
  local bad=0 file
  local folders='(^|[^A-Za-z0-9_.}])/(hom[e]|roo[t]|wor[k]|far[m])(/|\b)'
  none_of "a path of one machine" "$folders" "${text[@]}" || bad=1
  none_of "a registry's host" 'pypi\.[o]rg|pythonhosted\.[o]rg|deb\.[d]ebian' "${text[@]}" || bad=1
  none_of "space at the end of a line, or a tab" $'[ \t]$|^\t' "${code[@]}" || bad=1
  none_of "over 100 columns" '^.{101,}$' "${wide[@]}" || bad=1
  for file in "${code[@]}"; do
    if (( $(wc -l <"$file") > 800 )); then echo "$file: over 800 lines: split it"; bad=1; fi
    if [[ ! $(head -c 2 "$file") =~ ^(//|\#.|\"\") ]]; then
      echo "$file:1: the first line says what the file is"
      bad=1
    fi
    if [[ -n $(tail -c 1 "$file") ]]; then echo "$file: no newline at the end"; bad=1; fi
  done
  return "$bad"
}

check_spelling() {
  (( ${#text[@]} )) || return 0
  codespell --quiet-level 3 "${text[@]}"
}

check_tidy() {
  local database=build/release/compile_commands.json units=()
  [[ -f $database ]] || { echo "no $database: run scripts/build.sh first"; return 1; }
  if (( chosen )); then
    mapfile -t units < <(matching '^src/.*\.cpp$')
  else
    mapfile -t units < <(matching '^src/(base|graph|passes|runtime|infer|cli)/.*\.cpp$')
  fi
  (( ${#units[@]} )) || return 0
  printf '%s\0' "${units[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p build/release \
      --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-error \
      2> >(grep -v ' warnings generated' >&2)
}

export LC_ALL=C.UTF-8
for tool in clang-format-14 codespell black; do
  command -v "$tool" >/dev/null || { echo "lint: no $tool: run scripts/setup.sh lint" >&2; exit 1; }
done
check format check_format
check python check_python
check layers python3 tools/check_layers.py
check "house rules" check_rules
check spelling check_spelling
if (( tidy )); then check clang-tidy check_tidy; fi
if (( ${#failed[@]} )); then echo "lint: failed: ${failed[*]}"; exit 1; fi
