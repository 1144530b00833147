#!/usr/bin/env python3
"""make_cdef.py — the C declarations of include/zamba*.h as cffi reads them. The headers are the only copy: the wheel's
build runs this, and a package that is used from the source folder runs it when it is imported.

    python3 make_cdef.py [INCLUDE_FOLDER]     prints them
"""
import os
import re
import subprocess
import sys
from pathlib import Path

INCLUDE = Path(__file__).resolve().parent.parent.parent / "include"
CONSTANT = re.compile(r"^#define (ZAMBA_[A-Z0-9_]+)\s+(\d+|0x[0-9A-Fa-f]+)\b", re.M)
SYSTEM_INCLUDE = re.compile(r"^#\s*include\s*<[^>]*>.*$", re.M)
ATTRIBUTE = re.compile(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)\s*")
INLINE = re.compile(r"^static inline[^{;]*\{.*?^\}$", re.M | re.S)


def headers(folder):
    """zamba.h first: the others include it."""
    found = sorted(Path(folder).glob("zamba*.h"), key=lambda path: (path.name != "zamba.h", path.name))
    if not found:
        raise FileNotFoundError(f"{folder}: no zamba*.h in it (ZAMBA_INCLUDE names another folder)")
    return found


def preprocess(text):
    """What the compiler's preprocessor makes of it: it knows the X-macros and conditions, we do not have to."""
    compiler = os.environ.get("CC", "cc").split()
    done = subprocess.run([*compiler, "-E", "-P", "-x", "c", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{compiler[0]} -E of the headers failed: {done.stderr.strip()[:400]}")
    return done.stdout


def read(folder=INCLUDE):
    """The declarations, as text for FFI.cdef()."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in headers(folder))
    plain = re.sub(r'^#\s*include\s*"zamba[^"]*".*$', "", SYSTEM_INCLUDE.sub("", text), flags=re.M)
    constants = CONSTANT.findall(re.sub(r"/\*.*?\*/", " ", plain, flags=re.S))
    declarations = INLINE.sub("", ATTRIBUTE.sub("", preprocess(plain)))
    declarations = "\n".join(line.rstrip() for line in declarations.splitlines() if line.strip())
    return "".join(f"#define {name} {value}\n" for name, value in constants) + declarations + "\n"


if __name__ == "__main__":
    sys.stdout.write(read(sys.argv[1] if len(sys.argv) > 1 else INCLUDE))
