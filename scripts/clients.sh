#!/bin/sh
# clients.sh — other people's programs against our server: installs the clients (Python's and npm's registries, versions
# as tests/server/clients says) into build/clients, which is kept, then runs the tests that need them.
#
#   sh scripts/clients.sh [--install]      --install: no tests
#
# ZAMBA_PROGRAM: the program to test, else build/release/zamba. A test that is skipped counts as failed here.
set -u
cd "$(dirname "$0")/.." || exit 1
wanted=tests/server/clients
there=build/clients

fail() {
    echo "clients: $*" >&2
    exit 1
}

install() {
    for python in /usr/bin/python3 python3; do
        $python -c 'import venv, ensurepip' 2>/dev/null && break
        python=
    done
    [ -n "$python" ] || fail "no python3 with venv (sh scripts/setup.sh ci)"
    rm -rf $there
    mkdir -p $there || fail "cannot make $there"
    $python -m venv $there/venv || fail "$python -m venv failed"
    $there/venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --retries 5 --timeout 120 \
        -r $wanted/requirements.txt -c $wanted/constraints.txt >$there/pip.log 2>&1 || {
        grep -v 'is ignored: it is neither' $there/pip.log | tail -n 20 >&2
        fail "pip could not install $wanted/requirements.txt (no network, or a version that is gone?)"
    }
    cp $wanted/package.json $wanted/package-lock.json $there/ || exit 1
    (cd $there && PATH=$PWD/venv/bin:$PATH npm ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1) || {
        tail -n 20 $there/npm.log >&2
        fail "npm could not install $wanted/package-lock.json (no network?)"
    }
    versions >$there/made
    if [ "$(id -u)" = 0 ]; then
        chown -R --reference=. build 2>/dev/null || :
    fi
}

# What was asked for, and where: a folder that was moved has the old paths in its programs.
versions() {
    pwd
    cat $wanted/requirements.txt $wanted/constraints.txt $wanted/package-lock.json | cksum
}

[ "$(cat $there/made 2>/dev/null)" = "$(versions)" ] || install
[ "${1:-}" = --install ] && exit 0

export PYTHONDONTWRITEBYTECODE=1
bad=
for test in test_api_clients test_openapi test_haproxy; do
    echo "-- $test"
    $there/venv/bin/python tests/server/$test.py || bad="$bad $test($?)"
done
[ -z "$bad" ] || fail "failed or skipped:$bad"
echo "official clients, schemathesis and HAProxy: all well"
