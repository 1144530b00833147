#!/usr/bin/env python3
"""test_python_package.py — runs the suite of the Python package, bindings/python/tests, on the library that was built."""
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("ZAMBA_BUILD") or ROOT / "build" / "release")
SKIPPED = 77


def main():
    missing = [name for name in ("pytest", "cffi", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: {sys.executable} has no {', '.join(missing)} (sh scripts/setup.sh test)")
        return SKIPPED
    if os.environ.get("ZAMBA_SANITIZE"):
        print("skipped: an interpreter without sanitizers cannot load a library with them")
        return SKIPPED
    env = {**os.environ, "ZAMBA_LIBRARY": str(BUILD / "libzamba.so"), "LC_ALL": "C.UTF-8"}
    return subprocess.run([sys.executable, "-m", "pytest", "-c", str(ROOT / "bindings/python/pyproject.toml"),
                           str(ROOT / "bindings/python/tests"), *sys.argv[1:]], env=env, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
