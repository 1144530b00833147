#!/usr/bin/env python3
"""test_cli_replay.py — `zamba replay`: what is said of small real games, frames in every format, learning from one and
playing it back, and files that are none."""
import csv
import io
import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import PROGRAM, ROOT, TIMEOUT, environment, read_safetensors, run  # noqa: E402

GAMES = ROOT / "tests" / "replay" / "fixtures"
OLD, NEW, ODD = GAMES / "v1.7.1.slp", GAMES / "v3.19.1.slp", GAMES / "odd.slp"
EXPECTED = json.loads((GAMES / "expected.json").read_text())
QUICK = ("--hidden-size", 8, "--num-heads", 2, "--head-dim", 4, "--state-size", 2, "--seq-len", 8, "--batch-size", 4,
         "-t", 1, "--progress", "none")


class Replay(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def good(self, *args, **more):
        result = run("replay", *args, **more)
        self.assertEqual(result.code, 0, result.err)
        return result

    def test_info(self):
        for game, name in ((OLD, "v1.7.1.slp"), (NEW, "v3.19.1.slp"), (ODD, "odd.slp")):
            got, want = self.good("info", game, "--json").json, EXPECTED[name]
            for key in ("version", "stage", "first_frame", "last_frame", "frames", "events"):
                self.assertEqual(got[key], want[key], key)
            self.assertEqual(set(got["totals"]), set(want["totals"]))
            for actor, sums in want["totals"].items():
                for key, value in sums.items():
                    self.assertAlmostEqual(got["totals"][actor][key], value, delta=1e-12 * abs(value), msg=key)
            self.assertEqual([{k: p[k] for k in ("port", "character", "type", "stocks")} for p in got["players"]],
                             want["players"])
        self.assertEqual(self.good("info", NEW, "--json").json["played_on"], "mainline dolphin")
        odd = self.good("info", ODD, "--json").json
        self.assertTrue(odd["cut_off"])
        self.assertEqual(odd["rolled_back"], 6)
        text = self.good("info", OLD, NEW).out
        self.assertIn("Sheik, person, 4 stocks", text)
        self.assertIn("Mewtwo, computer", text)
        self.assertEqual(len(self.good("info", OLD, NEW, "--json").json), 2)

    def test_frames(self):
        want = EXPECTED["v1.7.1.slp"]["samples"]["50"]
        lines = self.good("frames", OLD, "--json").lines
        row = next(line for line in lines if line["frame"] == 50 and line["port"] == 3)
        for part in ("pre", "post"):
            for key, value in want["3.0"][part].items():
                if value is None:
                    self.assertIsNone(row[part][key], key)
                else:
                    self.assertAlmostEqual(row[part][key], value, delta=1e-6 * max(1, abs(value)))
        rows = list(csv.DictReader(io.StringIO(self.good("frames", OLD, "--port", 3).out)))
        self.assertEqual(len(rows), EXPECTED["v1.7.1.slp"]["frames"])
        at = next(r for r in rows if r["frame"] == "50")
        self.assertAlmostEqual(float(at["post.x"]), want["3.0"]["post"]["x"], places=4)
        self.assertEqual(at["post.hitstun"], "")
        self.assertEqual({(r["port"], r["follower"]) for r in rows}, {("3", "0")})
        followers = [line for line in self.good("frames", ODD, "--json").lines if line["follower"]]
        self.assertEqual(len(followers), 121)

    def test_features(self):
        n = EXPECTED["v3.19.1.slp"]["frames"]
        raw = self.good("frames", NEW, "--features", "exphil", "--format", "f32", "--port", 1).raw
        self.assertEqual(len(raw), 4 * 287 * n)
        header = self.good("frames", NEW, "--features", "exphil", "--port", 1).out.split("\n")[0].split(",")
        self.assertEqual(len(header), 3 + 287)
        path = self.folder / "x.safetensors"
        self.good("frames", NEW, "--features", "trial", "-o", path)
        tensors = read_safetensors(path)
        self.assertEqual(tensors["port0.features"][0], [n, 33])
        self.assertEqual(tensors["port1.controller"][0], [n, 13])
        self.assertEqual(tensors["port0.frame"][1][0], -123.0)
        self.good("frames", NEW, "-o", path)
        tensors = read_safetensors(path)
        self.assertEqual(tensors["port0.pre"][0], [n, 12])
        self.assertEqual(tensors["port0.post"][0], [n, 18])
        first = struct.unpack("<287f", raw[:4 * 287])
        self.assertEqual(first[header.index("own.character") - 3], 16.0)

    def test_train_and_play(self):
        path = self.folder / "run"
        got = self.good("train", OLD, "--test", ODD, "-o", path, "--max-steps", 6, "--eval-steps", 3, "--temporal",
                        "--backbone", "zamba", "--num-layers", 2, "--attention-interval", 2, *QUICK, "--json").lines
        steps, tests = [line for line in got if "loss" in line], [line for line in got if "test_loss" in line]
        self.assertEqual([line["step"] for line in steps], [1, 2, 3, 4, 5, 6])
        self.assertEqual([line["step"] for line in tests], [0, 3, 6])
        self.assertLess(tests[-1]["test_loss"], tests[0]["test_loss"])
        self.assertIn("Main stick, left and right", (path / "report.html").read_text())
        self.assertEqual(len(json.loads((path / "plots.json").read_text())), 2)
        self.assertEqual(json.loads((path / "config.json").read_text())["model"]["hidden_size"], "8")
        played = self.good("play", ODD, "--model", path / "policy", "--json").lines
        summary = played.pop()["summary"]
        self.assertEqual(summary["frames"], len(played))
        self.assertEqual(played[0]["frame"], -38)
        self.assertEqual(set(played[0]["policy"]), set(played[0]["player"]))
        self.assertIn("frames a second", self.good("play", ODD, "--model", path / "policy", "--port", 1).out)
        again = run("replay", "train", OLD, "-o", path, "--max-steps", 1, *QUICK)
        self.assertEqual(again.code, 1)
        self.assertIn("holds a training run already", again.err)
        both = run("replay", "train", OLD, "-o", path, "--resume", "--force", *QUICK)
        self.assertEqual(both.code, 2)
        self.assertIn("--resume goes on with a run, --force begins it anew", both.err)
        self.assertEqual(run("report", path, "-o", self.folder / "r.html").code, 0)
        self.assertIn("Main stick, up and down", (self.folder / "r.html").read_text())

    def test_same_seed_same_policy(self):
        for name in ("a", "b"):
            self.good("train", OLD, "-o", self.folder / name, "--max-steps", 3, "--seed", 7, "--features", "exphil",
                      *QUICK)
        a, b = ((self.folder / name / "policy" / "model.safetensors").read_bytes() for name in ("a", "b"))
        self.assertEqual(a, b)

    def train(self, out, *more, steps=6):
        return run("replay", "train", OLD, "--test", ODD, "-o", self.folder / out, "--max-steps", steps, "--eval-steps", 2,
                   "--save-steps", 2, "--save-total-limit", 2, *QUICK, *more)

    def test_resume(self):
        """A run that was stopped goes on as if it had not been, to the byte; what is not its own is refused."""
        whole = self.train("whole")
        self.assertEqual(whole.code, 0, whole.err)
        part = self.folder / "part"
        shutil.copytree(self.folder / "whole", part)
        self.assertEqual(sorted(p.name for p in part.glob("checkpoint-*")), ["checkpoint-000004", "checkpoint-000006"])
        self.assertEqual((part / "latest").read_text(), "checkpoint-000006\n")
        shutil.rmtree(part / "checkpoint-000006")  # as if it had been killed behind step 4
        shutil.rmtree(part / "policy")
        (part / "checkpoint-000006.tmp-1-0").mkdir()
        for more, text in ((("--seed", 3), "--seed 0, found 3"), (("--batch-size", 5), "--batch-size 4, found 5"),
                           (("--seq-len", 9), "--seq-len 8, found 9"), ((NEW,), "learns from other data"),
                           (("--features", "exphil"), "another model"), (("--num-layers", 1), "num_layers is 2"),
                           (("--window-size", 9), "window_size is 60, the model's is 9"), (("--heads", "exphil"), "heads")):
            before = {p: p.read_bytes() for p in part.rglob("*") if p.is_file()}
            refused = self.train("part", "--resume", *more)
            self.assertEqual(refused.code, 1, more)
            self.assertIn(text, refused.err)
            self.assertEqual({p: p.read_bytes() for p in part.rglob("*") if p.is_file()}, before, more)
        again = self.train("part", "--resume", "--json")
        self.assertEqual(again.code, 0, again.err)
        self.assertEqual([x["step"] for x in again.lines if "loss" in x], [5, 6])
        for name in ("model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.json"):
            a, b = (self.folder / x / "checkpoint-000006" / name for x in ("whole", "part"))
            self.assertEqual(a.read_bytes(), b.read_bytes(), name)
        for name in ("policy/model.safetensors", "plots.json"):
            self.assertEqual(*((self.folder / x / name).read_bytes() for x in ("whole", "part")))
        self.assertEqual(sorted(p.name for p in part.glob("checkpoint-*")), ["checkpoint-000004", "checkpoint-000006"])
        metrics = [[{k: v for k, v in json.loads(x).items() if "second" not in k}
                    for x in (self.folder / name / "metrics.jsonl").read_text().splitlines()] for name in ("whole", "part")]
        self.assertEqual(*metrics)
        done = self.train("part", "--resume")
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual((part / "policy" / "model.safetensors").read_bytes(),
                         (self.folder / "whole" / "policy" / "model.safetensors").read_bytes())
        anew = self.train("part", "--force", steps=2)
        self.assertEqual(anew.code, 0, anew.err)
        self.assertEqual((part / "latest").read_text(), "checkpoint-000002\n")

    def test_resume_foreign(self):
        """A checkpoint of another command."""
        out = self.folder / "run"
        self.assertEqual(self.train("run", steps=2).code, 0)
        state = out / "checkpoint-000002" / "trainer_state.json"
        data = json.loads(state.read_text())
        state.write_text(json.dumps({**data, "format": "zamba trainer"}))
        refused = self.train("run", "--resume")
        self.assertEqual(refused.code, 1)
        self.assertIn("wanted \"zamba backbone trainer\"", refused.err)
        state.write_text(json.dumps({**data, "data": None}))
        refused = self.train("run", "--resume")
        self.assertEqual(refused.code, 1)
        self.assertIn("does not say where the data stood", refused.err)
        state.write_text("{")
        self.assertEqual(self.train("run", "--resume").code, 1)

    def test_stopped(self):
        out = self.folder / "run"
        process = subprocess.Popen([PROGRAM, "replay", "train", OLD, "-o", out, "--max-steps", "1000000", "--json",
                                    *map(str, QUICK)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        while json.loads(process.stdout.readline())["step"] < 3:
            pass
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 130, err.decode())
        self.assertIn("--resume goes on", err.decode())
        self.assertTrue((out / "policy" / "model.safetensors").exists())
        state = json.loads((out / (out / "latest").read_text().strip() / "trainer_state.json").read_text())
        self.assertGreaterEqual(state["step"], 3)

    def test_wrong(self):
        cut = self.folder / "cut.slp"
        cut.write_bytes(OLD.read_bytes()[:5000])
        for words, code, text in (
                (("info", cut), 1, "cut-off file?"),
                (("info", GAMES / "NOTICE"), 1, "no Slippi replay"),
                (("info", self.folder / "none.slp"), 1, "none.slp"),
                (("info",), 2, "needs a FILE"),
                (("dance", OLD), 2, "wanted info, frames, train or play"),
                (("frames", OLD, "--port", 0), 1, "nobody plays at port 0"),
                (("frames", OLD, "--port", 9), 2, "from 0 to 3"),
                (("train", OLD), 2, "-o RUN"),
                (("train", OLD, "-o", self.folder / "r", "--test", OLD), 1, "leave it out of one"),
                (("train", OLD, "-o", self.folder / "r", "--test", GAMES / ".." / "fixtures" / OLD.name), 1, "leave it out"),
                (("train", OLD, "-o", self.folder / "r", "--features", "fields"), 2, "found 'fields', wanted exphil"),
                (("train", OLD, "-o", self.folder / "r", "--heads", "many"), 2, "linear|exphil"),
                (("train", OLD, "-o", self.folder / "r", "--max-steps", 5, "--warmup-steps", 6), 2, "run has 5 steps"),
                (("train", cut, "-o", self.folder / "r"), 1, "cut-off file?"),
                (("train", OLD, "-o", self.folder / "r", "--test", cut), 1, "cut-off file?"),
                (("train", OLD, "-o", cut), 1, "Not a directory"),
                (("train", OLD, "-o", self.folder / "r", "--embed-dim", 5), 2, "--features"),
                (("train", OLD, "-o", self.folder / "r", "--num-layers", "many"), 2, "num_layers"),
                (("train", OLD, "-o", self.folder / "r", "--seq-len", 5000), 1, "without a gap"),
                (("train", NEW, "-o", self.folder / "r", "--port", 3), 1, "port 3"),
                (("play", OLD), 2, "--model"),
                (("play", OLD, "--model", self.folder), 1, "config.json")):
            result = run("replay", *words)
            self.assertEqual(result.code, code, (words, result.err))
            self.assertIn(text, result.err)
            self.assertEqual(result.out, "")


if __name__ == "__main__":
    unittest.main()
