#!/usr/bin/env python3
"""test_cli_shapes.py — docs/COMMANDS.md names every key of the JSON that `backbone`, `replay` and `batch` print."""
import json
import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, ROOT, Case, run  # noqa: E402

SMALL = ("--hidden-size", 8, "--num-layers", 2, "--attention-every", 2, "--num-heads", 2, "--head-dim", 4, "--state-size", 4)
QUICK = ("--max-steps", 2, "--seq-len", 8, "--batch-size", 2, "--progress", "none", "-t", 1, "--json")
GAMES = ROOT / "tests" / "replay" / "fixtures"
CASE = ROOT / "tests" / "backbone" / "fixtures" / "every3_of_7"
# What stands below these is named elsewhere: options of a model, columns of a replay, routes of the server.
ELSEWHERE = {"options", "pre", "post", "events", "response"}


def section(name):
    text = (ROOT / "docs" / "COMMANDS.md").read_text()
    return re.search(rf"(?ms)^## `{name}`\n(.*?)(?=^## |\Z)", text).group(1)


def keys(value, found):
    """All names in what was printed, but those that a file's content makes."""
    for part in value if isinstance(value, list) else ():
        keys(part, found)
    for key, part in value.items() if isinstance(value, dict) else ():
        if not re.fullmatch(r"port \d follower \d", key):
            found.add(key)
        if key not in ELSEWHERE:
            keys(part, found)
    return found


class Shapes(Case):
    def check(self, name, *args, **more):
        result = run(name, *args, **more)
        self.assertEqual(result.code, 0, result.err)
        found = keys([json.loads(result.out)] if result.out.startswith(("{\n", "[")) else result.lines, set())
        said = section(name)
        missing = [key for key in sorted(found) if not re.search(rf"[`\"]{re.escape(key)}[`\"]", said)]
        self.assertEqual(missing, [], (name, *args))
        return found

    def test_backbone(self):
        wide = ("--embed-dim", 5, *SMALL)
        self.assertIn("stream_bytes", self.check("backbone", "info", *wide, "--json"))
        self.check("backbone", "pattern", *wide, "--json")
        self.check("backbone", "compare", *wide, "--json")
        self.check("backbone", "init", *wide, "-o", self.folder / "m", "--json")
        self.assertIn("p99.9_ms", self.check("backbone", "bench", *wide, "-n", 130, "--json", "--progress", "none"))
        options = json.loads((CASE / "case.json").read_text())["options"]
        words = [w for key, value in options.items() for w in ("--" + key.replace("_", "-"), str(value).lower())]
        self.check("backbone", "train", *words, "--data", CASE / "inputs.safetensors", "-o", self.folder / "r", "--max-steps",
                   2, "--progress", "none", "-t", 1, "--json")

    def test_replay(self):
        games = [GAMES / name for name in ("v1.7.1.slp", "odd.slp")]
        self.check("replay", "info", games[0], "--json")
        self.check("replay", "info", *games, "--json")
        self.check("replay", "frames", games[0], "--port", 3, "--json")
        self.check("replay", "frames", games[0], "--port", 3, "--features", "trial", "--json")
        found = self.check("replay", "train", games[0], "--test", games[1], "-o", self.folder / "r", *SMALL, *QUICK)
        self.assertIn("test_loss", found)
        self.assertIn("summary", self.check("replay", "play", games[1], "--model", self.folder / "r" / "policy", "--json"))

    def test_batch(self):
        if "no server" in run("batch", self.file("empty", "")).err:
            self.skipTest("built without the server's code")
        line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "One", "max_tokens": 2}}
        path = self.file("in.jsonl", json.dumps(line) + "\n")
        self.assertIn("kept", self.check("batch", path, MODEL, "-o", self.folder / "out.jsonl", "--json"))


if __name__ == "__main__":
    unittest.main()
