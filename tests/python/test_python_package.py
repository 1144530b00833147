#!/usr/bin/env python3
"""test_python_package.py — runs the suite of the Python package, bindings/python/tests, on the library that was built."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("ZAMBA_BUILD") or ROOT / "build" / "release")
NEEDED = ("pytest", "cffi", "numpy")
SKIPPED = 77


def has(python, *names):
    """Whether that interpreter is there and can import them."""
    try:
        done = subprocess.run([python, "-c", "import " + ", ".join(names)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              check=False)
    except OSError:
        return False
    return done.returncode == 0


def main():
    # One that stands earlier in PATH may not have the system's packages.
    python = next((p for p in (sys.executable, "python3", "/usr/bin/python3") if has(p, *NEEDED)), None)
    if python is None:
        missing = [name for name in NEEDED if not has(sys.executable, name)]
        print(f"skipped: {sys.executable} has no {', '.join(missing)} (sh scripts/setup.sh test)")
        return SKIPPED
    if os.environ.get("ZAMBA_SANITIZE"):
        print("skipped: an interpreter without sanitizers cannot load a library with them")
        return SKIPPED
    env = {**os.environ, "ZAMBA_LIBRARY": str(BUILD / "libzamba.so"), "LC_ALL": "C.UTF-8"}
    return subprocess.run([python, "-m", "pytest", "-c", str(ROOT / "bindings/python/pyproject.toml"),
                           str(ROOT / "bindings/python/tests"), *sys.argv[1:]], env=env, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
