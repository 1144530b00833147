#!/usr/bin/env python3
"""Write src/tok/jinja_tables.h: what Python's str methods know of Unicode, from this Python's own unicodedata.

    python3 scripts/make_unicode_tables.py > src/tok/jinja_tables.h     (Python 3.11: Unicode 14)
"""
import sys
import unicodedata

ALL = [c for c in range(sys.maxunicode + 1)]


def ranges(test):
    out = []
    for c in ALL:
        if test(chr(c)):
            if out and out[-1][1] == c - 1:
                out[-1][1] = c
            else:
                out.append([c, c])
    return out


def case_ranges(fn):
    """Runs of equal distance, with stride 1 or 2."""
    out = []
    for c in ALL:
        m = fn(chr(c))
        if len(m) != 1 or ord(m) == c:
            continue
        d = ord(m) - c
        if out and out[-1][2] == d:
            lo, hi, _, stride = out[-1]
            if c - hi == stride or (lo == hi and c - hi in (1, 2)):
                out[-1] = (lo, c, d, c - hi)
                continue
        out.append((c, c, d, 1))
    return out


def emit(kind, name, rows):
    print(f"\nstatic const {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        cell = " {" + ", ".join(str(x) for x in row) + "},"
        if len(line) + len(cell) > 118:
            print(line)
            line = "   "
        line += cell
    print(line)
    print("};")


def padded(text):
    return ["{%s}" % ", ".join(str(x) for x in [ord(c) for c in text] + [0] * (3 - len(text)))]


print("/* jinja_tables.h — what Python's str methods know of Unicode %s: case, letters, digits, printable characters."
      % unicodedata.unidata_version)
print(" * Written by scripts/make_unicode_tables.py; included by jinja_text.c only. */")
print("/* clang-format off */")
print("#ifndef ZB_JINJA_TABLES_H\n#define ZB_JINJA_TABLES_H\n\n#include <stdint.h>\n")
print("typedef struct range_row { uint32_t lo, hi; } range_row;")
print("typedef struct case_row { uint32_t lo, hi; int32_t delta; uint32_t stride; } case_row;")
print("typedef struct full_row { uint32_t from, to[3]; } full_row; /* one character becomes up to three */")
emit("range_row", "not_printable", ranges(lambda c: not c.isprintable()))
emit("range_row", "letters", ranges(str.isalpha))
emit("range_row", "numerals", ranges(lambda c: c.isalnum() and not c.isalpha()))
emit("range_row", "digits", ranges(str.isdigit))
emit("case_row", "to_lower", case_ranges(str.lower))
emit("case_row", "to_upper", case_ranges(str.upper))
emit("full_row", "to_upper_full", [[c] + padded(chr(c).upper()) for c in ALL if len(chr(c).upper()) > 1])
emit("full_row", "to_title_full", [[c] + padded(chr(c).title()) for c in ALL if chr(c).title() != chr(c).upper()])
print("\n#endif")
