#!/usr/bin/env python3
"""test_cli_backbone.py — `zamba backbone`: what the documents say of the default shape, streams that answer frame by
frame and give what whole sequences give, the bench, training, and input that is wrong."""
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import PROGRAM, ROOT, SANITIZED, TIMEOUT, environment, run  # noqa: E402

CASES = ROOT / "tests" / "backbone" / "fixtures"
SMALL = ("--embed-dim", 5, "--hidden-size", 8, "--num-layers", 2, "--attention-every", 2, "--num-heads", 2,
         "--head-dim", 4, "--state-size", 4)


def floats(raw):
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def numbers(n, seed=1):
    out = []
    for _ in range(n):
        seed = (seed * 1103515245 + 12345) % 2**31
        out.append(seed / 2**30 - 1)
    return struct.pack(f"<{n}f", *out)


def tensor(path, name):
    data = Path(path).read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    t = json.loads(data[8:8 + n])[name]
    first, last = t["data_offsets"]
    return t["shape"], floats(data[8 + n + first:8 + n + last])


class Backbone(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def good(self, *args, **more):
        result = run("backbone", *args, **more)
        self.assertEqual(result.code, 0, result.err)
        return result

    def model(self, *options):
        path = self.folder / "model"
        self.good("init", *SMALL, *options, "-o", path, "--force")
        return path

    def test_documented_numbers(self):
        info = self.good("info", "--embed-dim", 287, "--json").json
        self.assertEqual((info["param_count"], info["exact_count"], info["state_bytes"], info["output_size"]),
                         (3428096, 3435808, 479232, 256))
        self.assertEqual(info["layer_pattern"], ["mamba", "mamba", "mamba_attention"] * 2)
        self.assertEqual(info["options"]["attention_every"], 3)
        text = self.good("info").out
        self.assertIn("3,435,808", text)
        self.assertEqual(self.good("compare", "--json").json,
                         dict(zamba_params=3428096, jamba_params=4214528, savings=786432, savings_percent=18.7,
                              clamped=False))
        for name in ("--attention-interval", "--attention-every"):
            got = self.good("compare", "--num-layers", 12, name, 6, "--temporal", "--backbone", "zamba", "--json").json
            self.assertEqual((got["zamba_params"], got["savings_percent"]), (5996288, 11.6))
        self.assertTrue(self.good("compare", "--num-layers", 2, "--json").json["clamped"])
        self.assertIn("share", self.good("pattern").out)
        self.assertEqual(self.good("pattern", "--preset", "nexus", "--embed-size", 64, "--num-layers", 6, "--json").json,
                         ["mamba"] * 5 + ["attention"])

    def test_stream_is_forward(self):
        model, frames = self.model(), numbers(5 * 40)
        whole = self.good("forward", model, "--all", stdin=frames).raw
        self.assertEqual(len(whole), 4 * 8 * 40)
        self.assertEqual(self.good("stream", model, stdin=frames).raw, whole)
        self.assertEqual(self.good("forward", model, stdin=frames).raw, whole[-32:])
        self.assertEqual(self.good("stream", model, stdin=b"").raw, b"")
        two = self.good("forward", model, "--batch", 2, "-o", self.folder / "y.safetensors", stdin=frames)
        self.assertEqual(two.raw, b"")
        shape, y = tensor(self.folder / "y.safetensors", "output")
        self.assertEqual((shape, y[:8]), ([2, 8], floats(whole[19 * 32:20 * 32])))
        # the last 4 frames anew: another function, but the same as long as there were no more
        window = self.good("stream", model, "--reencode", 4, stdin=frames).raw
        self.assertEqual(window[:4 * 32], whole[:4 * 32])
        self.assertNotEqual(window[-32:], whole[-32:])

    def test_answers_before_it_reads_on(self):
        model, frames = self.model(), numbers(5 * 3)
        child = subprocess.Popen([PROGRAM, "backbone", "stream", str(model)], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, env=environment())
        got = b""
        for i in range(3):
            child.stdin.write(frames[20 * i:20 * (i + 1)])
            child.stdin.flush()
            got += child.stdout.read(32)  # would wait for ever if it were not flushed
        child.stdin.close()
        self.assertEqual((child.wait(TIMEOUT), child.stdout.read()), (0, b""))
        child.stdout.close()
        self.assertEqual(got, self.good("stream", model, stdin=frames).raw)

    @unittest.skipUnless(shutil.which("elixir"), "no elixir")
    def test_elixir(self):
        """examples/backbone_port.exs, as its head says."""
        model, folder = self.folder / "agent", self.folder / "bin"
        self.good("init", "--embed-dim", 32, "--hidden-size", 64, "-o", model)
        folder.mkdir()
        (folder / "zamba").symlink_to(Path(PROGRAM).resolve())
        env = environment(PATH=f"{folder}:{os.environ['PATH']}")
        script = ["elixir", str(ROOT / "examples" / "backbone_port.exs")]
        done = subprocess.run([*script, str(model)], env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        frames = b"".join(struct.pack("<32f", *(math.sin(0.05 * t * i) for i in range(1, 33))) for t in range(60))
        want = floats(self.good("stream", model, stdin=frames).raw)[::64]
        got = [float(line.split()[2]) for line in done.stdout.splitlines()]
        self.assertEqual(len(got), 60)
        self.assertLess(max(abs(x - y) for x, y in zip(got, want)), 1e-4)
        done = subprocess.run([*script, str(self.folder)], env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("zamba ended with code 1", done.stderr)

    def test_timelines(self):
        model, a, b = self.model(), numbers(5 * 6), numbers(5 * 6, 99)
        mixed = b"".join(a[20 * i:20 * i + 20] + b[20 * i:20 * i + 20] for i in range(6))
        got = self.good("stream", model, "--batch", 2, stdin=mixed).raw
        for k, one in enumerate((a, b)):
            self.assertEqual(b"".join(got[64 * i + 32 * k:64 * i + 32 * k + 32] for i in range(6)),
                             self.good("stream", model, stdin=one).raw)

    def test_not_finite(self):
        model, nan = self.model(), struct.pack("<5f", 0, 0, float("nan"), 0, 0)
        frames = numbers(5 * 4)
        mixed = frames[:40] + nan + frames[40:]
        refused = run("backbone", "stream", model, stdin=mixed)
        self.assertEqual((refused.code, len(refused.raw)), (1, 64))
        self.assertIn("frame 2", refused.err)
        good = self.good("stream", model, stdin=frames).raw
        skipped = self.good("stream", model, "--non-finite", "skip", stdin=mixed)
        self.assertEqual(skipped.raw, good[:64] + good[32:64] + good[64:])
        self.assertIn("left out", skipped.err)
        passed = run("backbone", "stream", model, "--non-finite", "pass", stdin=mixed)
        self.assertEqual(passed.raw[:64], good[:64])

    def test_fixture(self):
        case = CASES / "every3_of_7"
        options = json.loads((case / "case.json").read_text())["options"]
        words = [w for name, value in options.items() for w in ("--" + name.replace("_", "-"), str(value).lower())]
        model = self.folder / "m"
        self.good("init", *words, "--import", case / "weights.safetensors", "-o", model)
        self.good("forward", model, "--all", "--frames", case / "inputs.safetensors", "-o", self.folder / "y.safetensors")
        shape, want = tensor(case / "outputs.safetensors", "every")
        got_shape, got = tensor(self.folder / "y.safetensors", "output")
        self.assertEqual(got_shape, shape)
        self.assertLess(max(abs(x - y) for x, y in zip(got, want)), 1e-5)

    def test_train(self):
        case = CASES / "every3_of_7"
        options = json.loads((case / "case.json").read_text())["options"]
        words = [w for name, value in options.items() for w in ("--" + name.replace("_", "-"), str(value).lower())]
        lines = self.good("train", *words, "--dropout", 0, "--data", case / "inputs.safetensors", "-o", self.folder / "r",
                          "--max-steps", 8, "--warmup-steps", 0, "-t", 1, "--json", "--progress", "none").lines
        self.assertEqual(len(lines), 8)
        self.assertLess(lines[-1]["loss"], lines[0]["loss"])
        self.assertTrue((self.folder / "r" / "report.html").exists())
        self.good("info", self.folder / "r" / "model")

    def test_resume(self):
        case = CASES / "every3_of_7"
        options = json.loads((case / "case.json").read_text())["options"]
        words = [w for name, value in options.items() for w in ("--" + name.replace("_", "-"), str(value).lower())]
        words += ["--batch-size", 2, "--max-steps", 6, "--save-steps", 2, "-t", 1, "--progress", "none", "--data"]
        data = case / "inputs.safetensors"
        whole, part = self.folder / "whole", self.folder / "part"
        self.good("train", *words, data, "-o", whole)
        shutil.copytree(whole, part)
        for name in ("checkpoint-000006", "checkpoint-000004", "model"):
            shutil.rmtree(part / name)
        refused = run("backbone", "train", *words, data, "-o", part)
        self.assertEqual(refused.code, 1)
        self.assertIn("--resume goes on", refused.err)
        changed = self.folder / "changed.safetensors"
        changed.write_bytes(data.read_bytes()[:-1] + b"\x3e")
        refused = run("backbone", "train", *words, changed, "-o", part, "--resume")
        self.assertEqual(refused.code, 1)
        self.assertIn("learns from other data", refused.err)
        lines = self.good("train", *words, data, "-o", part, "--resume", "--json").lines
        self.assertEqual([x["step"] for x in lines], [3, 4, 5, 6])
        for name in ("model/model.safetensors", "checkpoint-000006/optimizer.safetensors", "checkpoint-000006/trainer_state.json"):
            self.assertEqual((whole / name).read_bytes(), (part / name).read_bytes(), name)

    def test_train_wrong(self):
        case, out, path = CASES / "every3_of_7", self.folder / "r", self.folder / "x.safetensors"
        nan, inf = float("nan"), float("inf")

        def write(**tensors):
            header, data = {}, b""
            for name, (shape, values) in tensors.items():
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * len(values)]}
                data += struct.pack(f"<{len(values)}f", *values)
            text = json.dumps(header).encode()
            path.write_bytes(struct.pack("<Q", len(text)) + text + data)

        good = ([2, 3, 5], [0.0] * 30)
        for frames, target, words, text in (
                (([2, 3, 5], [0.0] * 17 + [nan] + [0.0] * 12), ([2, 8], [0.0] * 16), (), "number 2 of frame 0 of row 1"),
                (good, ([2, 8], [0.0] * 15 + [inf]), (), "`target`: number 7 of row 1 is not finite"),
                (([2, 3, 6], [0.0] * 36), ([2, 8], [0.0] * 16), (), "frames of 6 numbers and targets of 8"),
                (([6, 5], [0.0] * 30), ([2, 8], [0.0] * 16), (), "`frames` of 2 dimensions"),
                (([3, 2, 5], [0.0] * 30), ([2, 8], [0.0] * 16), (), "`frames` has 3 rows and `target` 2"),
                (good, ([2, 8], [0.0] * 16), ("--max-steps", 3, "--warmup-steps", 4), "run has 3 steps")):
            write(frames=frames, target=target)
            refused = run("backbone", "train", *SMALL, *words, "--data", path, "-o", out, "--progress", "none")
            self.assertEqual(refused.code, 2 if words else 1, refused.err)
            self.assertIn(text, refused.err)
        refused = run("backbone", "train", *SMALL, "--data", case / "case.json", "-o", out)
        self.assertEqual(refused.code, 1)

    def test_bench(self):
        got = self.good("bench", *SMALL, "-n", 200, "--json", "--progress", "none").json
        self.assertEqual(set(got["weights"]), {"f32", "bf16", "int8"})
        info = self.good("info", *SMALL, "--json").json
        for name, kind in got["weights"].items():
            self.assertEqual(kind["step"]["n"], 200)
            self.assertEqual(kind["rollback"]["n"], 3)
            self.assertTrue(kind["same_after_rollback"])
            self.assertIn(kind["allocations"], (-1,) if SANITIZED else (0,))
            self.assertEqual(kind["stream_bytes"], info["memory"][name]["stream_bytes"])
        text = self.good("bench", *SMALL, "-n", 130, "--weights", "bf16", "--fps", 1000, "--load", "--progress",
                         "none").out
        self.assertIn("restore + 7 steps", text)
        self.assertNotIn("f32", text)
        self.assertNotIn("warming", text)
        warmed = self.good("bench", *SMALL, "-n", 130, "--weights", "int8", "--fps", 500, "--warm", 1, "--json",
                           "--progress", "none").json["weights"]["int8"]
        self.assertEqual(warmed["warm"]["n"], 130)
        self.assertTrue(warmed["same_after_rollback"])
        self.assertIn(warmed["allocations"], (-1,) if SANITIZED else (0,))

    def test_stream_warmed(self):
        """Frames that come late, early and in pieces: the same vectors as without."""
        model = self.model()
        frames = numbers(5 * 6)
        plain = self.good("stream", model, stdin=frames).raw
        child = subprocess.Popen([PROGRAM, "backbone", "stream", str(model), "--fps", "100", "--warm", "2"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(child.kill)
        for i in range(0, len(frames), 20):
            child.stdin.write(frames[i:i + 7])
            child.stdin.flush()
            time.sleep((0, 0.02, 0.009)[i // 20 % 3])
            child.stdin.write(frames[i + 7:i + 20])
            child.stdin.flush()
            time.sleep((0.03, 0, 0.01)[i // 20 % 3])
        child.stdin.close()
        self.assertEqual(child.stdout.read(), plain)
        child.stdout.close()
        self.assertEqual(child.wait(), 0)

    def test_wrong(self):
        model = self.model()
        gated = self.folder / "gated"
        self.good("init", *SMALL, "--block", "gated", "-o", gated)
        bad = self.folder / "bad.safetensors"
        bad.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
        for words, stdin, code, text in (
                ((), b"", 2, "wanted info, pattern"),
                (("dance",), b"", 2, "dance"),
                (("info", "--num-layers", "0"), b"", 2, "num_layers"),
                (("info", "--preset", "none"), b"", 2, "preset"),
                (("info", "--hidden-size", "x"), b"", 2, "hidden_size"),
                (("info", model, "--hidden-size", 9), b"", 2, "--hidden-size"),
                (("info", self.folder), b"", 1, "config.json"),
                (("init", *SMALL), b"", 2, "-o FOLDER"),
                (("init", *SMALL, "-o", model), b"", 1, str(model)),
                (("stream", model), numbers(7), 1, "ended inside frame 1"),
                (("stream", gated), numbers(5), 1, "gated"),
                (("stream", model, "--logits"), b"", 1, "no heads"),
                (("stream", model, "--reencode", 4, "--batch", 2), b"", 1, "--reencode"),
                (("forward", model), numbers(7), 1, "frames of 5"),
                (("forward", model), b"abc", 1, "float32"),
                (("forward", model, "--frames", bad), b"", 1, "no safetensors file"),
                (("forward", model, "--frames", CASES / "every3_of_7" / "weights.safetensors"), b"", 1, "frames"),
                (("info", model, "--fps", 60), b"", 2, "--fps goes with bench and stream"),
                (("bench", *SMALL, "--warm", 1), b"", 2, "--warm 1 wants --fps"),
                (("stream", model, "--warm", 20, "--fps", 60), b"", 2, "less than the milliseconds"),
                (("stream", model, "--warm", 2, "--fps", 60, "--reencode", 4), b"", 1, "--warm goes with steps"),
                (("stream", model, "--all"), b"", 2, "--all goes with forward"),
                (("bench", *SMALL, "--logits"), b"", 2, "--logits goes with stream and forward"),
                (("forward", model, "--non-finite", "skip"), b"", 2, "goes with stream"),
                (("forward", model, "--frames", "-", "--reencode", 3), b"", 2, "--reencode goes with stream"),
                (("info", *SMALL, "--embed-dim", 4, "--num-heads", 3, "--head-dim", 0), b"", 1, "num_heads 3"),
                (("info", *SMALL, "--dt-rank", 999), b"", 1, "dt_rank 999"),
                (("bench", *SMALL, "--block", "gated", "-n", 9), b"", 1, "gated"),
                (("forward", model), struct.pack("<10f", *[0] * 7, float("inf"), 0, 0), 1, "number 2 of frame 1 is infinite"),
                (("forward", model, "--batch", 3), numbers(10), 1, "3 sequences"),
                (("init", *SMALL, "--import", CASES / "every3_of_7" / "weights.safetensors", "-o", self.folder / "no"), b"",
                 1, "weights.safetensors"),
                (("init", *SMALL, "--import", bad, "-o", self.folder / "no"), b"", 1, "bad.safetensors"),
                (("train", *SMALL), b"", 2, "--data FILE")):
            result = run("backbone", *words, stdin=stdin)
            self.assertEqual(result.code, code, (words, result.err))
            self.assertIn(text, result.err, words)
        self.assertFalse((self.folder / "no").exists())
        self.assertEqual(self.good("stream", model, stdin=numbers(10)).raw,
                         self.good("stream", self.model(), stdin=numbers(10)).raw)


if __name__ == "__main__":
    unittest.main()
