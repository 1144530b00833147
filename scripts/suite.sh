#!/bin/sh
# suite.sh — build a preset with its tests, run them, and close with one line "N passed, N failed[, N skipped]".
#
#   sh scripts/suite.sh PRESET [--jobs N] [-DNAME=VALUE ...] [ctest options ...]
set -u
cd "$(dirname "$0")/.." || exit 1

preset=$1
shift
jobs=2
defines=
while [ $# -gt 0 ]; do
    case $1 in
    --jobs)
        jobs=$2
        shift
        ;;
    -D*) defines="$defines $1" ;;
    *) break ;;
    esac
    shift
done

# shellcheck disable=SC2086
if ! sh scripts/build.sh "$preset" --jobs "$jobs" --tests $defines; then
    echo "the build failed, so no test ran" >&2
    echo "0 passed, 1 failed"
    exit 1
fi

# Sanitizer findings are failures; a suite that hangs is one too.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:allocator_may_return_null=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1}"
report=$PWD/build/$preset/junit.xml
rm -f "$report"
ctest --test-dir "build/$preset" --output-on-failure --no-label-summary \
    --output-junit "$report" --timeout 600 -j "$jobs" "$@"
code=$?
if [ "$(id -u)" = 0 ]; then
    chown -R --reference=. build 2>/dev/null || :
fi

# The counts stand in the head of ctest's report: <testsuite ... tests="5" failures="0" disabled="0" skipped="1" ...
count() {
    head=$(sed -n '/<testsuite/,/>/p' "$report" 2>/dev/null | tr '\n\t' '  ' | sed 's/>.*//')
    number=$(printf '%s' "$head" | sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p")
    echo "${number:-0}"
}
tests=$(count tests)
failed=$(count failures)
skipped=$(($(count skipped) + $(count disabled)))
passed=$((tests - failed - skipped))
if [ "$code" != 0 ] && [ "$failed" = 0 ] || [ "$tests" = 0 ]; then
    echo "ctest ended with code $code and counted $tests tests, $failed failed: taken as a failure" >&2
    failed=$((failed + 1))
    code=1
fi
if [ "$skipped" = 0 ]; then
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed, $skipped skipped"
fi
exit "$code"
