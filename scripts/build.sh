#!/bin/sh
# build.sh — configure a preset (if needed) and build it.
#
#   sh scripts/build.sh PRESET [--jobs N] [--tests] [-DNAME=VALUE ...] [TARGET ...]
#
# Without targets everything is built; --tests insists on the tests (else they are there only if cmocka is). Quiet when
# all goes well on a second run. Does not ask git anything, so the owner of the clone does not matter.
set -eu
cd "$(dirname "$0")/.."

preset=$1
shift
jobs=2
options=
targets=
while [ $# -gt 0 ]; do
    case $1 in
    --jobs)
        jobs=$2
        shift
        ;;
    --tests) options="$options -DZAMBA_TESTS=ON" ;;
    -D*) options="$options $1" ;;
    *) targets="$targets $1" ;;
    esac
    shift
done

mkdir -p build 2>/dev/null || :
for folder in build "build/$preset"; do
    if [ -e $folder ] && [ ! -w $folder ] || [ ! -e build ]; then
        echo "build: cannot write to $PWD/$folder; it belongs to $(stat -c %U $folder 2>/dev/null || stat -c %U .)" \
            "(made by root?). Cure: sudo chown -R $(id -un) build" >&2
        exit 1
    fi
done

# What root builds in a clone of somebody else stays that somebody's, so that they can go on without root.
give_back() {
    if [ "$(id -u)" = 0 ]; then
        chown -R --reference=. build 2>/dev/null || :
    fi
}
trap give_back EXIT

# A folder that was configured elsewhere (the clone was moved or copied) is begun anew.
cache=build/$preset/CMakeCache.txt
if [ -f "$cache" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$cache"; then
    rm -rf "build/$preset"
fi

log=$(mktemp)
# shellcheck disable=SC2086
if ! cmake --preset "$preset" $options >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
# shellcheck disable=SC2086
cmake --build "build/$preset" --parallel "$jobs" ${targets:+--target $targets} -- --no-print-directory -s
