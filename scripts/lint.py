#!/usr/bin/env python3
"""lint.py — the house rules that a script can check: which room may include which, what the library may call, what it
exports, how files begin, how long they and their lines are, that names are unique and no machine is named.

    python3 scripts/lint.py [--build build/release]

With --build the symbols of libzamba.so and libzamba.a in that folder are checked too. One line per finding; exit code 1
if there is any. Not here: the format of C (scripts/format.sh) and anything a compiler warns about.
"""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Includes go one way: a room sees itself and the rooms named here.
ROOMS = {
    "core": set(),
    "io": {"core"},
    "quant": {"core"},
    "kernels": {"core", "quant"},
    "tok": {"core", "io"},
    "model": {"core", "io", "quant", "kernels"},
    "train": {"core", "io", "kernels", "tok", "quant", "model", "backbone"},
    "backbone": {"core", "io", "quant", "kernels"},
    "replay": {"core", "io"},
    "hub": {"core", "io"},
    "server": {"hub"},  # zamba.h, and where models of the hub are
    "cli": {"server", "hub"},  # the public headers, the server's, which cmd_serve.c starts, and the hub's
}
PUBLIC_ONLY = {"cli", "server"}
PUBLIC_HEADERS = ("zamba.h", "zamba_train.h", "zamba_backbone.h", "zamba_replay.h")

MAX_COLUMNS = 120
MAX_COLUMNS_PY = 132  # no tool wraps Python here, and a sentence in a string reads better whole
MAX_LINES = 1500
CODE = {".c", ".h", ".py", ".sh", ".cmake"}
TEXT = CODE | {".md", ".txt", ".json", ".in", ".yml", ""}
SKIP_DIRS = {".git", "build", "dist", "fixtures", "seeds", "corpus", "models", "__pycache__", ".cache",
             "node_modules"}

# What library code may not call: it returns a status, and the caller prints or exits.
FORBIDDEN_IN_LIBRARY = re.compile(
    r"\b(v?f?printf|f?puts|putchar|perror|_?exit|abort|quick_exit|system|popen|signal|setlocale|s?rand)\s*\(")
# Unbounded or locale-bound functions, everywhere in src/.
FORBIDDEN_IN_SRC = re.compile(r"\b(gets|strcpy|strcat|sprintf|vsprintf|atoi|atol|atof|strtok|alloca)\s*\(")
# The switches that docs/ describe; a new one is described first.
ENVIRONMENT = re.compile(r"\bgetenv\s*\(\s*\"([A-Z_0-9]+)\"")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:work|root|home|opt|Users|mnt)/[A-Za-z0-9_.-]+")
FLAGS = re.compile(r"-ffast-math|-Ofast|-march=native|-mcpu=native")


class Findings:
    def __init__(self):
        self.lines = []

    def add(self, path, line, text):
        where = f"{path}:{line}" if line else str(path)
        self.lines.append(f"{where}: {text}")


def tree():
    """Every file of the project, relative to its root, without what is generated or data."""
    for folder, dirs, files in os.walk(ROOT):
        dirs[:] = sorted(d for d in dirs if d not in SKIP_DIRS)
        for name in sorted(files):
            yield (Path(folder) / name).relative_to(ROOT)


def strip_c(text):
    """C source with comments and the insides of strings blanked, line by line as before."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match):
        piece = match.group(0)
        if piece[0] in "\"'":
            return piece[0] + " " * (len(piece) - 2) + piece[-1]
        return re.sub(r"[^\n]", " ", piece)

    return pattern.sub(blank, text)


def check_includes(path, text, found):
    room = path.parts[1]
    if room not in ROOMS:
        found.add(path, 0, f"src/{room} is no room that lint.py knows; add it to ROOMS with what it may include")
        return
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        if target in PUBLIC_HEADERS:
            continue
        first = target.split("/")[0] if "/" in target else None
        if room in PUBLIC_ONLY:
            folders = [path.parent] + [Path("src") / other for other in ROOMS[room]]
            if first is not None or not any((ROOT / folder / target).exists() for folder in folders):
                found.add(path, number, f'src/{room} sees the public headers and its own only, not "{target}"')
        elif first is None:
            if not (ROOT / path.parent / target).exists():
                found.add(path, number, f'"{target}": headers of src/ are named with their room, as "core/mem.h"')
        elif first in ROOMS and first != room and first not in ROOMS[room]:
            allowed = ", ".join(sorted(ROOMS[room])) or "nothing else"
            found.add(path, number, f"{room} may include {allowed}; not {first}")


def check_c(path, text, found):
    code = strip_c(text)
    lines = code.split("\n")
    if not text.startswith("/*"):
        found.add(path, 1, "a file begins with a comment that says what it owns")
    elif path.name not in text.split("\n")[0] and path.parts[0] in ("src", "include", "examples", "bench"):
        found.add(path, 1, f'the first comment begins with the file\'s name: "/* {path.name} — ..."')
    guarded = re.search(r"#ifndef (\w+)\n#define \1\b", text)
    if path.suffix == ".h" and not guarded and "has no guard" not in text[: text.find("*/")]:
        found.add(path, 0, "no include guard")
    in_library = path.parts[0] == "src" and path.parts[1] not in ("cli", "server")
    for number, line in enumerate(lines, 1):
        if in_library:
            match = FORBIDDEN_IN_LIBRARY.search(line)
            if match:
                found.add(path, number, f"the library never prints, exits or aborts: {match.group(1)}()")
        if path.parts[0] == "src":
            match = FORBIDDEN_IN_SRC.search(line)
            if match:
                found.add(path, number, f"{match.group(1)}() has no place here (unbounded, or bound to the locale)")
        if re.search(r"\t", line):
            found.add(path, number, "tab")
    if path.parts[0] == "src":
        check_includes(path, text, found)
        for name in sorted(set(ENVIRONMENT.findall(text))):
            if name.startswith("ZAMBA") and not documented(name):
                found.add(path, 0, f"the switch {name} is described in no document")


def documented(name):
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    return any(name in d.read_text(encoding="utf-8") for d in documents if d.exists())


def check_text(path, text, found):
    if text and not text.endswith("\n"):
        found.add(path, 0, "no newline at the end")
    width = MAX_COLUMNS_PY if path.suffix == ".py" else MAX_COLUMNS
    data = path.parts[0] == "tests" and path.suffix == ".py"  # templates and cases, as long as they are
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip() and path.suffix != ".md":
            found.add(path, number, "trailing blanks")
        if path.suffix in CODE and len(line) > width and not data:
            found.add(path, number, f"{len(line)} columns; {width} are allowed")
        match = MACHINE_PATH.search(line)
        if match and path.name != "lint.py":
            found.add(path, number, f"names a place on somebody's machine: {match.group(0)}")
        if FLAGS.search(line) and path.suffix in (".cmake", ".txt", ".json", ".sh", ""):
            found.add(path, number, "we ship no -ffast-math and no -march=native")
    if path.suffix in CODE and text.count("\n") > MAX_LINES:
        found.add(path, 0, f"{text.count(chr(10))} lines; past {MAX_LINES} look for the seam")


def check_sources(found):
    names = {}
    for path in tree():
        if path.suffix not in TEXT or not (ROOT / path).is_file() or path.name == "LICENSE":
            continue
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            found.add(path, 0, "is not UTF-8")
            continue
        if path.suffix in (".c", ".h", ".py", ".sh") and path.parts[0] != "examples":  # those live on their own
            if path.name in names:
                found.add(path, 0, f"file names are unique; {names[path.name]} has this one")
            names[path.name] = path
        check_text(path, text, found)
        if path.suffix in (".c", ".h") and path.parts[0] in ("src", "include", "tests", "examples", "bench"):
            check_c(path, text, found)


def symbols(arguments):
    out = subprocess.run(["nm", *arguments], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in "TDBRVWCGS":
            yield fields[2].split("@")[0]


def check_symbols(build, found):
    shared, static = build / "libzamba.so", build / "libzamba.a"
    exported = set(symbols(["-D", "--defined-only", str(shared)]))
    for name in sorted(exported):
        if not name.startswith("zamba_"):
            found.add(shared.name, 0, f"exports {name}; only zamba_* may leave the library")
    for name in sorted(set(symbols(["-g", "--defined-only", str(static)]))):
        if not re.match(r"(zamba|zb)_", name):
            found.add(static.name, 0, f"{name} is global; internal names begin with zb_")
    # A C call is a name and an opening parenthesis; what the header declares must be there to link with.
    header = "".join(strip_c((ROOT / "include" / name).read_text(encoding="utf-8")) for name in PUBLIC_HEADERS)
    declared = set(re.findall(r"ZAMBA_API\b[^;(]*?\b(zamba_\w+)\s*\(", header))
    for name in sorted(declared - exported):
        found.add("include", 0, f"declares {name}, which libzamba.so does not have")
    for name in sorted(exported - declared):
        found.add(shared.name, 0, f"exports {name}, which no public header declares")


def main():
    parser = argparse.ArgumentParser(description="check the house rules that a script can check")
    parser.add_argument("--build", type=Path, help="build folder whose libraries' symbols are checked as well")
    arguments = parser.parse_args()
    found = Findings()
    check_sources(found)
    if arguments.build:
        check_symbols(arguments.build, found)
    for line in found.lines:
        print(line)
    print(f"lint: {len(found.lines)} findings" if found.lines else "lint: clean")
    return 1 if found.lines else 0


if __name__ == "__main__":
    sys.exit(main())
