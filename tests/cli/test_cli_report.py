#!/usr/bin/env python3
"""test_cli_report.py — the folder of a training run (lines, event files, page), `zamba report`, and
`zamba train-tokenizer` as a user meets it. Standard library only; ZAMBA_PROGRAM names the program, run_folder_tool stands
in for training."""
import html.parser
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import PROGRAM, ROOT, TIMEOUT, Case, run  # noqa: E402

TOOL = Path(os.environ.get("ZAMBA_BUILD") or Path(PROGRAM).parent) / "tests" / "run_folder_tool"
TEXT = ROOT / "tests" / "tok" / "fixtures" / "tokenizer" / "LICENSE-Apache-2.0.txt"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(data):
    """[(number, value)] of a protocol buffer; what has a length stays bytes."""
    at, out = 0, []

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(data):
        key = varint()
        wire = key & 7
        if wire == 0:
            out.append((key >> 3, varint()))
        elif wire in (1, 5):
            n = 8 if wire == 1 else 4
            out.append((key >> 3, struct.unpack("<d" if wire == 1 else "<f", data[at:at + n])[0]))
            at += n
        else:
            assert wire == 2, wire
            n = varint()
            assert at + n <= len(data)
            out.append((key >> 3, data[at:at + n]))
            at += n
    return out


def read_events(path):
    """[{step, time, version | scalars | texts | session}]"""
    data, at, events = Path(path).read_bytes(), 0, []
    while at < len(data):
        (n,) = struct.unpack("<Q", data[at:at + 8])
        assert struct.unpack("<I", data[at + 8:at + 12])[0] == masked(data[at:at + 8])
        body = data[at + 12:at + 12 + n]
        assert struct.unpack("<I", data[at + 12 + n:at + 16 + n])[0] == masked(body)
        at += 16 + n
        event = {"step": 0, "scalars": {}, "texts": {}}
        for number, value in fields(body):
            if number == 1:
                event["time"] = value
            elif number == 2:
                event["step"] = value
            elif number == 3:
                event["version"] = value.decode()
            elif number == 7:
                event["session"] = dict(fields(value))[1]
            elif number == 5:
                for _, one in fields(value):
                    parts = dict(fields(one))
                    tag = parts[1].decode()
                    if 8 in parts:
                        tensor, meta = dict(fields(parts[8])), dict(fields(parts[9]))
                        assert tensor[1] == 7 and dict(fields(meta[1]))[1] == b"text"
                        event["texts"][tag] = tensor[8].decode()
                    else:
                        event["scalars"][tag] = parts[2]
        events.append(event)
    return events


class Page(html.parser.HTMLParser):
    VOID = {"meta", "link", "br", "path", "circle"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.titles, self.wrong = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2" and data.strip():
            self.titles.append(data.strip())


class Folder(Case):
    def train(self, name, resume, first, last, total, seed=0, code=0):
        done = subprocess.run([str(TOOL), str(self.folder / name), *map(str, (resume, first, last, total, seed))],
                              capture_output=True, timeout=TIMEOUT, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        self.err = done.stderr
        return self.folder / name

    def lines(self, path):
        return [json.loads(line) for line in Path(path).read_text().splitlines()]

    def check_page(self, text):
        page = Page(text)
        self.assertEqual((page.open, page.wrong), ([], []))
        self.assertNotRegex(text, r"(?i)https?:|//[a-z]|@import|url\(|\bsrc=|fetch\(|XMLHttp")
        self.assertEqual([a["href"] for t, a in page.tags if "href" in a], ["data:,"])
        self.assertIn("prefers-color-scheme:dark", text)
        self.assertIn("width=device-width", text)
        self.assertNotIn("nan", re.sub(r"<script>.*</script>", "", text, flags=re.S).lower().replace("finance", ""))
        return page


class RunFolder(Folder):
    def test_files(self):
        run_folder = self.train("run", 0, 1, 450, 500)
        names = sorted(p.name for p in run_folder.iterdir())
        self.assertEqual([n for n in names if not n.startswith("events.out.tfevents.")],
                         ["config.json", "metrics.jsonl", "report.html", "samples.jsonl"])
        self.assertEqual(len(names), 5)
        lines = self.lines(run_folder / "metrics.jsonl")
        steps = [m for m in lines if "valid_loss" not in m]
        valid = [m for m in lines if "valid_loss" in m]
        self.assertEqual([m["step"] for m in steps], list(range(1, 451)))
        self.assertEqual([m["step"] for m in valid], [0, 100, 200, 300, 400])
        self.assertEqual([m["step"] for m in lines], sorted(m["step"] for m in lines))
        self.assertIsNone(steps[398]["loss"])
        self.assertTrue(steps[398]["skipped"])
        for m in valid:
            self.assertAlmostEqual(m["perplexity"], math.exp(m["valid_loss"]), places=9)
            self.assertAlmostEqual(m["bits_per_byte"], m["valid_loss"] / math.log(2) / 3.6, places=9)
        self.assertNotIn("accuracy", steps[0])
        samples = self.lines(run_folder / "samples.jsonl")
        self.assertEqual([s["step"] for s in samples], [100, 200, 300, 400])
        self.assertIn("<b>\"Chug-a-rum!\"</b>", samples[-1]["text"])
        self.assertEqual(json.loads((run_folder / "config.json").read_text())["optimizer"]["name"], "adamw")

    def test_events(self):
        run_folder = self.train("run", 0, 1, 410, 500)
        events = read_events(next(run_folder.glob("events.out.tfevents.*")))
        self.assertEqual(events[0]["version"], "brain.Event:2")
        self.assertNotIn("session", events[1])
        got = {}
        for event in events:
            for tag, value in event["scalars"].items():
                got.setdefault(tag, {})[event["step"]] = value
        lines = self.lines(run_folder / "metrics.jsonl")
        for tag, key in (("train/loss", "loss"), ("train/learning_rate", "learning_rate"), ("valid/loss", "valid_loss"),
                         ("train/grad_norm", "grad_norm"), ("valid/bits_per_byte", "bits_per_byte"),
                         ("train/tokens_per_second", "tokens_per_second"), ("valid/perplexity", "perplexity")):
            want = {m["step"]: struct.unpack("<f", struct.pack("<f", m[key]))[0] for m in lines if m.get(key) is not None}
            self.assertEqual(got[tag], want, tag)
        self.assertEqual(got["train/skipped"], {399: 1})
        self.assertNotIn("rewards/margins", got)
        texts = {e["step"]: e["texts"]["sample/text_summary"] for e in events if e["texts"]}
        self.assertEqual(sorted(texts), [100, 200, 300, 400])
        self.assertTrue(texts[400].startswith("    Once upon a time"), texts[400])
        self.assertIn("\n    <b>\"Chug-a-rum!\"</b>", texts[400])

    def test_resume(self):
        whole = self.train("whole", 0, 1, 300, 300)
        broken = self.train("run", 0, 1, 250, 300)
        with open(broken / "metrics.jsonl", "a") as f:  # killed in the middle of a line
            f.write('{"step": 251, "lo')
        self.train("run", 180, 181, 300, 300)
        for name in ("metrics.jsonl", "samples.jsonl", "config.json"):
            self.assertEqual((broken / name).read_text(), (whole / name).read_text(), name)
        starts = [e for p in broken.glob("events.*") for e in read_events(p) if "session" in e]
        self.assertEqual([(e["session"], e["step"]) for e in starts], [(1, 181)])

    def test_refuses_what_is_there(self):
        self.train("run", 0, 1, 5, 5)
        self.train("run", 0, 1, 5, 5, code=1)
        self.assertIn("holds a training run already", self.err)
        self.train("run", -1, 1, 3, 3)
        self.assertEqual(len(self.lines(self.folder / "run" / "metrics.jsonl")), 4)
        self.file("file", "")
        self.train("file/run", 0, 1, 5, 5, code=1)
        self.assertIn("cannot make the folder", self.err)

    def test_full_disk(self):
        run_folder = self.train("run", 0, 1, 5, 10)
        (run_folder / "metrics.jsonl").unlink()
        os.symlink("/dev/full", run_folder / "metrics.jsonl")
        self.train("run", 5, 6, 10, 10, code=1)
        self.assertIn("No space left", self.err)
        self.assertEqual(self.err.count("cannot be written"), 1)

    def test_page(self):
        text = (self.train("run", 0, 1, 450, 500) / "report.html").read_text()
        page = self.check_page(text)
        self.assertEqual(page.titles, ["Loss", "Held-out perplexity", "Held-out bits per byte", "Learning rate",
                                       "Gradient norm", "Tokens per second", "What it writes", "Settings"])
        self.assertIn("Stopped at step 450 of 500", text)
        self.assertIn("1 step skipped", text)
        self.assertIn("&#60;b&#62;&#34;Chug-a-rum!&#34;&#60;/b&#62; said the frog &#38; jumped", text)
        self.assertIn("&#60;tom &#38; jerry&#62;", text)
        self.assertNotIn("http-equiv", text)
        loss = next(a for t, a in page.tags if t == "path" and a.get("data-key") == "training")
        self.assertGreater(loss["d"].count("L"), 200)

    def test_short_runs(self):
        """Also a page without a step, or with one, is a page."""
        for last in (0, 1, 2):
            text = (self.train(f"run{last}", 0, 1, last, 100) / "report.html").read_text()
            page = self.check_page(text)
            self.assertEqual("Loss" in page.titles, last > 0)


class Report(Folder):
    def test_one(self):
        run_folder = self.train("run", 0, 1, 400, 400)
        result = run("report", run_folder)
        self.assertEqual((result.code, result.err), (0, ""))
        head, row = result.out.splitlines()
        self.assertEqual(head.split()[:4], ["run", "step", "tokens", "loss"])
        self.assertEqual(row.split()[:2], ["run", "400"])
        told = run("report", run_folder, "--json").json["runs"]
        self.assertEqual(len(told), 1)
        lines = self.lines(run_folder / "metrics.jsonl")
        valid = [m for m in lines if "valid_loss" in m]
        last = [m["loss"] for m in lines if m.get("loss") is not None and m["step"] > 380]
        self.assertEqual((told[0]["step"], told[0]["finished"], told[0]["skipped"]), (400, True, 1))
        self.assertAlmostEqual(told[0]["loss"], sum(last) / len(last), places=5)
        self.assertAlmostEqual(told[0]["valid_loss"], valid[-1]["valid_loss"], places=5)
        self.assertAlmostEqual(told[0]["best_valid_loss"], min(m["valid_loss"] for m in valid), places=5)
        self.assertAlmostEqual(told[0]["bits_per_byte"], valid[-1]["bits_per_byte"], places=5)
        self.assertAlmostEqual(told[0]["seconds"], sum(m["seconds"] for m in lines if "seconds" in m), places=2)

    def test_several(self):
        runs = [self.train("short", 0, 1, 120, 300), self.train("long", 0, 1, 300, 300, 1)]
        out = self.folder / "compare.html"
        result = run("report", *runs, "-o", out)
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertEqual([line.split()[0] for line in result.out.splitlines()], ["run", "short", "long"])
        self.assertIn("120 of 300", result.out)
        text = out.read_text()
        page = self.check_page(text)
        self.assertIn("Settings that differ", page.titles)
        keys = [a["data-key"] for t, a in page.tags if t == "path" and "data-key" in a]
        self.assertEqual(set(keys), {"short", "long"})
        differ = text[text.index("Settings that differ"):text.index("What they write")]
        self.assertEqual(re.findall(r'<th class="key">([^<]*)', differ), ["lr", "seed"])

    def test_refusals(self):
        self.fails(run("report"), 2, "folder of a training run")
        self.fails(run("report", self.folder / "none"), 1, "none/metrics.jsonl")
        run_folder = self.train("run", 0, 1, 5, 5)
        lines = (run_folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run_folder / "metrics.jsonl").write_text("".join(lines) + '{"step": 6, "los')
        self.assertEqual(run("report", run_folder).code, 0)
        for wrong in ("no json\n", "[1]\n", '{"step": "x"}\n'):
            (run_folder / "metrics.jsonl").write_text("".join(lines[:2]) + wrong + "".join(lines[2:]))
            self.fails(run("report", run_folder), 1, "metrics.jsonl: line 3")
        (run_folder / "metrics.jsonl").write_text("".join(lines))
        self.fails(run("report", run_folder, "-o", self.folder / "no" / "such.html"), 1, "such.html")


class TrainTokenizer(Case):
    def test_makes_a_tokenizer(self):
        result = run("train-tokenizer", TEXT, "-o", self.folder / "tok", "--vocab-size", 500, "--json", "--chat",
                     "--special", "<|tool|>", "--progress", "none")
        self.assertEqual((result.code, result.err), (0, ""))
        told = result.json
        self.assertEqual((told["vocab_size"], told["documents"]), (500, 1))
        self.assertGreater(told["characters_per_token"], 1.8)
        self.assertEqual(sorted(p.name for p in (self.folder / "tok").iterdir()),
                         ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"])
        text = "The License, 2004: <b>work</b> in Übermut."
        ids = run("tokenize", self.folder / "tok", text).out
        self.assertEqual(json.loads(ids)[0], 1)
        self.assertEqual(run("detokenize", self.folder / "tok", stdin=ids).out.rstrip("\n"), text)
        again = run("train-tokenizer", TEXT, "-o", self.folder / "tok2", "--vocab-size", 500, "--chat", "--special",
                    "<|tool|>")
        self.assertIn("500 ids", again.out)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            self.assertEqual((self.folder / "tok" / name).read_bytes(), (self.folder / "tok2" / name).read_bytes())

    @unittest.skipUnless(shutil.which("zstd"), "no zstd program")
    def test_packed(self):
        packed = self.folder / "text.txt.zst"
        subprocess.run(["zstd", "-q", str(TEXT), "-o", str(packed)], check=True)
        for name, path in (("a", TEXT), ("b", packed)):
            self.assertEqual(run("train-tokenizer", path, "-o", self.folder / name, "--vocab-size", 400).code, 0)
        self.assertEqual((self.folder / "a" / "tokenizer.json").read_bytes(),
                         (self.folder / "b" / "tokenizer.json").read_bytes())

    def test_refusals(self):
        out = self.folder / "tok"
        self.fails(run("train-tokenizer", TEXT), 2, "-o FOLDER")
        self.fails(run("train-tokenizer", "-o", out), 2, "-o FOLDER")
        self.fails(run("train-tokenizer", TEXT, "-o", out, "--vocab-size", 10), 2, "--vocab-size", "260")
        self.fails(run("train-tokenizer", TEXT, "-o", out, "--vocab-size", 280), 1, "characters", "vocabulary")
        self.fails(run("train-tokenizer", self.folder / "none.txt", "-o", out), 1, "none.txt")
        self.fails(run("train-tokenizer", self.file("empty.txt", ""), "-o", out), 1, "empty.txt")
        bad = self.file("bad.jsonl", '{"text": "a"}\n{"text": 3}\n')
        self.fails(run("train-tokenizer", bad, "-o", out), 1, "bad.jsonl", "line 2", "text")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["bad.jsonl", "empty.txt"])
        few = run("train-tokenizer", self.file("few.txt", "ab ab ab"), "-o", out)
        self.assertEqual(few.code, 0)
        self.assertIn("only enough pairs", few.err)


if __name__ == "__main__":
    unittest.main()
