#!/usr/bin/env python3
"""test_cli_bench.py — `zamba bench`: its lists, its three reports and whether their numbers agree; --compute, -ctk, -ctv.
No test looks at how fast anything is."""
import csv
import io
import json
import os
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, Case, run  # noqa: E402

THREADS = [1, 2] if len(os.sched_getaffinity(0)) > 1 else [1]
SHORT = ["bench", MODEL, "-p", "16", "-n", "4", "-r", "1", "-t", "1"]


class Report(Case):
    def test_json(self):
        x = run("bench", MODEL, "-p", "16", "-n", "4,6", "-d", "33,0", "-b", "1,2", "-r", "2",
                "-t", ",".join(map(str, THREADS)), "-o", "json").json
        wanted = [(kind, n, depth, batch, threads) for threads in THREADS for depth in (0, 33)
                  for kind, n, batch in (("prompt", 16, 1), ("write", 4, 1), ("write", 6, 1), ("write", 4, 2),
                                         ("write", 6, 2))]
        self.assertEqual([(t["test"], t["n"], t["depth"], t["batch"], t["threads"]) for t in x["tests"]], wanted)
        self.assertEqual([r["threads"] for r in x["runs"]], THREADS)
        self.assertGreater(x["read_bandwidth"], 1e8)
        self.assertGreater(x["products_peak"], 1e8)
        for t in x["tests"]:
            machine = x["runs"][t["threads"] - 1]
            self.assertEqual(len(t["samples"]), 2)
            mean = sum(t["samples"]) / 2
            self.assertAlmostEqual(t["tokens_per_second"], mean, delta=1e-3 * mean)
            self.assertAlmostEqual(t["seconds"] * mean, t["n"] if t["test"] == "prompt" else t["batch"], delta=1e-3)
            operations = t["operations"]
            self.assertGreater(len(operations), 5)
            self.assertAlmostEqual(t["flops"], sum(o["flops"] for o in operations), delta=2 * len(operations))
            self.assertLessEqual(sum(o["seconds"] for o in operations), t["profiled_seconds"] * 1.001)
            for o in [t["products"], *operations]:
                self.assertLess(abs(o["bytes"] - o["bandwidth_fraction"] * o["seconds"] * machine["read_bandwidth"]),
                                1e-4 * o["seconds"] * machine["read_bandwidth"] + 1e3)
            if t["test"] == "write":
                self.assertAlmostEqual(t["bandwidth_fraction"], t["bytes_per_token"] * t["tokens_per_second"]
                                       / machine["read_bandwidth"], delta=1e-3)
                # the i-th of n tokens reads the keys and values of those before it, and writes its own
                length = max(t["depth"], 1) + (t["n"] - 1) / 2
                want = (x["weight_bytes_per_token"] / t["batch"] + 2 * x["state_bytes"]
                        + x["kv_bytes_per_token"] * (length + 1))
                self.assertAlmostEqual(t["bytes_per_token"], want, delta=1)

    def test_csv(self):
        rows = list(csv.DictReader(io.StringIO(run(*SHORT, "-o", "csv").out)))
        self.assertEqual([(r["test"], r["n"]) for r in rows if not r["operation"]], [("prompt", "16"), ("write", "4")])
        for test in ("prompt", "write"):
            names = [r["operation"] for r in rows if r["test"] == test and r["operation"]]
            self.assertIn("lm_head", names)
            self.assertEqual(len(set(names)), len(names))
        for r in rows:
            self.assertNotIn(None, r)  # as many columns as the heading
            self.assertNotIn(None, r.values())

    def test_md(self):
        out = run("bench", MODEL, "-p", "16", "-n", "4", "-d", "0,20", "-b", "1,3", "-t", "1", "-r", "1").out
        for text in ("| prompt 16 ", "| write 4 ", "| write 4 x 3 ", "| prompt 16 at 20 ", "| write 4 at 20 x 3 ", "opened in",
                     "\nprompt 16, 1 thread: where the time goes\n", "\nwrite 4, 1 thread: where the time of a token goes\n",
                     "| all products "):
            self.assertIn(text, out)
        self.assertNotIn("nan", out)
        self.assertNotIn("inf", out)
        self.assertNotIn("(null)", out)
        for block in out.split("\n\n"):  # the bars of a table stand below each other
            lines = [line for line in block.splitlines() if line.startswith("|")]
            bars = [[i for i, c in enumerate(line) if c == "|"] for line in lines]
            self.assertEqual(len({tuple(b) for b in bars}), min(len(bars), 1), block)
        self.assertNotIn("where the time", run(*SHORT, "--no-profile").out)

    def test_progress(self):
        result = run(*SHORT, "--progress", "json")
        lines = [json.loads(line)["progress"] for line in result.err.splitlines()]
        self.assertEqual({line["task"] for line in lines}, {"measuring"})
        self.assertEqual(lines[0]["done"], 0)
        self.assertEqual(lines[-1]["done"], lines[-1]["total"])

    def test_wrong_lists(self):
        for words, *message in (
            [["-p", "x"], "found 'x'"],
            [["-p", "0", "-n", "0"], "nothing to measure"],
            [["-t", "0"], "--threads: found '0'", "wanted 1"],
            [["-t", "1,10000"], "--threads: found '10000'", "this process may use"],
            [["-b", "0"], "from 1 to 256"],
            [["-b", "1,1000"], "from 1 to 256"],
            [["-d", "-5"], "--depth: found -5"],
            [["-p", "9999999"], "from 0 to 1048576"],
            [["-n", ",".join(["1"] * 300)], "at most 256 numbers"],
        ):
            with self.subTest(words=words):
                result = run("bench", *words)
                self.fails(result, 2, *message)
                self.assertEqual(result.out, "")

    def test_tokenizer(self):
        text = self.file("text", "Once upon a time there was a king who had three sons.\n" * 2000)
        x = run("bench", "tokenizer", MODEL, text, "-r", "1", "-o", "json").json
        self.assertEqual(x["bytes"], text.stat().st_size)
        self.assertGreater(x["tokenize_mb_per_cpu_second"], 0)
        self.assertGreater(x["load_ms"], 0)
        self.assertIn("| tokenize", run("bench", "tokenizer", text, "-r", "1").out)
        self.fails(run("bench", "tokenizer", MODEL, "/dev/null"), 1, "empty")

    def test_serve(self):
        words = ["bench", "serve", MODEL, "-n", "160", "-p", "5", "-r", "2", "-b", "1,3"]
        result = run(*words, "-o", "json")
        if "no server" in result.err:
            self.skipTest("this build has no server")
        x = result.json
        self.assertEqual([(r["batch"], len(r["samples"])) for r in x["results"]], [(1, 2), (3, 2)])
        self.assertEqual((x["n_prompt"], x["n_answer"], x["model"]["id"]), (5, 160, "starter-zamba2"))
        one, three = x["results"]
        self.assertEqual(one["ratio"], 1)
        self.assertAlmostEqual(three["ratio"], three["tokens_per_second"] / one["tokens_per_second"], places=3)
        for r in x["results"]:
            self.assertAlmostEqual(r["tokens_per_second"], sum(r["samples"]) / 2, places=3)
            self.assertAlmostEqual(r["per_request"], r["tokens_per_second"] / r["batch"], places=3)
            self.assertGreaterEqual(r["best"], max(r["samples"]) - 1e-3)
            self.assertGreater(r["with_prompts"], 0)
            self.assertTrue(0 < r["first_token_p50_s"] <= r["first_token_p99_s"], r)
            # 0: on a busy machine most tokens may come together with the one before
            self.assertTrue(0 <= r["between_tokens_p50_s"] <= r["between_tokens_p99_s"], r)
        rows = list(csv.DictReader(io.StringIO(run(*words, "-o", "csv").out)))
        self.assertEqual([r["batch"] for r in rows], ["1", "3"])
        self.assertIn("| requests |", run(*words).out)

    def test_serve_wrong(self):
        for words, *message in ((["-b", "0"], "--batch"), (["-b", "1,1000"], "--batch", "256"), (["-n", "8,9"], "one number"),
                                (["-n", "4"], "--n-gen", "from 8"), (["-p", "0"], "from 1"), (["-d", "5"], "--depth"),
                                (["-t", "0"], "--threads"), (["-t", "1,1"], "--threads")):
            self.fails(run("bench", "serve", MODEL, *words), 2, *message)
        self.fails(run("bench", "serve", "/nonexistent"), 1, "/nonexistent")
        self.fails(run("bench", "serve", MODEL, "another"), 2, "another")


class ModelOptions(Case):
    def test_types_that_do_not_exist(self):
        for command in (["run"], ["chat"], ["bench"], ["perplexity", MODEL, "x"], ["debug", "logits"], ["inspect"]):
            for option in ("-ctk", "-ctv", "--cache-type-k", "--cache-type-v"):
                self.fails(run(*command, option, "q4_0"), 2, f"{option}: found 'q4_0'", "auto|f32|f16|bf16|q8_0")
        self.fails(run("run", "--compute", "fp8"), 2, "--compute: found 'fp8'", "auto|f32|bf16")
        self.fails(run("run", "-ctk"), 2, "-ctk needs a value")
        self.fails(run("run", "-cta", "f16"), 2)
        self.fails(run("tokenize", "-ctk", "f16"), 2)

    def test_single_dash(self):
        for words in (["-ctk", "q8_0"], ["-ctk=q8_0"], ["--cache-type-k", "q8_0"], ["--cache-type-k=q8_0"], ["--ctk", "q8_0"]):
            x = run(*SHORT, *words, "-ctv", "bf16", "--compute", "f32", "-o", "json").json
            self.assertEqual((x["kv_k"], x["kv_v"], x["compute"]), ("q8_0", "bf16", "f32"), words)


if __name__ == "__main__":
    unittest.main(verbosity=1)
