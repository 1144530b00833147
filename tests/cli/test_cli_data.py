#!/usr/bin/env python3
"""test_cli_data.py — `zamba data show`: what is printed is what training reads, in colours and without, as JSON and as
counts; and files that are wrong."""
import json
import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, ROOT, Case, environment, run  # noqa: E402

DATA = ROOT / "tests" / "train" / "fixtures" / "data"
STORIES, CHATS, PAIRS = DATA / "stories.txt", DATA / "chats.jsonl", DATA / "pairs.jsonl"


def tokens(text):
    result = run("tokenize", MODEL, "--no-bos", "--no-parse-special", "--prompt", text, "--json")
    return result.json["ids"]


class Show(Case):
    def show(self, *args, **more):
        result = run("data", "show", *args, **more)
        self.assertEqual(result.code, 0, result.err)
        return result

    def test_text_as_json(self):
        documents = [d.strip("\n") for d in STORIES.read_text().split("<|endoftext|>") if d.strip("\n")]
        got = self.show(MODEL, STORIES, "--seq", 1000, "--json").json
        self.assertEqual(got["kind"], "text")
        self.assertEqual([e["row"] for e in got["examples"]], [0, 0, 0])
        for example, text in zip(got["examples"], documents):
            want = [1, *tokens(text), 2]
            self.assertEqual(example["ids"], want[:-1])
            self.assertEqual(example["targets"], want[1:])
            self.assertEqual(len(example["tokens"]), len(example["ids"]))
        self.assertEqual(got["stats"]["documents"], 3)
        self.assertEqual(got["stats"]["empty"], 1)
        self.assertEqual(got["stats"]["tokens"], sum(len(e["ids"]) for e in got["examples"]))
        self.assertEqual(sum(got["stats"]["lengths"]), 3)

    def test_rows_are_cut_and_go_on(self):
        whole = self.show(MODEL, STORIES, "--seq", 1000, "--json").json["examples"][0]
        parts = self.show(MODEL, STORIES, "--seq", 16, "-n", 3, "--json").json["examples"]
        self.assertEqual([e["row"] for e in parts], [0, 1, 2])
        self.assertEqual(sum((e["ids"] for e in parts), []), whole["ids"][:48])
        self.assertEqual(sum((e["targets"] for e in parts), []), whole["targets"][:48])

    def test_seed_is_an_order(self):
        args = (MODEL, STORIES, "--seq", 8, "-n", 8, "--json")
        first = [e["ids"] for e in self.show(*args, "--seed", 1).json["examples"]]
        self.assertEqual(first, [e["ids"] for e in self.show(*args, "--seed", 1).json["examples"]])
        self.assertNotEqual(first, [e["ids"] for e in self.show(*args, "--seed", 2).json["examples"]])
        self.assertNotEqual(first, [e["ids"] for e in self.show(*args).json["examples"]])

    def test_what_is_learned_is_marked(self):
        out = self.show(MODEL, CHATS, "-n", 1, "--seq", 1000).out
        self.assertEqual(out.count("row 0, example"), 5)
        learned = [re.sub("[│⟦⟧↵]", "", text) for text in re.findall("«(.*?)»", out, re.S)]
        self.assertEqual(learned[:3], [" Bees make honey. </s>", " Wasps make paper nests. </s>", "The oak is a tree.</s>"])
        self.assertIn("⟦<s>⟧│", out)
        self.assertNotIn("\033", out)
        ascii_out = self.show(MODEL, CHATS, "-n", 1, "--seq", 1000, env=environment(LC_ALL="C"))
        self.assertTrue(ascii_out.raw.isascii())
        self.assertIn("[[</s>]]>>", ascii_out.out)

    def test_colours(self):
        out = self.show(MODEL, CHATS, "-n", 1, "--seq", 1000, "--color", "always").out
        self.assertNotIn("«", out)
        green = "".join(re.findall("\033\\[32m(.*?)\033\\[0m", out, re.S))
        self.assertTrue(green.startswith(" Bees make honey. ⟦</s>⟧ Wasps make"), green)
        self.assertNotIn("bees", green)
        self.assertIn("\033[2m", out)
        self.assertIn("\033[1m\033[35m⟦<s>⟧", out)

    def test_pairs(self):
        out = self.show(MODEL, PAIRS).out
        for i in range(3):
            self.assertIn(f"pair {i}, chosen", out)
            self.assertIn(f"pair {i}, rejected", out)
        got = self.show(MODEL, PAIRS, "--json").json
        self.assertEqual(got["kind"], "pairs")
        self.assertEqual([e["row"] for e in got["examples"]], list(range(6)))

    def test_stats(self):
        out = self.show(MODEL, CHATS, "--stats").out
        self.assertRegex(out, r"conversations +5\n")
        self.assertRegex(out, r"learned +\d+ +\(\d+\.\d%\)")
        self.assertRegex(out, r"32 to 63 +\d")
        self.assertNotIn("row 0", out)
        self.assertIn("row 0", self.show(MODEL, CHATS, "--stats", "-n", 1).out)

    def test_the_default_model_and_several_files(self):
        got = self.show(STORIES, CHATS.with_name("stories.txt"), "--stats", "--json").json
        self.assertEqual(got["stats"]["documents"], 6)
        self.assertEqual(got["examples"], [])

    def test_control_characters_stay_out(self):
        path = self.file("evil.jsonl", json.dumps({"text": "a\x1b[31mb\u009bc\td\x7f"}) + "\n")
        out = self.show(MODEL, path).raw
        for byte in (b"\x1b", b"\x7f", b"\x9b", b"\t"):
            self.assertNotIn(byte, out)

    def test_too_long(self):
        path = self.file("long.jsonl", json.dumps({"prompt": "One", "completion": " two three" * 50}) + "\n")
        got = self.show(MODEL, path, "--seq", 20, "--json").json
        self.assertEqual(got["stats"]["cut"], 1)
        self.assertEqual(len(got["examples"][0]["ids"]), 20)
        self.fails(run("data", "show", MODEL, path, "--seq", 20, "--too-long", "error"), 1, "long.jsonl, line 1", "room for 20")
        self.fails(run("data", "show", MODEL, path, "--seq", 20, "--too-long", "drop"), 1, "nothing to learn")


class Refusals(Case):
    def test_command_line(self):
        self.fails(run("data"), 2, "wanted show")
        self.fails(run("data", "list"), 2, "'list'")
        self.fails(run("data", "show"), 2, "FILE")
        self.fails(run("data", "show", MODEL), 2, "FILE")
        self.fails(run("data", "show", MODEL, STORIES, "--kind", "poem"), 2, "auto|text|chat|pairs")

    def test_files(self):
        self.fails(run("data", "show", MODEL, self.folder / "nothing.txt"), 1, "nothing.txt")
        self.fails(run("data", "show", MODEL, self.file("empty.txt", "")), 1, "empty.txt", "no document")
        bad = self.file("bad.jsonl", '{"text": "a"}\n{"text": "b"\n')
        self.fails(run("data", "show", MODEL, bad), 1, "bad.jsonl, line 2, column", "not JSON")
        self.fails(run("data", "show", MODEL, self.file("x.jsonl", '{"a": 1}\n')), 1, "x.jsonl, line 1", "messages")
        self.fails(run("data", "show", MODEL, CHATS, "--kind", "pairs"), 1, "chats.jsonl, line 1", '"chosen"')
        self.fails(run("data", "show", MODEL, self.file("a.gz", b"\x1f\x8b\x08\0")), 1, "gzip")
        self.fails(run("data", "show", MODEL, self.folder), 1, "folder")


if __name__ == "__main__":
    unittest.main()
