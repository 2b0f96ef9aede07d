#!/usr/bin/env bash
# bundle.sh BUILD_FOLDER NAME: packs BUILD_FOLDER/NAME.tar.xz: the program, its private libraries,
# headers, licences; and runs it from there with nothing but glibc and libstdc++ around it.
#
# `cmake --build BUILD_FOLDER --target bundle` calls it. It runs on any Linux on x86-64 with glibc
# 2.36 or newer; NVIDIA's driver and libraries are found on the machine (`trireme doctor` tells).
# Programs of tests come along with -DTRIREME_BUNDLE="test_gpu;test_ops".
set -euo pipefail
build=$(realpath "$1") name=$2
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
work=$(mktemp -d "$build/.bundle-XXXXXX")
trap 'rm -rf "$work"' EXIT
top=$work/$name
mkdir -p "$top"/{bin,lib,include,licences}
die() { echo "bundle: $*" >&2; exit 1; }

# Installing rewrites the run path to $ORIGIN/../lib.
DESTDIR='' cmake --install "$build" --component bundle --prefix "$top" --strip >/dev/null
cp -r "$source/include/trireme" "$top/include/"
cp "$source/LICENSE" "$top/licences/trireme"
if [[ $name == *-cuda* ]]; then # the runtime that is linked in
  nvcc=$(realpath "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")
  toolkit=$(dirname "$(dirname "$nvcc")")
  for licence in "$toolkit"/EULA.txt "$toolkit"/LICENSE; do
    [[ ! -f $licence ]] || cp "$licence" "$top/licences/cuda-runtime"
  done
fi

# What a base system of Debian 12 or Ubuntu 24.04 has stays out.
base='^(linux-vdso|ld-linux|libc|libm|libdl|libpthread|librt|libresolv|libutil)(\.|-)'
base+='|^(libstdc\+\+|libgcc_s)\.'
licence_of() { # FILE: the package's copyright file, or the one beside the unpacked wheel
  local package owner
  owner=$(dpkg-query -S "$1" 2>/dev/null || dpkg-query -S "$(realpath "$1")" 2>/dev/null || true)
  package=${owner%%:*}
  if [[ -n $package && -f /usr/share/doc/$package/copyright ]]; then
    cp -L "/usr/share/doc/$package/copyright" "$top/licences/$package"
  elif [[ -f $(dirname "$1")/../share/doc/onednn/LICENSE ]]; then
    cp "$(dirname "$1")"/../share/doc/onednn/{LICENSE,THIRD-PARTY-PROGRAMS} "$work/"
    cat "$work/LICENSE" "$work/THIRD-PARTY-PROGRAMS" >"$top/licences/onednn"
  else
    die "no licence found for $1"
  fi
}
while read -r soname _ file _; do
  [[ $soname =~ $base ]] && continue
  [[ $file == /* ]] || die "$soname is not found"
  cp -L "$file" "$top/lib/$soname"
  licence_of "$file"
done < <(ldd "$build/trireme" | grep '=>' |
  sed "s#$build/libdnnl#${TRIREME_DEPS:?}/onednn-3.2/lib/libdnnl#")
strip --strip-unneeded "$top"/lib/*

# Alone: a root folder with glibc, libstdc++ and the bundle.
root=$work/root
mkdir -p "$root"/lib64 "$root"/usr/lib
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
for soname in lib{c,m}.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libstdc++.so.6 libgcc_s.so.1; do
  cp -L "$(ldconfig -p | awk -v n="$soname" '$1 == n { print $NF; exit }')" "$root/usr/lib/"
done
cp -r "$top/bin" "$top/lib" "$root/"
for program in "$top"/bin/*; do
  outside=$(env -u LD_LIBRARY_PATH ldd "$program" | sed 's/^[[:space:]]*//' | grep '=>' |
    grep -vE "$base" | awk -v top="$top/" 'index($3, top) != 1 { print $1, $3 }')
  [[ -z $outside ]] || die "${program##*/} takes libraries from outside: $outside"
done
if [[ $(id -u) == 0 ]]; then
  chroot=$(command -v chroot || echo /usr/sbin/chroot)
  env -i LD_LIBRARY_PATH=/usr/lib "$chroot" "$root" /bin/trireme --version >/dev/null ||
    die "the program does not start by itself"
else
  echo "bundle: not root: the start in an empty root folder was left out" >&2
fi

tar -C "$work" --owner=0 --group=0 --sort=name -cf - "$name" | xz -T0 -6 >"$work/out"
mv "$work/out" "$build/$name.tar.xz"
du -h "$build/$name.tar.xz" | sed 's/^/bundle: /'
