#!/usr/bin/env python3
"""test_cli_lora.py — adapters from the outside: `--lora`, `zamba merge`, `zamba train --lora`, over plain and quantized
models; what is refused. ZAMBA_PROGRAM names the program."""
import json
import shutil
import struct
import unittest

import numpy as np

from program import MODEL, ROOT, Case, read_safetensors, run

GOLDENS = ROOT / "tests" / "golden" / "fixtures"
BASE = GOLDENS / "zamba2-2.7b-tiny"
IDS = [[5, 9, 100, 37, 2, 61, 8, 200, 11]]
STORIES = "\n<|endoftext|>\n".join(f"Once upon a time there was a fox named Fox {i}. He ran over {i % 5} hills." for i in range(60))


class LoraCase(Case):
    def setUp(self):
        super().setUp()
        self.ids = self.file("ids.json", json.dumps(IDS))

    def logits(self, model, *more):
        out = self.folder / "logits.safetensors"
        r = run("debug", "logits", model, "--ids", self.ids, "-o", out, *more)
        self.assertEqual(r.code, 0, r.err)
        return np.asarray(read_safetensors(out)["logits.0"][1], dtype=np.float32)

    def near(self, a, b, most=5e-4):
        self.assertLess(np.abs(a - b).max(), most)

    def adapter(self, name, config=(), tensors=None):
        """A copy of the golden adapter with some keys of its config changed."""
        folder = self.folder / name
        shutil.copytree(BASE / "lora", folder)
        for path in folder.iterdir():
            path.chmod(0o644)
        told = json.loads((folder / "adapter_config.json").read_text())
        told.update(config)
        (folder / "adapter_config.json").write_text(json.dumps(told))
        return folder


class Beside(LoraCase):
    def test_scales_and_several(self):
        lora = BASE / "lora"
        plain, full = self.logits(BASE), self.logits(BASE, "--lora", lora)
        self.assertGreater(np.abs(plain - full).max(), 0.5)
        self.near(self.logits(BASE, "--lora", f"{lora}:0"), plain)
        self.near(self.logits(BASE, "--lora", f"{lora}:0.25", "--lora", f"{lora}/adapter_model.safetensors:0.75"), full)

    def test_config_counts(self):
        full = self.logits(BASE, "--lora", BASE / "lora")
        other = self.adapter("alpha", {"lora_alpha": 4})
        self.near(self.logits(BASE, "--lora", f"{other}:2"), full)
        root = self.adapter("rslora", {"use_rslora": True, "lora_alpha": 4})
        self.near(self.logits(BASE, "--lora", root), full)
        pattern = self.adapter("pattern", {"lora_alpha": 1, "alpha_pattern": {"in_proj": 8, "model\\.layers.0.mamba.out_proj": 8,
                                                                              "[a-z]+": 9}})
        self.fails(run("run", BASE, "--lora", pattern, "-p", "x"), 1, "alpha_pattern")
        pattern = self.adapter("pattern2", {"lora_alpha": 1, "alpha_pattern": {
            name: 8 for name in ("in_proj", "mamba.out_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj",
                                 "feed_forward.down_proj")}})
        self.near(self.logits(BASE, "--lora", pattern), full)

    def test_other_commands(self):
        text = self.file("text.txt", STORIES)
        for words in (["perplexity", MODEL, text, "--limit", "200"], ["run", MODEL, "-p", "x", "-n", "2"]):
            self.fails(run(*words, "--lora", BASE / "lora"), 1, "wanted [rank")

    def test_refused(self):
        for name, config, word in (("dora", {"use_dora": True}, "DoRA"), ("bias", {"bias": "all"}, "bias"),
                                   ("fan", {"fan_in_fan_out": True}, "fan_in_fan_out"),
                                   ("save", {"modules_to_save": ["lm_head"]}, "modules_to_save"),
                                   ("type", {"peft_type": "IA3"}, "IA3"), ("pissa", {"init_lora_weights": "pissa"}, "pissa"),
                                   ("rank", {"r": 8}, "rank is 8"), ("zero", {"r": 0}, "r is no whole number"),
                                   ("alpha", {"lora_alpha": "x"}, "lora_alpha"),
                                   ("rows", {"trainable_token_indices": [1]}, "trainable_token_indices")):
            self.fails(run("run", BASE, "--lora", self.adapter(name, config), "--prompt-ids", "1"), 1, word)
        self.fails(run("run", BASE, "--lora", GOLDENS / "zamba1-tiny" / "lora", "--prompt-ids", "1"), 1, "another model")
        self.fails(run("run", BASE, "--lora", self.folder / "none", "--prompt-ids", "1"), 1, "adapter_config.json")
        self.fails(run("run", BASE, "--lora", f"{BASE / 'lora'}:nan", "--prompt-ids", "1"), 1, "scale")

    def test_damaged(self):
        data = (BASE / "lora" / "adapter_model.safetensors").read_bytes()
        (n,) = struct.unpack("<Q", data[:8])
        header = data[8:8 + n]

        def fails(name, bytes_, word):
            folder = self.adapter(name)
            (folder / "adapter_model.safetensors").write_bytes(bytes_)
            self.fails(run("run", BASE, "--lora", folder, "--prompt-ids", "1"), 1, word)

        def renamed(a, b):
            new = header.replace(a, b)
            self.assertNotEqual(new, header)
            return struct.pack("<Q", len(new)) + new + data[8 + n:]

        fails("cut", data[:-100], "adapter_model")
        fails("nan", data[:8 + n] + struct.pack("<f", float("nan")) * ((len(data) - 8 - n) // 4), "finite")
        fails("foreign", renamed(b"layers.0.mamba.in_proj", b"layers.0.mamba.no_proj"), "no such matrix")
        fails("half", renamed(b"layers.1.mamba.in_proj.lora_A", b"layers.0.mamba.in_proj.lora_A.default"), "same half")
        fails("bias", renamed(b"layers.0.mamba.in_proj.lora_B.weight", b"layers.0.mamba.in_proj.lora_B.bias"), "bias")
        fails("magnitude", renamed(b"layers.0.mamba.in_proj.lora_B.weight",
                                   b"layers.0.mamba.in_proj.lora_magnitude_vector.weight"), "DoRA")
        fails("embedding", renamed(b"layers.0.mamba.in_proj.lora_B.weight", b"embed_tokens.lora_embedding_B"), "embedding")
        pickle = self.adapter("pickle")
        (pickle / "adapter_model.safetensors").rename(pickle / "adapter_model.bin")
        self.fails(run("run", BASE, "--lora", pickle, "--prompt-ids", "1"), 1, "pickle")


class Merge(LoraCase):
    def test_what_goes_in_and_what_stays(self):
        want = self.logits(BASE, "--lora", BASE / "lora")
        r = run("merge", BASE, "--lora", BASE / "lora", "-o", self.folder / "out", "--json")
        self.assertEqual((r.code, json.loads(r.out)["left"]), (0, 12), r.err)
        self.near(self.logits(self.folder / "out", "--lora", self.folder / "out" / "adapter"), want)
        r = run("merge", BASE, "--lora", BASE / "lora", "-o", self.folder / "out", "--force")
        self.assertEqual(r.code, 0)
        self.assertIn("OUT/adapter".replace("OUT", str(self.folder / "out")), r.err)

    def test_one_adapter_for_all_uses_goes_in(self):
        want = self.logits(BASE, "--lora", BASE / "lora-4x-shared")
        r = run("merge", BASE, "--lora", BASE / "lora-4x-shared", "-o", self.folder / "out", "--json")
        self.assertEqual((r.code, json.loads(r.out)["left"]), (0, 0), r.err)
        self.assertFalse((self.folder / "out" / "adapter").exists())
        self.near(self.logits(self.folder / "out"), want)

    def test_gguf(self):
        out = self.folder / "out.gguf"
        want = self.logits(BASE, "--lora", f"{BASE / 'lora'}:0.5")
        self.fails(run("merge", BASE, "--lora", BASE / "lora", "-o", out), 1, "llama.cpp")
        self.assertFalse(out.exists())
        r = run("merge", BASE, "--lora", f"{BASE / 'lora'}:0.5", "-o", out, "--layout", "llama.cpp")
        self.assertEqual(r.code, 0, r.err)
        self.near(self.logits(out), want)
        small = self.folder / "q8.gguf"
        self.assertEqual(run("quantize", BASE, small, "Q8_0").code, 0)
        self.fails(run("merge", small, "--lora", BASE / "lora", "-o", self.folder / "back"), 1, "--type")

    def test_words(self):
        self.fails(run("merge", BASE, "-o", self.folder / "x"), 2, "--lora")
        self.fails(run("merge", BASE, "--lora", BASE / "lora"), 2, "--output")


class Train(LoraCase):
    def train(self, model, out, *more, steps=6, kind="pretrain"):
        return run("train", kind, model, "--data", self.text, "-o", self.folder / out, "--lora", "--lora-rank", "4",
                   "--batch-size", "2", "--sequence-length", "32", "--max-steps", str(steps), "--threads", "1", "--progress",
                   "none", "--learning-rate", "5e-3", "--lora-dropout", "0.1", *more)

    def test_over_plain_and_quantized_models(self):
        self.text = self.file("text.txt", STORIES)
        small = self.folder / "small.gguf"
        self.assertEqual(run("quantize", MODEL, small, "Q4_K_M").code, 0)
        for model in (MODEL, small):
            name = f"run-{model.name}"
            r = self.train(model, name, "--valid", self.text, "--eval-steps", "6", "--eval-tokens", "500", "--json",
                           "--save-steps", "3")
            self.assertEqual(r.code, 0, r.err)
            valid = [x["valid_loss"] for x in r.lines if "valid_loss" in x]
            self.assertLess(valid[-1], valid[0] - 0.1)
            out = self.folder / name / "checkpoint-000006"
            self.assertEqual(sorted(p.name for p in out.iterdir()),
                             ["adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors", "trainer_state.json"])
            plain = run("perplexity", model, self.text, "--limit", "500", "--json", "--compute", "f32")
            tuned = run("perplexity", model, self.text, "--limit", "500", "--json", "--compute", "f32", "--lora", out)
            self.assertLess(json.loads(tuned.out)["perplexity"], 0.9 * json.loads(plain.out)["perplexity"])

    def test_going_on(self):
        self.text = self.file("text.txt", STORIES)
        self.assertEqual(self.train(MODEL, "whole").code, 0)
        self.assertEqual(self.train(MODEL, "cut", "--save-steps", "3").code, 0)
        shutil.rmtree(self.folder / "cut" / "checkpoint-000006")
        self.fails(self.train(MODEL, "cut"), 1, "--resume")
        self.assertEqual(self.train(MODEL, "cut", "--resume").code, 0)
        for name in ("adapter_model.safetensors", "optimizer.safetensors"):
            whole, cut = (self.folder / run_ / "checkpoint-000006" / name for run_ in ("whole", "cut"))
            self.assertEqual(whole.read_bytes(), cut.read_bytes(), name)
        self.fails(run("train", "pretrain", MODEL, "--data", self.text, "-o", self.folder / "cut", "--resume"), 1, "--lora")

    def test_refused(self):
        self.text = self.file("text.txt", STORIES)
        self.fails(self.train(MODEL, "x", "--lora-targets", "q_proj,wq"), 1, "wq")
        self.fails(self.train(MODEL, "x", "--lora-rank", "0"), 2, "--lora-rank")


if __name__ == "__main__":
    unittest.main()
