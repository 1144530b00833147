#!/usr/bin/env python3
"""test_cli_train.py — `zamba train` and `zamba debug grads` from the outside: runs of all three kinds, going on, stopping
by signals, what is refused before the first step, gradients against PyTorch's."""
import json
import os
import signal
import struct
import subprocess
import time
import unittest

import numpy as np

from program import MODEL, PROGRAM, ROOT, TIMEOUT, Case, environment, run

GOLDENS = ROOT / "tests" / "golden" / "fixtures"
CONFIG = {"model_type": "zamba2", "hidden_size": 32, "num_hidden_layers": 3, "hybrid_layer_ids": [1], "num_mem_blocks": 1,
          "num_attention_heads": 2, "intermediate_size": 48, "mamba_expand": 2, "mamba_headdim": 16, "mamba_ngroups": 1,
          "mamba_d_state": 8, "adapter_rank": 4, "use_mem_rope": True, "max_position_embeddings": 128, "vocab_size": 4096}
STORIES = "\n<|endoftext|>\n".join(f"Once upon a time there was a fox named Fox {i}. He ran over {i % 5} hills." for i in range(60))


def tensors(path):
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    kinds = {"F32": "<f4", "I64": "<i8"}
    return {k: np.frombuffer(data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]],
                             kinds[t["dtype"]]).reshape(t["shape"]) for k, t in header.items() if t["dtype"] in kinds}


class TrainCase(Case):
    def setUp(self):
        super().setUp()
        self.config = self.file("config.json", json.dumps(CONFIG))
        self.text = self.file("text.txt", STORIES)

    def pretrain(self, out, *more, steps=6, **how):
        return run("train", "pretrain", "--config", self.config, "--tokenizer", MODEL, "--data", self.text, "-o",
                   self.folder / out, "--batch-size", "2", "--sequence-length", "32", "--max-steps", str(steps),
                   "--learning-rate", "3e-3", "--warmup-steps", "1", "--threads", "1", "--progress", "none", *more, **how)


class Pretrain(TrainCase):
    def test_run_folder(self):
        r = self.pretrain("run", "--json", "--valid", self.text, "--eval-steps", "3", "--save-steps", "2",
                          "--save-total-limit", "2", "--sample-prompt", "Once", "--sample-steps", "6", "--sample-tokens", "5")
        self.assertEqual(r.code, 0, r.err)
        steps = [x for x in r.lines if "loss" in x]
        self.assertEqual([x["step"] for x in steps], [1, 2, 3, 4, 5, 6])
        self.assertLess(steps[-1]["loss"], steps[0]["loss"])
        self.assertAlmostEqual(steps[1]["learning_rate"], 3e-3)
        valid = [x for x in r.lines if "valid_loss" in x]
        self.assertEqual([x["step"] for x in valid], [0, 3, 6])
        self.assertGreater(valid[0]["valid_loss"], valid[2]["valid_loss"])
        self.assertGreater(valid[0]["valid_bits_per_byte"], 1)
        self.assertEqual(sum("sample" in x for x in r.lines), 1)
        out = self.folder / "run"
        self.assertEqual(sorted(p.name for p in out.glob("checkpoint-*")), ["checkpoint-000004", "checkpoint-000006"])
        self.assertEqual((out / "latest").read_text(), "checkpoint-000006\n")
        self.assertEqual(json.loads((out / "config.json").read_text())["min_learning_rate"], 3e-4)
        for name in ("config.json", "metrics.jsonl", "report.html"):
            self.assertTrue((out / name).exists(), name)
        last = out / "checkpoint-000006"
        self.assertEqual((last / "tokenizer.json").read_bytes(), (MODEL / "tokenizer.json").read_bytes())
        told = run("run", last, "Once", "-n", "4", "--temp", "0", "--progress", "none")
        self.assertEqual(told.code, 0, told.err)

    def test_resume(self):
        self.assertEqual(self.pretrain("whole").code, 0)
        part = self.pretrain("part", "--save-steps", "3", steps=6)
        self.assertEqual(part.code, 0)
        for name in ("checkpoint-000006", "latest"):  # as if it had been stopped after step 3
            path = self.folder / "part" / name
            if path.is_dir():
                for p in path.iterdir():
                    p.unlink()
                path.rmdir()
            else:
                path.unlink()
        again = self.pretrain("part")
        self.fails(again, 1, "a run with checkpoints", "--resume")
        again = self.pretrain("part", "--resume", "--json")
        self.assertEqual(again.code, 0, again.err)
        self.assertEqual([x["step"] for x in again.lines], [4, 5, 6])
        for name in ("model.safetensors", "optimizer.safetensors", "trainer_state.json"):
            a, b = (self.folder / x / "checkpoint-000006" / name for x in ("whole", "part"))
            self.assertEqual(a.read_bytes(), b.read_bytes(), name)
        steps = [json.loads(x)["step"] for x in (self.folder / "part" / "metrics.jsonl").read_text().splitlines()
                 if "loss" in json.loads(x)]
        self.assertEqual(steps, [1, 2, 3, 4, 5, 6])
        done = self.pretrain("part", "--resume")  # nothing is left to do
        self.assertEqual(done.code, 0, done.err)

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            out = self.folder / f"run{number}"
            process = subprocess.Popen([PROGRAM, "train", "pretrain", "--config", self.config, "--tokenizer", MODEL,
                                        "--data", self.text, "-o", out, "--batch-size", "2", "--sequence-length", "32",
                                        "--max-steps", "1000000", "--threads", "1", "--progress", "none", "--json"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=ROOT)
            step = 0
            while step < 3:
                step = json.loads(process.stdout.readline())["step"]
            process.send_signal(number)
            _, err = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, 130, err.decode())
            self.assertIn("--resume goes on", err.decode())
            name = (out / "latest").read_text().strip()
            state = json.loads((out / name / "trainer_state.json").read_text())
            self.assertGreaterEqual(state["step"], 3)

    def test_options(self):
        r = self.pretrain("run", "--json", "--gradient-accumulation-steps", "2", "--lr-scheduler", "wsd", "--bf16",
                          "--checkpoint-activations", "--z-loss", "1e-4", "--save-type", "bf16", "--weight-decay", "0",
                          "--max-grad-norm", "0.5", "--init", "transformers", "--seed", "7", steps=3)
        self.assertEqual(r.code, 0, r.err)
        self.assertEqual(r.lines[-1]["tokens"], 3 * 2 * 2 * 32)
        config = json.loads((self.folder / "run" / "checkpoint-000003" / "config.json").read_text())
        self.assertEqual(config["dtype"], "bfloat16")
        anneal = run("train", "pretrain", self.folder / "run" / "checkpoint-000003", "--phase", "anneal", "--data",
                     f"{self.text}:60", "--data", f"{self.text}:40", "-o", self.folder / "annealed", "--batch-size", "2",
                     "--sequence-length", "32", "--max-steps", "4", "--learning-rate", "1e-3", "--json", "--progress", "none")
        self.assertEqual(anneal.code, 0, anneal.err)
        rates = [x["learning_rate"] for x in anneal.lines]
        self.assertAlmostEqual(rates[1] / rates[0], rates[3] / rates[2])

    def test_epochs(self):
        r = self.pretrain("run", "--json", steps=1)
        self.assertEqual(r.code, 0, r.err)
        r = run("train", "pretrain", self.folder / "run" / "start", "--data", self.text, "-o", self.folder / "two",
                "--batch-size", "8", "--sequence-length", "32", "--epochs", "2", "--json", "--progress", "none")
        self.assertEqual(r.code, 0, r.err)
        self.assertEqual(r.lines[-1]["step"], r.lines[-1]["total_steps"])
        self.assertEqual(r.lines[-1]["epoch"], 1)

    def test_teacher(self):
        self.assertEqual(self.pretrain("run", steps=1).code, 0)
        r = self.pretrain("taught", "--teacher", self.folder / "run" / "checkpoint-000001", "--json", "--seed", "3", steps=2)
        self.assertEqual(r.code, 0, r.err)
        self.assertGreater(r.lines[0]["divergence"], 0)


class Talk(TrainCase):
    def test_new_task(self):
        """A model that tells stories learns in some steps to answer, also what it was not asked before."""
        rows = [(animal, colour) for animal in ("fox", "cat", "dog", "bear", "duck", "frog", "bird", "fish")
                for colour in ("red", "blue", "green", "black", "white", "brown")]
        held = rows[3::7]
        files = [self.file(name, "".join(json.dumps({"prompt": f"The {a} is {c}. What is {c}?",
                                                     "completion": f" Dear friend, the {a}!"}) + "\n" for a, c in some))
                 for name, some in (("tasks.jsonl", [x for x in rows if x not in held]), ("held.jsonl", held))]
        r = run("train", "sft", MODEL, "--data", files[0], "--valid", files[1], "--eval-steps", "15", "--max-steps", "15",
                "--batch-size", "8", "--sequence-length", "48", "--learning-rate", "3e-3", "--warmup-steps", "3", "--json",
                "--hidden-dropout", "0.05", "--threads", "1", "--progress", "none", "-o", self.folder / "tuned")
        self.assertEqual(r.code, 0, r.err)
        before, after = (x["valid_loss"] for x in r.lines if "valid_loss" in x)
        self.assertGreater(before, 3)
        self.assertLess(after, 0.1)
        for model, right in ((MODEL, 0), (self.folder / "tuned" / "checkpoint-000015", 3)):
            said = [run("run", model, f"The {a} is {c}. What is {c}?", "-n", "8", "--temp", "0", "--raw", "--progress",
                        "none").out for a, c in held[:3]]
            self.assertEqual(sum(f"Dear friend, the {a}!" in text for text, (a, c) in zip(said, held)), right, said)

    def test_sft_then_dpo(self):
        self.assertEqual(self.pretrain("base", steps=2).code, 0)
        rows = [{"messages": [{"role": "user", "content": f"Say {i % 3}"}, {"role": "assistant", "content": f"It is {i % 3}."}]}
                for i in range(12)]
        talk = self.file("talk.jsonl", "".join(json.dumps(x) + "\n" for x in rows))
        how = ["--batch-size", "4", "--sequence-length", "48", "--threads", "1", "--progress", "none", "--json"]
        r = run("train", "sft", self.folder / "base" / "checkpoint-000002", "--data", talk, "--valid", talk, "-o",
                self.folder / "sft", "--max-steps", "30", "--eval-steps", "30", "--learning-rate", "1e-2", "--sample-prompt",
                "Say 1", "--sample-tokens", "8", *how)
        self.assertEqual(r.code, 0, r.err)
        valid = [x["valid_loss"] for x in r.lines if "valid_loss" in x]
        self.assertLess(valid[-1], 0.7 * valid[0])
        pairs = self.file("pairs.jsonl", "".join(json.dumps({"prompt": f"Say {i % 3}", "chosen": f"It is {i % 3}.",
                                                             "rejected": "No."}) + "\n" for i in range(8)))
        start = self.folder / "sft" / "checkpoint-000030"
        r = run("train", "dpo", start, "--data", pairs, "-o", self.folder / "dpo", "--max-steps", "5", "--learning-rate",
                "3e-3", "--save-steps", "2", "--valid", pairs, *how)
        self.assertEqual(r.code, 0, r.err)
        valid = [x for x in r.lines if "valid_loss" in x]
        self.assertAlmostEqual(valid[0]["valid_loss"], np.log(2), places=4)
        self.assertEqual(valid[-1]["valid_accuracy"], 1)
        steps = [x for x in r.lines if "accuracy" in x]
        self.assertAlmostEqual(steps[0]["loss"], np.log(2), places=4)  # model and reference are the same
        self.assertGreater(steps[-1]["margin"], steps[0]["margin"])
        self.assertEqual(steps[-1]["accuracy"], 1)
        # the reference is still the model that the run began with
        r = run("train", "dpo", "--resume", "--data", pairs, "-o", self.folder / "dpo", "--max-steps", "6", "--learning-rate",
                "3e-3", *how)
        self.assertEqual(r.code, 0, r.err)
        self.assertGreater(r.lines[0]["margin"], steps[1]["margin"])


class Refused(TrainCase):
    def refused(self, result, *words, code=1):
        self.fails(result, code, *words)
        self.assertFalse(list((self.folder / "run").glob("checkpoint-*")) if (self.folder / "run").exists() else [])

    def test_command_line(self):
        self.refused(run("train"), "pretrain, sft or dpo", code=2)
        self.refused(run("train", "lora"), "lora", code=2)
        self.refused(run("train", "sft", "--data", "x.jsonl"), "-o RUN", code=2)
        self.refused(run("train", "sft", "-o", self.folder / "run"), "--data", code=2)
        self.refused(run("train", "pretrain", "--config", "x", "--data", "x", "-o", self.folder / "run"), "--tokenizer", code=2)
        self.refused(self.pretrain("run", "--learning-rate", "nan"), "--learning-rate", "nan", code=2)
        self.refused(self.pretrain("run", "--learning-rate", "fast"), "--learning-rate", "fast", code=2)
        self.refused(self.pretrain("run", "--learning-rate", "-1"), "--learning-rate", code=2)
        self.refused(self.pretrain("run", "--hidden-dropout", "1"), "--hidden-dropout", code=2)
        self.refused(self.pretrain("run", "--epochs", "2"), "--max-steps and --epochs", code=2)
        self.refused(self.pretrain("run", "--warmup-steps", "7"), "--warmup-steps 7", "6 steps")

    def test_input(self):
        def train(*more, kind="pretrain"):
            return run("train", kind, "--config", self.config, "--tokenizer", MODEL, "-o", self.folder / f"run{os.urandom(4).hex()}",
                       "--sequence-length", "32", "--max-steps", "2", "--progress", "none", *more)
        self.refused(train("--data", self.folder / "none.txt"), "none.txt")
        self.refused(train("--data", self.file("empty.txt", "")), "empty.txt")
        self.refused(train("--data", f"{self.text}:0"), "weight 0")
        self.refused(train("--data", self.file("bad.jsonl", '{"text": "a"}\n{"text": }\n')), "bad.jsonl", "line 2")
        self.refused(train("--data", self.file("no.jsonl", '{"messages": 3}\n'), kind="sft"), "no.jsonl")
        self.refused(train("--data", self.text, "--sequence-length", "129"), "129", "max_position_embeddings")
        self.refused(train("--data", self.text, "--teacher", self.folder / "none"), "teacher", "none")
        small = self.file("small.json", json.dumps({**CONFIG, "vocab_size": 100}))
        self.refused(run("train", "pretrain", "--config", small, "--tokenizer", MODEL, "--data", self.text, "-o",
                         self.folder / "run"), "4096", "100")

    def test_full_disk(self):
        r = subprocess.run(["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", PROGRAM, "train", "pretrain", "--config", self.config,
                            "--tokenizer", MODEL, "--data", self.text, "-o", self.folder / "run", "--max-steps", "2",
                            "--sequence-length", "32", "--progress", "none"], capture_output=True, env=environment(), cwd=ROOT)
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertTrue(r.stderr.decode().startswith("zamba: "))
        self.assertFalse(list((self.folder / "run").glob("checkpoint-*")))


class Gradients(Case):
    def compare(self, golden, got, tolerance):
        self.assertAlmostEqual(float(got["loss"]), float(golden["loss"]), delta=1e-4)
        self.assertEqual(got["loss"].shape, ())
        seen = 0
        for name, want in golden.items():
            if not name.startswith("grad."):
                continue
            mine = got[name[5:]]
            self.assertEqual(mine.shape, want.shape, name)
            self.assertLessEqual(np.linalg.norm(mine - want), tolerance * np.linalg.norm(want), name)
            seen += 1
        return seen

    def test_against_pytorch(self):
        for model in ("zamba1-tiny", "zamba2-1.2b-tiny", "zamba2-untied-sharded-bf16-tiny"):
            out = self.folder / "out.safetensors"
            tolerance = json.loads((GOLDENS / model / "goldens.json").read_text())["tolerance"]["grad_rel_l2"]
            golden = tensors(GOLDENS / model / "train.safetensors")
            ids = self.file("ids.json", json.dumps(golden["input_ids"].tolist()))
            r = run("debug", "grads", GOLDENS / model, "--ids", ids, "-o", out)
            self.assertEqual(r.code, 0, r.err)
            got = tensors(out)
            self.assertEqual(self.compare(golden, got, tolerance), len(got) - 1)
            golden = tensors(GOLDENS / model / "train_masked.safetensors")
            ids = self.file("ids.json", json.dumps({"ids": golden["input_ids"].tolist()}))
            labels = self.file("labels.json", json.dumps(golden["labels"].tolist()))
            r = run("debug", "grads", GOLDENS / model, "--ids", ids, "--labels", labels, "-o", out)
            self.assertEqual(r.code, 0, r.err)
            self.assertGreater(self.compare(golden, tensors(out), tolerance), 10)

    def test_refused(self):
        model, out = GOLDENS / "zamba2-1.2b-tiny", self.folder / "out.safetensors"
        ids = self.file("ids.json", "[[1, 2, 3], [4, 5]]")

        def grads(i, *more):
            return run("debug", "grads", model, "--ids", i, "-o", out, *more)
        self.fails(grads(self.file("a.json", "[[1]]")), 1, "a.json", "at least 2")
        self.fails(grads(self.file("a.json", "[]")), 1, "a.json")
        self.fails(grads(self.file("a.json", "[[1, 999]]")), 1, "999")
        self.fails(grads(ids, "--labels", self.file("l.json", "[[1, 2, 3]]")), 1, "l.json", "rows")
        self.fails(grads(ids, "--labels", self.file("l.json", "[[1, 2, 3], [4, 5, 6]]")), 1, "labels")
        self.fails(grads(ids, "--labels", self.file("l.json", "[[1, 2, 3], [4, -7]]")), 1, "-7", "-100")
        self.fails(grads(ids, "--labels", self.file("l.json", "[[-100, -100, -100], [-100, -100]]")), 1, "nothing to learn")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
