#!/usr/bin/env python3
"""make_replay_fixtures.py — cuts real Slippi replays down to small ones for tests/replay, makes one with what they lack
(frames told again, a follower, an unknown event, no length), and writes what slp_reference.py reads of them.

    python3 reference/make_replay_fixtures.py FOLDER-OF-REPLAYS tests/replay/fixtures

Gecko codes (message splitters) are left out: they are large and nobody reads them.
"""
import json
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import slp_reference as slp  # noqa: E402

HEAD = b"{U\x03raw[$U#l"
PICK = (-123, -39, 0, 50)


def events(data):
    """The table of sizes, [(code, bytes of the event)], what stands behind them."""
    length, at = struct.unpack_from(">i", data, len(HEAD))[0], len(HEAD) + 4
    stop = at + length
    size = {0x35: data[at + 1]}
    for i in range(at + 2, at + 1 + data[at + 1], 3):
        size[data[i]] = struct.unpack_from(">H", data, i + 1)[0]
    out = []
    while at < stop:
        out.append(data[at:at + 1 + size[data[at]]])
        at += len(out[-1])
    return out, data[stop:]


def of_frame(event):
    return struct.unpack_from(">i", event, 1)[0] if event[0] in (0x37, 0x38, 0x3A, 0x3B, 0x3C) else None


def join(parts, tail, length=True):
    raw = b"".join(parts)
    return HEAD + struct.pack(">i", len(raw) if length else 0) + raw + tail


def cut(data, first, last):
    """Frames first .. last, the game's start and end."""
    parts, tail = events(data)
    keep = [e for e in parts if e[0] != 0x10 and (of_frame(e) is None or first <= of_frame(e) <= last)]
    return keep, tail


def put(event, at, kind, value):
    out = bytearray(event)
    struct.pack_into(">" + kind, out, at, value)
    return bytes(out)


def odd(keep):
    """Frames 10 to 12 are told twice, the second time with another stick and other positions; port 1 has a follower from
    frame -100 to 20; an event that no version knows stands between; the last event is cut off, and no length is given."""
    table, rest = bytearray(keep[0]), keep[1:]
    table += bytes([0x7E]) + struct.pack(">H", 5)
    table[1] += 3
    out, again = [bytes(table)], []
    for e in rest:
        frame = of_frame(e)
        if e[0] == 0x39:
            continue
        if frame == 13 and again:
            out += again
            again = []
        out.append(e)
        if frame is not None and 10 <= frame <= 12 and e[0] in (0x37, 0x38):
            again.append(put(e, 0x19, "f", 0.25) if e[0] == 0x37 else put(e, 0x0A, "f", 1.5 + frame))
        if frame is not None and -100 <= frame <= 20 and e[0] in (0x37, 0x38) and e[5] == 0:
            f = put(e, 6, "B", 1)
            out.append(put(f, 0x0A, "f", -7.0) if e[0] == 0x38 else f)
        if frame == 0:
            out.append(b"\x7Ehello")
    out[-1] = out[-1][:-3]
    return join(out, b"", length=False)


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    made = {
        "v1.7.1.slp": join(*cut((source / "nintendont.slp").read_bytes(), -123, 196)),
        "v2.0.1.slp": join(*cut((source / "v2.0.slp").read_bytes(), -123, 196)),
        "v3.19.1.slp": join(*cut((source / "gnw_neutral_dense.slp").read_bytes(), -123, 120)),
        "odd.slp": odd(cut((source / "v2.0.slp").read_bytes(), -123, 59)[0]),
    }
    seeds = target.parent.parent / "fuzz" / "seeds" / "slp"
    seeds.mkdir(parents=True, exist_ok=True)
    for name, file in (("v1", "nintendont.slp"), ("v3", "gnw_neutral_dense.slp")):
        (seeds / name).write_bytes(join(*cut((source / file).read_bytes(), -123, -116)))
    (seeds / "odd").write_bytes(odd(cut((source / "v2.0.slp").read_bytes(), 8, 14)[0]))
    expected = {}
    for name, data in made.items():
        (target / name).write_bytes(data)
        game = slp.read(target / name) if name != "odd.slp" else read_open(target / name)
        frames = sorted(game["frames"])
        keys = sorted({k for f in game["frames"].values() for k in f})
        totals = {}
        for k in keys:
            rows = [game["frames"][f][k] for f in frames if k in game["frames"][f]]
            t = dict(frames=len(rows))
            for part, field in (("pre", "stick_x"), ("pre", "stick_y"), ("post", "x"), ("post", "y"), ("post", "percent")):
                t[f"sum {part}.{field}"] = sum(float(r[part][field]) for r in rows if part in r)
            t["frames with A"] = sum(bool(r["pre"]["buttons"] & 0x100) for r in rows)
            totals[f"port {k[0]} follower {k[1]}"] = t
        expected[name] = dict(
            version=game["version"], stage=game["stage"], players=game["players"], first_frame=frames[0],
            last_frame=frames[-1], frames=len(frames),
            events={f"0x{k:02x}": v for k, v in sorted(game["events"].items())}, totals=totals,
            samples={str(f): {f"{p}.{q}": v for (p, q), v in sorted(game["frames"][f].items())} for f in PICK})
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def read_open(path):
    """The reference takes the last event for whole: it must not see it."""
    data = path.read_bytes()
    at = len(HEAD) + 4
    size = {0x35: data[at + 1]}
    for i in range(at + 2, at + 1 + data[at + 1], 3):
        size[data[i]] = struct.unpack_from(">H", data, i + 1)[0]
    while at < len(data) and at + 1 + size[data[at]] <= len(data):
        at += 1 + size[data[at]]
    whole = path.with_suffix(".whole")
    whole.write_bytes(data[:at])
    game = slp.read(whole)
    whole.unlink()
    return game


if __name__ == "__main__":
    main()
