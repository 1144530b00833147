#!/bin/sh
# python.sh — the Python package as its users get it: a clean environment in build/python-clean, `pip install
# ./bindings/python` with all that it offers, its tests on what was installed, its types through mypy.
#
#   sh scripts/python.sh
#
# ZAMBA_PROGRAM: the program that results are held against, else build/release/zamba. A skipped test counts as failed.
set -u
cd "$(dirname "$0")/.." || exit 1
there=build/python-clean

fail() {
    echo "python: $*" >&2
    exit 1
}

for python in /usr/bin/python3 python3; do
    $python -c 'import venv, ensurepip' 2>/dev/null && break
    python=
done
[ -n "$python" ] || fail "no python3 with venv (sh scripts/setup.sh ci)"
rm -rf $there
mkdir -p $there && $python -m venv $there/venv || fail "$python -m venv failed"
$there/venv/bin/python -m pip install --no-input --disable-pip-version-check --retries 5 --timeout 120 \
    './bindings/python[test,ray]' mypy >$there/pip.log 2>&1 || {
    grep -v 'is ignored: it is neither' $there/pip.log | tail -n 30 >&2
    fail "pip could not install the package (no network?)"
}

# From another folder, without the sources in the path: what was installed is what is tested.
root=$PWD
export ZAMBA_TEST_INSTALLED=1 ZAMBA_PROGRAM="${ZAMBA_PROGRAM:-$root/build/release/zamba}"
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset ZAMBA_LIBRARY PYTHONPATH
cd $there || exit 1
venv/bin/python -m pytest -c "$root/bindings/python/pyproject.toml" -rs "$root/bindings/python/tests" >pytest.log 2>&1
code=$?
cat pytest.log
[ $code -eq 0 ] || fail "its tests failed"
! grep -q '^SKIPPED' pytest.log || fail "a test was skipped"
(cd "$root/bindings/python" && "$root/$there/venv/bin/python" -m mypy --cache-dir "$root/$there/mypy" src/zamba) ||
    fail "its types are wrong"
(cd "$root" && "$there/venv/bin/python" examples/quickstart.py) || fail "its example failed"
rm -rf venv mypy
tail -n 1 pytest.log | sed 's/^/python package, installed: /'
