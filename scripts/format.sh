#!/bin/sh
# format.sh — clang-format over every C file of the tree; --check only says which files it would change.
# Version 14 is the one whose answer counts: others lay some lines differently.
set -eu
cd "$(dirname "$0")/.."
tool=clang-format
command -v clang-format-14 >/dev/null 2>&1 && tool=clang-format-14
case $($tool --version) in
*"version 14."*) ;;
*) echo "format: $($tool --version | head -n 1), while the format is version 14's; expect small differences" >&2 ;;
esac
mode=-i
[ "${1:-}" = --check ] && mode="--dry-run -Werror"
# shellcheck disable=SC2086
find src include tests bench examples \( -name '*.c' -o -name '*.h' \) -not -path '*/fixtures/*' -print0 |
    sort -z | xargs -0 -r $tool $mode
