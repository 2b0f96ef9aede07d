#!/usr/bin/env bash
# build.sh [PRESET [TARGET...]]: builds into build/PRESET; by default the release, and of it the
# program `trireme` alone.
#
# Presets are those of CMakePresets.json. `build.sh dev all` builds the tests too. More options for
# CMake, used at the first configuration only, come from $TRIREME_CMAKE_ARGS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-release}
shift || true
targets=("${@:-trireme}")
deps=${TRIREME_DEPS:-${HOME:?}/.cache/trireme/deps}
build=build/$preset

words=()
[[ $preset != cuda ]] || words=(cuda)
scripts/setup.sh "${words[@]}"

cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt" 2>/dev/null; }
if [[ ! -f $build/build.ninja || CMakePresets.json -nt $build/build.ninja ||
      $(cached TRIREME_DEPS) != "$deps" ]]; then
  read -r -a extra <<<"${TRIREME_CMAKE_ARGS-}"
  cmake --preset "$preset" -DTRIREME_DEPS="$deps" "${extra[@]}"
fi

# Objects of another clone count (not for debugging: they name that clone's folder).
[[ $preset == dev ]] || export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

# A job of the compiler takes up to a GiB: fewer jobs where memory is short.
jobs=$(nproc)
free_gib=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
(( jobs <= free_gib )) || jobs=$(( free_gib > 1 ? free_gib : 1 ))
cmake --build "$build" --parallel "${TRIREME_JOBS:-$jobs}" --target "${targets[@]}"

# Beside the program, so that the folder can be copied away as it is: the program's run path starts
# with $ORIGIN.
if [[ -f $build/trireme ]]; then
  cp -Lpu "$deps/onednn-3.2/lib/libdnnl.so.3" "$build/libdnnl.so.3"
fi
