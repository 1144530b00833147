#!/usr/bin/env python3
"""test_rivals.py — the scripts of bench/ without a rival: the table that they write, ratios of neighbours, what happens to a
disturbed sample, and the conversation with a program that answers wrongly. No rival and no model is needed."""
import json
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import rivals_process  # noqa: E402
import rivals_table  # noqa: E402
from rivals_process import Failed, Meter, Program, neighbours, step_seconds  # noqa: E402

MACHINE = {"cpu": "Some CPU", "cores": 2, "kernels": "avx2"}
FAKE = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "quit":
        break
    if request["do"] == "long":
        print(json.dumps({"progress": [1, 2]}))
        print(json.dumps({"done": request["n"]}))
    elif request["do"] == "die":
        sys.exit(3)
    else:
        print(json.dumps({"error": "no such request"}))
    sys.stdout.flush()
"""


def result(row, threads, value, **more):
    base = dict(row=row, model="1.2b", threads=threads, value=value, ours="7 tokens/s", beside="6 tokens/s",
                time="2026-01-02T03:04:05Z", commit="abc", machine=MACHINE)
    return dict(base, **more)


class Table(unittest.TestCase):
    def test_newest_of_each_row_in_order(self):
        lines = rivals_table.table([
            {"job": "decode/1.2b"}, result("prefill-512", 1, 2.0), result("decode-llama", 2, 1.0),
            result("decode-llama", 1, 1.05), result("decode-llama", 1, 1.15, time="2026-02-02T00:00:00Z"),
            result("decode-llama", 1, 1.2, model="7b"), result("decode-llama", 1, 1.2, model="2.7b"),
            result("eight-ttft", 2, 0.5, model=""), result("row-of-an-older-script", 1, 1.0)])
        rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| work", "| ---"))]
        self.assertEqual(len(rows), 6)
        self.assertIn("| 1 | 7 tokens/s | 6 tokens/s | 1.15 x | ≥ 1.1 x | met | 2026-02-02, abc |", rows[0])
        self.assertIn("| 1.00 x | ≥ 1.1 x | not met |", rows[1])
        self.assertEqual([m in r for m, r in zip(("2.7B", "7B", "512"), rows[2:5])], [True] * 3)
        self.assertIn("| 0.50 x |  |  |", rows[5])  # reported, no bar
        self.assertIn("4 bars met, 1 not met.", lines)

    def test_bars(self):
        self.assertTrue(rivals_table.met("kv8", 1.1))
        self.assertFalse(rivals_table.met("kv8", 1.11))
        self.assertTrue(rivals_table.met("decode-read", 0.9))
        self.assertFalse(rivals_table.met("decode-read", 0.899))
        self.assertIsNone(rivals_table.met("eight-ttft", 3))
        for model, bar in (("1.2b-q8_0", 0.85), ("1.2b-q4_k_m", 0.70), ("1.2b-q4_0", 0.75)):
            self.assertTrue(rivals_table.met("quant-read", bar, model, 2))
            self.assertFalse(rivals_table.met("quant-read", bar - 0.01, model, 2))
        self.assertTrue(rivals_table.met("quant-llama", 1.15, "1.2b-q4_0", 2))
        self.assertFalse(rivals_table.met("quant-llama", 1.49, "1.2b-q4_0", 1))

    def test_probes_and_disturbance(self):
        lines = rivals_table.table([
            result("decode-read", 1, 0.9, probes=dict(read=30e9, f32=1e11, bf16=2e11), rival_version="llama 1"),
            result("decode-llama", 1, 0.9, probes=dict(read=20e9, f32=1e11, bf16=2.4e11, int8=4.8e11), disturbed=1)])
        self.assertIn("- 1 thread: reads 30.0 GB/s, products in f32 100, in bf16 240 GFLOP/s, of bytes 480 G/s (best of all "
                      "probes between the tests)", lines)
        self.assertIn("- rivals: llama 1", lines)
        self.assertIn("90 % | ≥ 90 % | met", lines[-4])
        self.assertIn(", disturbed |", lines[-3])

    def test_between_the_markers(self):
        text = f"head\n{rivals_table.BEGIN}\nold\n{rivals_table.END}\ntail\n"
        once = rivals_table.put_between(text, ["new", "lines"])
        self.assertEqual(once, f"head\n{rivals_table.BEGIN}\nnew\nlines\n{rivals_table.END}\ntail\n")
        self.assertEqual(rivals_table.put_between(once, ["new", "lines"]), once)
        self.assertTrue(rivals_table.put_between("head\n", ["x"]).endswith(f"x\n{rivals_table.END}\n"))

    def test_the_document_has_the_markers(self):
        text = (ROOT / "docs/SPEED.md").read_text()
        self.assertEqual((text.count(rivals_table.BEGIN), text.count(rivals_table.END)), (1, 1))


class Prober:
    def ask(self, do, **values):
        return dict(read=10.0, f32=1.0, bf16=2.0, int8=4.0)


class Measuring(unittest.TestCase):
    def setUp(self):
        self.slept = rivals_process.wait_idle
        rivals_process.wait_idle = lambda *_: None

    def tearDown(self):
        rivals_process.wait_idle = self.slept

    def test_neighbours_follow_a_machine_that_slows_down(self):
        mine = [1.0, 2.0, 4.0, 8.0]  # twice as slow with every sample; the rival always 1.5 times the mean beside it
        theirs = [1.5 * (a + b) / 2 for a, b in zip(mine, mine[1:])]
        self.assertAlmostEqual(neighbours(mine, theirs), 1.5)

    def test_clock_of_one_thread_is_its_own(self):
        answer = dict(walls=[9, 9, 9], cpus=[1, 5, 2])
        self.assertEqual(step_seconds(answer, 1), 2)
        self.assertEqual(step_seconds(answer, 2), 9)

    def test_disturbed_samples_are_taken_again(self):
        others = iter([0.5, 0.05, 0.0, 0.9, 0.9, 0.9])
        meter = Meter(Prober(), threads=2, rounds=1, wait=0)
        ask = lambda: dict(walls=[1.0], cpus=[7.0], other=next(others), bytes=5)  # noqa: E731
        self.assertEqual(meter.take(ask)["other"], 0.05)
        self.assertEqual((meter.take(ask)["other"], meter.disturbed), (0.0, 0))
        self.assertEqual((meter.take(ask)["other"], meter.disturbed), (0.9, 1))  # three times: kept, and said

    def test_turns(self):
        order = []
        meter = Meter(Prober(), threads=1, rounds=2, wait=0)

        def ask(name, seconds):
            order.append(name)
            return dict(walls=[9.0], cpus=[seconds], other=0.0)

        mine, theirs, ratio = meter.turns(lambda: ask("z", 2.0), lambda: ask("l", 3.0))
        self.assertEqual("".join(order), "zlzlz")
        self.assertEqual((len(mine), len(theirs), ratio, len(meter.probes)), (3, 2, 1.5, 6))


class Conversation(unittest.TestCase):
    def test_answers_errors_and_death(self):
        with tempfile.TemporaryDirectory() as folder:
            with Program("fake", [sys.executable, "-c", FAKE], Path(folder) / "log") as program:
                self.assertEqual(program.ask("long", n=7)["done"], 7)
                with self.assertRaisesRegex(Failed, "fake: dance: no such request"):
                    program.ask("dance")
                with self.assertRaisesRegex(Failed, r"fake ended at 'die' \(code 3\)"):
                    program.ask("die")
                with self.assertRaises(Failed):
                    program.ask("long", n=1)

    def test_lines_of_the_runners(self):
        import rival_lines
        self.assertEqual(rival_lines.random_ids(3, 1000), rival_lines.random_ids(5, 1000)[:3])
        self.assertGreater(rival_lines.memory()["rss"], 1e6)
        with rival_lines.Clock() as clock:
            clock.lap()
        json.dumps(clock.answer)


if __name__ == "__main__":
    unittest.main(verbosity=1)
