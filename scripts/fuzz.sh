#!/bin/sh
# fuzz.sh — build the fuzz targets with clang and run each for some seconds, from the seeds in tests/fuzz/seeds/.
#
#   sh scripts/fuzz.sh [SECONDS] [TARGET ...]
#
# What a run learns is kept in build/fuzz/corpus; an input that breaks a target is left in build/fuzz/findings.
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-60}
[ $# -gt 0 ] && shift
sh scripts/build.sh fuzz --jobs "$(nproc)" zamba_fuzz || exit 1

targets=$*
[ -n "$targets" ] || targets=$(cd build/fuzz/fuzz && for f in fuzz_*; do [ -x "$f" ] && echo "$f"; done)
if [ -z "$targets" ]; then
    echo "fuzz: no targets" >&2
    exit 1
fi
mkdir -p build/fuzz/findings
failed=0
for target in $targets; do
    corpus=build/fuzz/corpus/$target
    mkdir -p "$corpus"
    seeds=
    for folder in "tests/fuzz/seeds/$target" "tests/fuzz/seeds/${target#fuzz_}"; do
        [ -d "$folder" ] && seeds="$seeds $folder"
    done
    log=build/fuzz/$target.log
    # shellcheck disable=SC2086
    if build/fuzz/fuzz/"$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 \
        -artifact_prefix=build/fuzz/findings/"$target"- "$corpus" $seeds >"$log" 2>&1; then
        echo "$target: $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log" | tail -n 1) runs in $seconds s, nothing found"
    else
        failed=$((failed + 1))
        echo "$target: FAILED; the end of $log:"
        tail -n 40 "$log"
    fi
done
[ "$failed" = 0 ]
