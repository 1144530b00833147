#!/usr/bin/env python3
"""test_gguf_reader.py — the Python package gguf reads the files that `zamba convert` writes: its own checks pass, and keys,
names, shapes and values are what the layouts say (here written down again, with NumPy). Exit code 77: no package gguf."""
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import gguf
    import numpy as np
    from gguf import quants
except ImportError:
    sys.exit(77)

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "fixtures"
PROGRAM = os.environ.get("ZAMBA_PROGRAM") or str(ROOT / "build" / "release" / "zamba")


def read_folder(folder):
    """{name: f32 array} of a checkpoint folder."""
    out = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        if not path.name.startswith("model"):
            continue
        data = path.read_bytes()
        (n,) = struct.unpack("<Q", data[:8])
        for name, t in json.loads(data[8:8 + n]).items():
            if name == "__metadata__":
                continue
            raw = data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
            if t["dtype"] == "BF16":
                x = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                x = np.frombuffer(raw, {"F32": np.float32, "F16": np.float16}[t["dtype"]]).astype(np.float32)
            out[name] = x.reshape(t["shape"])
    return out


class Model:
    """A checkpoint folder and what its tensors are called, by the rules of docs/FORMAT.md."""

    def __init__(self, name):
        self.folder = GOLDEN / name
        self.config = json.loads((self.folder / "config.json").read_text())
        self.tensors = read_folder(self.folder)
        self.zamba1 = self.config["model_type"] == "zamba"
        self.shared = ".shared_transf." if self.zamba1 else ".shared_transformer."
        layers = self.config["num_hidden_layers"]
        self.hybrid = [i for i in range(layers) if f"model.layers.{i}.linear.weight" in self.tensors]
        self.blocks = 1 if self.zamba1 else self.config.get("num_mem_blocks", 1)
        self.groups = self.config.get("mamba_ngroups", 1)

    def block(self, use, rest):
        """A tensor of the block of the n-th use, wherever it was saved."""
        for k in range(use % self.blocks, len(self.hybrid), self.blocks):
            found = self.tensors.get(f"model.layers.{self.hybrid[k]}{self.shared}{rest}")
            if found is not None:
                return found
        return None

    def mamba(self, i, merged):
        at = f"model.layers.{i}.mamba_decoder." if i in self.hybrid else f"model.layers.{i}."
        get = lambda rest: self.tensors.get(at + rest)  # noqa: E731
        a_log, d, norm = get("mamba.A_log"), get("mamba.D"), get("mamba.norm.weight")
        out = {"attn_norm.weight": get("input_layernorm.weight"), "ssm_in.weight": get("mamba.in_proj.weight"),
               "ssm_in.bias": get("mamba.in_proj.bias"), "ssm_out.weight": get("mamba.out_proj.weight"),
               "ssm_out.bias": get("mamba.out_proj.bias"), "ssm_conv1d.weight": get("mamba.conv1d.weight")[:, 0, :],
               "ssm_conv1d.bias": get("mamba.conv1d.bias"), "ssm_x.weight": get("mamba.x_proj_weight"),
               "ssm_dt.weight": get("mamba.dt_proj_weight"),
               "ssm_dt.bias": get("mamba.dt_proj_bias" if self.zamba1 else "mamba.dt_bias")}
        if self.zamba1:
            out.update({"ssm_a_log": a_log, "ssm_d": d})
        else:
            out.update({"ssm_d": d[:, None], "ssm_norm.weight": norm.reshape(self.groups, -1)})
            out["ssm_a" if merged else "ssm_a_log"] = (-np.exp(a_log) if merged else a_log)[:, None]
        return out

    def expected(self, merged):
        out = {"token_embd.weight": self.tensors["model.embed_tokens.weight"],
               "output_norm.weight": self.tensors["model.final_layernorm.weight"],
               "output.weight": None if self.config.get("tie_word_embeddings", True) else self.tensors["lm_head.weight"]}
        for i in range(self.config["num_hidden_layers"]):
            out.update({f"blk.{i}.{k}": v for k, v in self.mamba(i, merged).items()})
        for use, i in enumerate(self.hybrid):
            out[f"blk.{i}.ssm_mix.weight"] = self.tensors[f"model.layers.{i}.linear.weight"]
            adapters = {"ffn_up": "feed_forward.gate_up_proj", "attn_q": "self_attn.linear_q", "attn_k": "self_attn.linear_k",
                        "attn_v": "self_attn.linear_v"}
            pairs = {k: [self.block(use, f"{v}_adapter_list.{use}.{part}.weight") for part in (0, 1)]
                     for k, v in adapters.items()}
            if use < self.blocks or merged:
                names = {"post_attention_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "pre_ff_layernorm.weight",
                         "attn_q.weight": "self_attn.q_proj.weight", "attn_k.weight": "self_attn.k_proj.weight",
                         "attn_v.weight": "self_attn.v_proj.weight", "attn_output.weight": "self_attn.o_proj.weight",
                         "ffn_down.weight": "feed_forward.down_proj.weight", "ffn_down.bias": "feed_forward.down_proj.bias"}
                if self.zamba1:
                    names["ffn_gate.weight"] = "feed_forward.gate_proj.weight"
                    names["ffn_up.weight"] = "feed_forward.up_proj.weight"
                else:
                    names["ffn_up.weight"] = "feed_forward.gate_up_proj.weight"
                    names["ffn_up.bias"] = "feed_forward.gate_up_proj.bias"
                out.update({f"blk.{i}.{k}": self.block(use, v) for k, v in names.items()})
            for k, (low, high) in pairs.items():
                if low is not None and merged:
                    name = f"blk.{i}.{k}.weight"
                    out[name] = out[name].astype(np.float64) + high.astype(np.float64) @ low.astype(np.float64)
                elif low is not None:
                    out[f"blk.{i}.{k}_lora_a.weight"], out[f"blk.{i}.{k}_lora_b.weight"] = low, high
        return {k: v for k, v in out.items() if v is not None}


class Reader(unittest.TestCase):
    def convert(self, folder, *options):
        out = Path(self.folder.name) / "x.gguf"
        done = subprocess.run([PROGRAM, "convert", str(folder), str(out), *options], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        return gguf.GGUFReader(out)

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def check(self, name, *options, merged=False, tolerance=0.0):
        model = Model(name)
        reader = self.convert(model.folder, *options)
        want = model.expected(merged)
        self.assertEqual(sorted(t.name for t in reader.tensors), sorted(want), name)
        for t in reader.tensors:
            got = t.data if t.data.dtype != np.uint8 else quants.dequantize(t.data, t.tensor_type)
            self.assertEqual(list(reversed(t.shape.tolist())), list(want[t.name].shape), (name, t.name))
            self.assertEqual(t.data_offset % 32, 0)
            difference = np.abs(got.astype(np.float64).reshape(want[t.name].shape) - want[t.name]).max()
            self.assertLessEqual(difference, tolerance, (name, t.name))
        return model, reader

    def value(self, reader, key):
        field = reader.get_field(key)
        self.assertIsNotNone(field, key)
        return field.contents()

    def test_compact(self):
        for path in sorted(GOLDEN.glob("*/config.json")):
            with self.subTest(path.parent.name):
                self.check(path.parent.name)

    def test_llama_cpp(self):
        for path in sorted(GOLDEN.glob("*/config.json")):
            model = Model(path.parent.name)
            if not model.zamba1:
                with self.subTest(path.parent.name):
                    rounded = {"bf16": 5e-3, "f16": 5e-4}  # sums are rounded to the matrix' own type
                    tolerance = next((v for k, v in rounded.items() if k in path.parent.name), 2e-5)
                    self.check(path.parent.name, "--layout", "llama.cpp", merged=True, tolerance=tolerance)

    def test_keys(self):
        model, reader = self.check("zamba2-7b-tiny", "--layout", "llama.cpp", merged=True, tolerance=2e-5)
        c = model.config
        for key, want in {"general.architecture": "zamba2", "general.alignment": 32, "general.file_type": 0,
                          "general.quantization_version": 2, "zamba2.block_count": c["num_hidden_layers"],
                          "zamba2.embedding_length": c["hidden_size"], "zamba2.feed_forward_length": c["intermediate_size"],
                          "zamba2.vocab_size": c["vocab_size"], "zamba2.attention.head_count": c["num_attention_heads"],
                          "zamba2.attention.head_count_kv": [c["num_key_value_heads"] if i in model.hybrid else 0
                                                             for i in range(c["num_hidden_layers"])],
                          "zamba2.attention.key_length": c["attention_head_dim"],
                          "zamba2.attention.value_length": c["attention_head_dim"],
                          "zamba2.rope.dimension_count": c["attention_head_dim"] if c["use_mem_rope"] else 0,
                          "zamba2.ssm.conv_kernel": c["mamba_d_conv"], "zamba2.ssm.state_size": c["mamba_d_state"],
                          "zamba2.ssm.inner_size": c["mamba_expand"] * c["hidden_size"],
                          "zamba2.ssm.time_step_rank": c["n_mamba_heads"],
                          "zamba2.ssm.group_count": c["mamba_ngroups"]}.items():
            self.assertEqual(self.value(reader, key), want, key)
        self.assertAlmostEqual(self.value(reader, "zamba2.attention.layer_norm_rms_epsilon"), c["rms_norm_eps"], 10)

    def test_texts_and_vocabulary(self):
        folder = ROOT / "models" / "starter-zamba2"
        reader = self.convert(folder)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            self.assertEqual(self.value(reader, "zamba.file." + name), (folder / name).read_text())
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokens, types = self.value(reader, "tokenizer.ggml.tokens"), self.value(reader, "tokenizer.ggml.token_type")
        self.assertEqual(self.value(reader, "tokenizer.ggml.model"), "llama")
        self.assertEqual({t: i for i, t in enumerate(tokens)}, tokenizer["model"]["vocab"])
        self.assertEqual(types[:4], [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE])
        self.assertEqual(types[259], gguf.TokenType.NORMAL)
        scores = self.value(reader, "tokenizer.ggml.scores")
        made = [scores[tokens.index("".join(m))] for m in tokenizer["model"]["merges"][:200]]
        self.assertEqual(made, sorted(made, reverse=True))
        for key, want in (("bos", 1), ("eos", 2), ("unknown", 0), ("padding", 0)):
            self.assertEqual(self.value(reader, f"tokenizer.ggml.{key}_token_id"), want)
        self.assertIs(self.value(reader, "tokenizer.ggml.add_bos_token"), True)


if __name__ == "__main__":
    unittest.main()
