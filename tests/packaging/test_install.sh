#!/bin/sh
# test_install.sh — what `make install` writes is enough: a program made from examples/ against the installed files, by
# pkg-config (shared and static) and by CMake's find_package, and the installed program itself, run from elsewhere. Then
# `make uninstall` leaves nothing.
set -eu

[ -z "${ZAMBA_SANITIZE:-}" ] || exit 77 # a program of a user is not linked with sanitizers
project=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=/usr/local
root=$work/root$prefix

fail() {
    echo "test_install: $*" >&2
    exit 1
}

# A copy of the list of installed files is for `make uninstall`; this test must not overwrite it.
manifest=$ZAMBA_BUILD/install_manifest.txt
[ ! -f "$manifest" ] || cp "$manifest" "$work/manifest.kept"
DESTDIR=$work/root cmake --install "$ZAMBA_BUILD" --prefix $prefix >"$work/install.log" ||
    fail "$(cat "$work/install.log")"
mv "$manifest" "$work/manifest"
[ ! -f "$work/manifest.kept" ] || mv "$work/manifest.kept" "$manifest"

for file in bin/zamba include/zamba.h share/man/man1/zamba.1 share/zamba/models/zamba2-tales/config.json \
    share/zamba/models/zamba2-tales/model.safetensors share/bash-completion/completions/zamba; do
    [ -s "$root/$file" ] || fail "$file was not installed"
done
pc=$(find "$root" -name zamba.pc)
[ -n "$pc" ] || fail "zamba.pc was not installed"
libraries=$(dirname "$(dirname "$pc")")
for file in libzamba.so libzamba.a cmake/zamba/zambaConfig.cmake; do
    [ -e "$libraries/$file" ] || fail "$file was not installed"
done
! grep -rlF "$project" "$libraries/pkgconfig" "$libraries/cmake" || fail "the package files name the build's folder"

# pkg-config, shared and static.
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
cd "$work"
model=$root/share/zamba/models/zamba2-tales
for name in generate chat batch; do
    # shellcheck disable=SC2046
    "${CC:-cc}" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror "$project/examples/$name.c" -o "$name" \
        $(pkg-config --cflags --libs zamba) || fail "examples/$name.c does not build with pkg-config"
    LD_LIBRARY_PATH=$libraries "./$name" "$model" >"$name.out" 2>"$name.err" || fail "$name: $(cat "$name.err")"
    [ -s "$name.out" ] || fail "$name wrote nothing"
done
# shellcheck disable=SC2046
"${CC:-cc}" "$project/examples/generate.c" -o generate-static $(pkg-config --cflags zamba) "$libraries/libzamba.a" \
    $(pkg-config --static --libs-only-l zamba | sed 's/-lzamba//') || fail "libzamba.a does not link"
./generate-static "$model" >static.out 2>&1 || fail "generate-static: $(cat static.out)"

# CMake.
mkdir user
cat >user/CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.18)
project(user LANGUAGES C)
find_package(zamba 0.1 REQUIRED)
add_executable(user $project/examples/generate.c)
target_link_libraries(user zamba::zamba)
END
{
    cmake -S user -B user/build -DCMAKE_PREFIX_PATH="$root" -DCMAKE_C_COMPILER="${CC:-cc}" && cmake --build user/build
} >cmake.log 2>&1 || fail "find_package(zamba): $(cat cmake.log)"
user/build/user "$model" >user.out 2>&1 || fail "user: $(cat user.out)"

# The installed program finds its model by itself, whatever folder it is run in, and by a link to it.
"$root/bin/zamba" run --temp 0 -n 4 >run.out 2>run.err || fail "installed zamba run: $(cat run.err)"
[ -s run.out ] || fail "installed zamba run wrote nothing"
ln -s "$root/bin/zamba" link
./link run --temp 0 -n 4 >link.out 2>&1 || fail "through a link: $(cat link.out)"
if command -v strings >/dev/null 2>&1; then
    ! strings "$root/bin/zamba" | grep -F "$project/models" || fail "the program names the build's folder"
fi

# Nothing is left behind.
sh "$project/scripts/uninstall.sh" "$work/manifest" "$work/root" >uninstall.log ||
    fail "uninstall: $(cat uninstall.log)"
left=$(find "$work/root" -type f -o -type l)
[ -z "$left" ] || fail "uninstall left: $left"
left=$(find "$work/root" -type d -name '*zamba*')
[ -z "$left" ] || fail "uninstall left the folders: $left"
echo "installed, used in four ways, uninstalled"
