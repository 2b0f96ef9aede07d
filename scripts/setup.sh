#!/usr/bin/env bash
# setup.sh [lint] [fuzz] [demo] [cuda]: installs what the build needs on Debian 12, with root or
# sudo.
#
# Packages come from apt; oneDNN 3.2 goes to ${TRIREME_DEPS:-~/.cache/trireme/deps}/onednn-3.2. The
# extra words add the packages of the linters, of the fuzzers, the demo's font, and the headers of
# cuDNN's graph API (`cuda`, which also says what is missing of the CUDA 13 toolkit; that comes from
# NVIDIA). A second run changes nothing and takes a fraction of a second.
set -euo pipefail

packages=(build-essential g++ cmake ninja-build ccache pkg-config python3 python3-venv python3-pip
  ca-certificates libopencv-core-dev libopencv-imgproc-dev libjpeg62-turbo-dev libpng-dev
  libwebp-dev libpolyclipping-dev libfreetype-dev libtinyxml2-dev libprotobuf-dev protobuf-compiler
  nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libssl-dev libgtest-dev libbenchmark-dev
  fonts-dejavu-core)
cuda=''
for extra in "$@"; do
  case $extra in
    lint) packages+=(clang-format-14 clang-tidy-14 codespell black git) ;;
    fuzz) packages+=(clang-14 libclang-rt-14-dev libomp-14-dev) ;;
    demo) packages+=(fonts-wqy-microhei) ;;
    cuda) cuda=1 ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
  esac
done

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

installed() { # prints the packages of "$@" that are installed
  dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii *//p' || true
}

install_packages() {
  local -A have=()
  local name missing=() root=()
  while read -r name; do have[$name]=1; done < <(installed "${packages[@]}")
  for name in "${packages[@]}"; do [[ -n ${have[$name]-} ]] || missing+=("$name"); done
  (( ${#missing[@]} )) || return 0
  command -v apt-get >/dev/null || die "no apt-get here; install by hand: ${missing[*]}"
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || die "needs root or sudo to install: ${missing[*]}"
    root=(sudo)
  fi
  say "installing ${#missing[@]} packages: ${missing[*]}"
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0
    -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update </dev/null
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

find_python() { # a python3 that has pip: the first on PATH may be a user's own without it
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then echo "$python"; return; fi
  done
  die "python3 has no pip"
}

# oneDNN 3.2 is newer than Debian's. The wheels carry the library three times (a wheel has no
# links): one copy is kept.
onednn_requirements='onednn-cpu-gomp==2023.2.0 \
  --hash=sha256:2f22a54d6a890ed14bfa185d42a4be65d8b5b1df85dc1f0f3a9abe31620416fb
onednn-devel-cpu-gomp==2023.2.0 \
  --hash=sha256:9763c69e8c907e119056bd52ad918ca84ac9ba939d130a99dfa95ccca3e5e284'

install_onednn() {
  local deps=${TRIREME_DEPS:-${HOME:?}/.cache/trireme/deps}
  local target=$deps/onednn-3.2 python wheel tree work
  [[ -f $target/.stamp && $(<"$target/.stamp") == "$onednn_requirements" ]] && return 0
  [[ $(uname -m) == x86_64 ]] || die "these wheels are x86-64's; put oneDNN 3.2 into $target"
  say "fetching oneDNN 3.2"
  mkdir -p "$deps"
  work=$(mktemp -d "$deps/.onednn-XXXXXX")
  # shellcheck disable=SC2064  # the folder of now is meant
  trap "rm -rf '$work'" EXIT
  python=$(find_python)
  printf '%s\n' "$onednn_requirements" >"$work/requirements.txt"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
    --only-binary=:all: --require-hashes -r "$work/requirements.txt" -d "$work/wheels" </dev/null ||
    die "cannot fetch oneDNN (see above)"
  mkdir "$work/tree"
  for wheel in "$work"/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$work/unpacked"
  done
  for tree in "$work"/unpacked/*.data/data; do
    cp -a "$tree/." "$work/tree/"
  done
  rm "$work/tree/lib/libdnnl.so" "$work/tree/lib/libdnnl.so.3"
  ln -s libdnnl.so.3.2 "$work/tree/lib/libdnnl.so.3"
  ln -s libdnnl.so.3 "$work/tree/lib/libdnnl.so"
  printf '%s\n' "$onednn_requirements" >"$work/tree/.stamp"
  [[ ! -e $target ]] || mv "$target" "$work/old"
  mv "$work/tree" "$target"
  say "oneDNN 3.2 is in $target"
}

# Headers alone, the same for every Python.
fetch_headers() ( # TARGET STAMP REQUIREMENT [PIP OPTION...]: a wheel's include folders into TARGET
  local target=$1 stamp=$2 requirement=$3 python work include
  shift 3
  [[ -f $target/.stamp && $(<"$target/.stamp") == "$stamp" ]] && return 0
  say "fetching ${requirement%% *}"
  mkdir -p "$(dirname "$target")"
  work=$(mktemp -d "$(dirname "$target")/.headers-XXXXXX")
  trap 'rm -rf "$work"' EXIT # a subshell's own: the folder goes whatever fails below
  python=$(find_python)
  printf '%s\n' "$requirement" >"$work/requirements.txt"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
    --only-binary=:all: "$@" -r "$work/requirements.txt" -d "$work/wheels" </dev/null ||
    die "cannot fetch ${requirement%% *} (see above)"
  "$python" -m zipfile -e "$work"/wheels/*.whl "$work/unpacked"
  mkdir "$work/tree"
  while read -r include; do
    cp -a "$include" "$work/tree/"
  done < <(find "$work/unpacked" -type d -name include -prune)
  printf '%s\n' "$stamp" >"$work/tree/.stamp"
  rm -rf "$target"
  mv "$work/tree" "$target"
)

frontend_requirement='nvidia-cudnn-frontend==1.32.0 \
  --hash=sha256:c6006556017a4d1c914c52a556c71b1267f2d6a0500f742e7b4edef539878df0'
cudnn_requirement='nvidia-cudnn-cu13'

install_cuda() {
  local deps=${TRIREME_DEPS:-${HOME:?}/.cache/trireme/deps} root folder
  command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]] ||
    die "the CUDA build needs the CUDA 13 toolkit: nvcc is not on PATH nor in /usr/local/cuda/bin"
  fetch_headers "$deps/cudnn-frontend" "$frontend_requirement" "$frontend_requirement" \
    --require-hashes --python-version 3.11 --implementation cp --abi cp311 \
    --platform manylinux_2_27_x86_64
  root=$(dirname "$(dirname "$(realpath "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
  for folder in "$root/include" /usr/include /usr/local/include; do
    [[ ! -f $folder/cudnn.h ]] || return 0
  done
  fetch_headers "$deps/cudnn" "$cudnn_requirement" "$cudnn_requirement"
}

install_packages
install_onednn
[[ -z $cuda ]] || install_cuda
