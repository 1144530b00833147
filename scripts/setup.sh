#!/bin/sh
# setup.sh — see that what the build needs is installed, and install what is missing (Debian and its relatives).
#
#   sh scripts/setup.sh [build|test|ci] [--quiet]
#
# build (the default): compiler, CMake, some libraries. test: also what the tests run. ci: also the second compiler and
# the checkers, the cross compiler, qemu, HAProxy, a browser. (What comes from other registries: scripts/clients.sh.)
# Looks into the package database, not at the network: once all is there, it works offline, in an instant.
# Elsewhere than on Debian it names the packages and goes on if the tools are there.
set -eu

# libssl-dev: libcurl uses OpenSSL anyway, and its libcrypto sums what comes from the hub (with the CPU's instructions).
build_packages="make cmake gcc libc6-dev pkg-config libjansson-dev libzstd-dev libedit-dev libmicrohttpd-dev
    libcurl4-openssl-dev libssl-dev libsqlite3-dev gzip"
test_packages="libcmocka-dev python3 python3-numpy python3-jinja2 python3-pytest python3-cffi"
ci_packages="clang libclang-rt-14-dev clang-format valgrind libc6-dbg mandoc
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
    libopenmpi-dev openmpi-bin iproute2 haproxy python3-venv chromium"
# The page is built with Node 20; Debian 12 has 18, and its npm would throw out a newer one that brings its own.
command -v npm >/dev/null 2>&1 || ci_packages="$ci_packages nodejs npm"

level=build
quiet=no
for argument in "$@"; do
    case $argument in
    build | test | ci) level=$argument ;;
    --quiet) quiet=yes ;;
    *)
        echo "setup: unknown argument '$argument' (usage: sh scripts/setup.sh [build|test|ci] [--quiet])" >&2
        exit 2
        ;;
    esac
done

packages=$build_packages
case $level in
test) packages="$packages $test_packages" ;;
ci) packages="$packages $test_packages $ci_packages" ;;
esac

say() {
    echo "setup: $*" >&2
}

# What the packages are for, asked of the system itself: prints each thing that is not there.
missing_tools() {
    for tool in cc make cmake pkg-config; do
        command -v $tool >/dev/null 2>&1 || echo $tool
    done
    libraries="jansson libzstd libedit libmicrohttpd libcurl libcrypto sqlite3"
    if [ $level != build ]; then
        libraries="$libraries cmocka"
        for python in python3 /usr/bin/python3; do
            $python -c 'import numpy, jinja2' >/dev/null 2>&1 && break
        done || echo "python3 with numpy and jinja2"
    fi
    for library in $libraries; do
        pkg-config --exists $library >/dev/null 2>&1 || echo "$library (headers and .pc file)"
    done
    if [ $level = ci ]; then
        for tool in clang clang-format valgrind mandoc aarch64-linux-gnu-gcc qemu-aarch64 qemu-x86_64; do
            command -v $tool >/dev/null 2>&1 || echo $tool
        done
    fi
}

# Nothing can be installed here: good enough if the tools came some other way.
go_on_if_tools_are_there() {
    tools=$(missing_tools)
    if [ -z "$tools" ]; then
        [ $quiet = yes ] || say "$1; every tool that is needed is there all the same"
        exit 0
    fi
    say "$1"
    say "not found: $(echo "$tools" | paste -s -d, - | sed 's/,/, /g')"
    say "please install what your system calls these Debian packages: $2"
    exit 1
}

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    go_on_if_tools_are_there "this is no Debian, so nothing is installed for you" "$packages"
fi

missing=
for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -z "$missing" ]; then
    [ $quiet = yes ] || say "all packages are installed"
    exit 0
fi
missing=${missing# }

as_root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        go_on_if_tools_are_there "packages are missing, and installing them needs root or sudo" "$missing"
    fi
fi

say "installing: $missing"
apt() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# An update that fails half-way (one dead source) may still leave what is needed, so the installation decides.
apt update >"$log" 2>&1 || say "apt-get update had trouble; trying with the lists that are there"
# shellcheck disable=SC2086
if ! apt install -y --no-install-recommends $missing >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    go_on_if_tools_are_there "apt-get could not install the packages (no network?)" "$missing"
fi
say "installed"
