#!/usr/bin/env python3
"""test_cli_quantize.py — `zamba quantize`, its report, and `zamba imatrix` as a user meets them. Standard library only;
ZAMBA_PROGRAM names the program."""
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, PROGRAM, ROOT, Case, environment, run  # noqa: E402

IDS = MODEL / "valid20k.u16"
TYPES = ["Q2_K", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "BF16"]
SVG = "{http://www.w3.org/2000/svg}"


class Quantize(Case):
    def out(self, name="out.gguf"):
        return self.folder / name

    def left(self):
        return sorted(p.name for p in self.folder.iterdir())

    def test_makes_a_model_that_runs(self):
        result = run("quantize", MODEL, self.out(), "Q8_0", "--progress", "none")
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(result.err, "")
        self.assertRegex(result.out, r"out\.gguf: 0\.00\d GB \([\d,]+ bytes\), \d\.\d+ bits a weight")
        self.assertEqual(self.left(), ["out.gguf"])
        base = run("perplexity", MODEL, IDS, "--limit", 600, "--json").json["mean_nll"]
        got = run("perplexity", self.out(), IDS, "--limit", 600, "--json").json["mean_nll"]
        self.assertLess(abs(got - base), 0.01)  # a few times what Q8_0 costs this model
        text = run("run", self.out(), "-p", "The little", "-n", 5, "--temp", 0)
        self.assertEqual(text.code, 0, text.err)
        self.assertGreater(len(text.out), 5)

    def test_dry_run(self):
        sizes = []
        for kind in TYPES:
            result = run("quantize", MODEL, kind, "--dry-run", "--json")
            self.assertEqual(result.code, 0, result.err)
            told = result.json
            self.assertEqual([told["type"], told["dry_run"], told["file"]], [kind, True, None])
            self.assertEqual(sum(g["bytes_out"] for g in told["groups"]), told["bytes_out"])
            self.assertEqual(sum(g["tensors"] for g in told["groups"]), told["tensors"])
            small = [g for g in told["groups"] if g["kind"] == "small"]
            self.assertEqual({g["to"] for g in small}, {"F32"})
            sizes.append(told["file_bytes"])
        self.assertEqual(sizes, sorted(sizes))
        self.assertEqual(sizes[-1], sizes[-2])
        self.assertEqual(self.left(), [])
        table = run("quantize", MODEL, self.out(), "Q4_K_M", "--dry-run")
        self.assertEqual(table.code, 0, table.err)
        self.assertRegex(table.out, r"(?m)^blk\.\*\.ssm_in\.weight +\d+ +\w+ +Q4_K ")
        self.assertRegex(table.out, r"(?m)^norms, biases, convolutions, dt, A, D .* F32 ")
        self.assertIn(f"{sizes[TYPES.index('Q4_K_M')]:,} bytes", table.out)
        each = run("quantize", MODEL, "Q4_K_M", "--dry-run", "-v").out
        self.assertRegex(each, r"(?m)^blk\.0\.ssm_in\.weight ")
        self.assertEqual(self.left(), [])

    def test_errors_of_the_last_run_are_shown(self):
        told = run("quantize", MODEL, self.out(), "q4_k_s", "--json", "--pure").json
        self.assertEqual(told["type"], "q4_k_s")
        self.assertEqual(told["file_bytes"], self.out().stat().st_size)
        errors = {g["kind"]: g["error"] for g in told["groups"]}
        self.assertTrue(0.02 < errors["in_proj"] < 0.2, errors)
        self.assertEqual(errors["small"], 0)

    def test_overrides(self):
        told = run("quantize", MODEL, "Q4_K_M", "--dry-run", "--json", "--tensor-type", "blk.*.ssm_out.weight=Q6_K",
                   "--tensor-type", "model.embed_tokens.weight=f16").json
        types = {g["kind"]: g["to"] for g in told["groups"]}
        self.assertEqual([types["out_proj"], types["embedding"]], ["Q6_K", "F16"])
        self.fails(run("quantize", MODEL, "Q4_K_M", "--dry-run", "--tensor-type", "blk.*.nothing=Q8_0"), 1,
                   "blk.*.nothing", "no tensor")
        self.fails(run("quantize", MODEL, "Q4_K_M", "--dry-run", "--tensor-type", "blk.*"), 1, "PATTERN=TYPE")

    def test_bytes_do_not_depend_on_threads(self):
        threads = [1, min(2, os.cpu_count() or 1)]
        files = []
        for i, n in enumerate(threads):
            self.assertEqual(run("quantize", MODEL, self.out(f"{i}.gguf"), "Q4_0", "-t", n).code, 0)
            files.append(self.out(f"{i}.gguf").read_bytes())
        self.assertEqual(files[0], files[1])

    def test_bad_input(self):
        self.fails(run("quantize", MODEL, self.out(), "Q4"), 1, "'Q4'", *TYPES)
        self.fails(run("quantize", MODEL, self.out()), 2, "IN OUT TYPE")
        self.fails(run("quantize", MODEL, MODEL / "model.safetensors", "Q8_0"), 1, "is the input")
        self.fails(run("quantize", self.folder / "none", self.out(), "Q8_0"), 1, "none")
        self.fails(run("quantize", MODEL, self.folder, "Q8_0"), 1, "folder")
        self.fails(run("quantize", MODEL, self.out(), "Q8_0", "--imatrix", MODEL / "config.json"), 1, "config.json")
        self.assertEqual(self.left(), [])
        self.assertEqual(run("quantize", MODEL, self.out(), "Q8_0").code, 0)
        before = self.out().read_bytes()
        self.fails(run("quantize", self.out(), self.out("again.gguf"), "Q4_0"), 1, "--allow-requantize")
        self.fails(run("quantize", self.out(), self.out(), "Q4_0", "--allow-requantize"), 1, "is the input")
        self.assertEqual(run("quantize", self.out(), self.out("again.gguf"), "Q4_0", "--allow-requantize").code, 0)
        self.assertEqual(self.out().read_bytes(), before)

    def test_a_full_disk_leaves_the_older_file(self):
        self.file("out.gguf", b"older")
        done = subprocess.run(["sh", "-c", 'ulimit -f 200; exec "$0" quantize "$1" "$2" Q8_0', PROGRAM, MODEL,
                               self.out()], capture_output=True, env=environment(), timeout=300)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(b"cannot write", done.stderr)
        self.assertEqual(self.out().read_bytes(), b"older")
        self.assertEqual(self.left(), ["out.gguf"])

    def test_an_interrupt_leaves_nothing(self):
        """Stopped while it works: the output is a pipe that nobody empties, so it cannot be done before."""
        os.mkfifo(self.folder / "pipe")
        reader = os.open(self.folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        child = subprocess.Popen([PROGRAM, "quantize", MODEL, self.folder / "pipe", "Q8_0"], env=environment(),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        time.sleep(0.2)
        limit = time.time() + 60
        while child.poll() is None and time.time() < limit:
            try:
                if not os.read(reader, 1 << 16):
                    time.sleep(0.01)
            except BlockingIOError:
                time.sleep(0.01)
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130, err)
        self.assertIn(b"cancelled", err)
        self.assertEqual(out, b"")
        self.assertEqual(self.left(), ["pipe"])

    def test_progress(self):
        result = run("quantize", MODEL, self.out(), "Q8_0", "--progress", "json")
        lines = [json.loads(line)["progress"] for line in result.err.splitlines()]
        self.assertGreaterEqual(len(lines), 2)
        self.assertEqual(lines[0]["task"], "quantizing")
        self.assertEqual(lines[-1]["done"], lines[-1]["total"])


class Report(Case):
    def test_table_and_picture(self):
        svg = self.folder / "report.svg"
        options = ["--types", "Q8_0,q4_0,Q2_K,BF16", "-f", IDS, "--limit", 300, "-o", svg]
        result = run("quantize", "--report", MODEL, *options, "--json", env=environment(TMPDIR=self.folder))
        self.assertEqual(result.code, 0, result.err)
        told = result.json
        rows = {t["type"]: t for t in told["types"]}
        self.assertEqual(list(rows), ["Q8_0", "Q4_0", "Q2_K", "BF16"])
        self.assertLess(rows["Q8_0"]["kld"], rows["Q4_0"]["kld"])
        self.assertLess(rows["Q4_0"]["kld"], rows["Q2_K"]["kld"])
        self.assertGreater(rows["Q8_0"]["same_top"], rows["Q2_K"]["same_top"])
        for row in told["types"]:
            self.assertTrue(0 <= row["kld"] < 3, row)
            self.assertAlmostEqual(row["ln_ratio"], math.log(row["perplexity"] / told["perplexity"]), delta=1e-4)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["report.svg"])
        root = xml.etree.ElementTree.parse(svg).getroot()
        self.assertEqual(root.tag, SVG + "svg")
        self.assertIn("prefers-color-scheme: dark", svg.read_text())
        words = [t.text for t in root.iter(SVG + "text")]
        for name in ("Q8_0", "Q4_0", "Q2_K"):
            self.assertIn(name, words)

    def test_formats(self):
        options = ["--types", "Q8_0", "-f", IDS, "--limit", 60, "--progress", "none"]
        table = run("quantize", "--report", MODEL, *options)
        self.assertRegex(table.out, r"(?m)^\| Q8_0 \| [\d.]+ \| 8\.\d+ \|")
        rows = run("quantize", "--report", MODEL, *options, "--format", "csv").out.splitlines()
        self.assertEqual(len(rows), 2)
        self.assertEqual(len(rows[0].split(",")), len(rows[1].split(",")))

    def test_bad_input(self):
        self.fails(run("quantize", "--report", MODEL), 2, "-f FILE")
        self.fails(run("quantize", "--report", MODEL, "-f", IDS, "--types", "Q8_0,Q9"), 2, "'Q9'")
        self.fails(run("quantize", "--report", MODEL, "-f", IDS, "--types", ""), 2, "empty")
        self.fails(run("quantize", "--report", MODEL, "-f", IDS, "--dry-run"), 2, "--dry-run")
        self.fails(run("quantize", "--report", MODEL, "-f", self.folder / "none"), 1, "none")


class Imatrix(Case):
    def test_collects_and_is_used(self):
        matrix, plain, weighed = (self.folder / n for n in ("im.gguf", "plain.gguf", "weighed.gguf"))
        result = run("imatrix", MODEL, "-f", IDS, "--limit", 700, "-o", matrix, "--json")
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual([result.json["tokens"], result.json["windows"], result.json["window"]], [700, 2, 512])
        self.assertTrue(matrix.read_bytes().startswith(b"GGUF" + struct.pack("<I", 3)))
        self.assertEqual(run("quantize", MODEL, plain, "Q4_0").code, 0)
        done = run("quantize", MODEL, weighed, "Q4_0", "--imatrix", matrix)
        self.assertEqual(done.code, 0, done.err)
        self.assertNotEqual(plain.read_bytes(), weighed.read_bytes())
        self.assertIn(b"quantize.imatrix.dataset", weighed.read_bytes())

    def test_bad_input(self):
        self.fails(run("imatrix", MODEL), 2, "-f FILE")
        self.fails(run("imatrix", MODEL, "-f", self.folder / "none"), 1, "none")
        self.fails(run("imatrix", MODEL, "-f", IDS, "--limit", 40, "-o", self.folder / "no" / "im.gguf"), 1, "im.gguf")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_of_another_model(self):
        matrix = self.folder / "im.gguf"
        tiny = ROOT / "tests" / "golden" / "fixtures" / "zamba2-2.7b-tiny"
        ids = self.file("ids.u16", struct.pack("<40H", *range(1, 41)))
        result = run("imatrix", tiny, "-f", ids, "-o", matrix)
        self.assertEqual(result.code, 0, result.err)
        self.fails(run("quantize", MODEL, self.folder / "out.gguf", "Q4_0", "--imatrix", matrix), 1, "im.gguf",
                   "another model")
        self.assertFalse((self.folder / "out.gguf").exists())


if __name__ == "__main__":
    unittest.main()
