#!/bin/sh
# arm64.sh — build the library and tests for 64-bit ARM and run what depends on kernels under qemu: the kernel tests as
# a CPU with every extension and as one with none, the goldens as the first.
#
#   sh scripts/arm64.sh [--jobs N]
#
# Needs Debian's cross compiler and qemu-user (sh scripts/setup.sh ci). The ARM libraries are fetched with apt into
# build/arm64 and unpacked there; the system's own packages and settings are not touched.
set -eu
cd "$(dirname "$0")/.."

jobs=2
[ "${1:-}" = --jobs ] && jobs=$2
build=$PWD/build/arm64
root=$build/root
libraries="libjansson4 libjansson-dev libzstd1 libzstd-dev libcmocka0 libcmocka-dev libedit-dev"

fetch() {
    state=$build/apt
    rm -rf "$state" "$root"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs"
    : >"$state/status"
    options="-q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root
        -o Dir::State::Lists=$state/lists -o Dir::State::status=$state/status -o Dir::Cache=$state/cache"
    # shellcheck disable=SC2086
    apt-get $options update
    # shellcheck disable=SC2086
    (cd "$state/debs" && apt-get $options download $libraries)
    for package in "$state"/debs/*.deb; do
        dpkg-deb -x "$package" "$root.new"
    done
    mv "$root.new" "$root"
    rm -rf "$state"
}

[ -d "$root" ] || fetch
PKG_CONFIG_LIBDIR=$root/usr/lib/aarch64-linux-gnu/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$root
QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR QEMU_LD_PREFIX

tests="test_pool $(find tests/kernels tests/golden -name 'test_*.c' -exec basename {} .c \;)"
cmake -S . -B "$build" -DCMAKE_TOOLCHAIN_FILE="$PWD/scripts/arm64.cmake" -DCMAKE_BUILD_TYPE=Release -DZAMBA_WERROR=ON \
    -DZAMBA_TESTS=ON -DZAMBA_BENCH=OFF
# shellcheck disable=SC2086
cmake --build "$build" --parallel "$jobs" --target $tests -- --no-print-directory -s

# The goldens are one long test: beside it, the others one after the other.
run() {
    cpu=$1
    shift
    QEMU_CPU=$cpu ctest --test-dir "$build" --output-on-failure "$@"
}
failed=
run max -L golden >"$build/goldens.log" 2>&1 &
goldens=$!
run max -R '^test_pool$' || failed="$failed pool"
run max -L kernels || failed="$failed kernels"
run cortex-a53 -L kernels || failed="$failed kernels(cortex-a53)"
wait $goldens || failed="$failed goldens"
case $failed in *goldens*) cat "$build/goldens.log" ;; esac
[ -z "$failed" ] || {
    echo "arm64: failed:$failed"
    exit 1
}
echo "arm64: kernel tests as max and cortex-a53, goldens as max"
