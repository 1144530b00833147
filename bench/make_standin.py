#!/usr/bin/env python3
"""make_standin.py — write a GGUF model of random BF16 weights for llama.cpp, to stand in for a Zamba2 it cannot run.

    make_standin.py --model nemo-1.2b|nemo-2.7b|nemo-7b|nemo-tiny|llama-1b|llama-8b --out FILE

nemo-*   architecture nemotron_h, the nearest that llama.cpp has. The Mamba2 layers are those of Zamba2-*, in the same
         order. Each use of a shared block becomes one attention layer (as many heads, of half the width, so that a
         token's keys and values take the same bytes and attention the same arithmetic) and one MLP layer whose width
         is chosen so that a token is multiplied with as many weights as in Zamba2. What is missing is the sharing:
         the file is larger, and no byte of it is used twice.
llama-*  architecture llama, the shapes of Llama 3.2 1B and Llama 3 8B.

Time and memory are those of a real model, the text is noise. Needs numpy and gguf. The same name gives the same bytes.
"""
import argparse
import os

import gguf
import numpy as np
from gguf import GGMLQuantizationType

TILE = (1 << 23) + 4099  # values in the noise tile

# h hidden, L Mamba layers, ds state, nh Mamba heads, hyb layers with a shared block before them, hd attention head, ff
NEMO = {
    "tiny": dict(h=256, L=6, ds=64, nh=8, hyb=[2, 5], heads=4, hd=64, ff=1024),
    "1.2b": dict(h=2048, L=38, ds=128, nh=64, hyb=[5, 11, 17, 23, 29, 35], heads=32, hd=128, ff=20736),
    "2.7b": dict(h=2560, L=54, ds=64, nh=80, hyb=[6, 12, 18, 24, 30, 36, 42, 47, 51], heads=32, hd=160, ff=24832),
    "7b": dict(h=3584, L=81, ds=64, nh=112, hyb=[6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77], heads=32, hd=224,
               ff=34816),
}
LLAMA = {
    "1b": dict(h=2048, L=16, heads=32, kv=8, hd=64, ff=8192, vocab=128256, tied=True),
    "8b": dict(h=4096, L=32, heads=32, kv=8, hd=128, ff=14336, vocab=128256, tied=False),
}
RNG = np.random.default_rng(1)


def to_bf16(x):
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


class Writer:
    """Tensors are named first, their bytes made one by one while the file is written."""

    def __init__(self, path, architecture):
        self.gguf, self.tensors = gguf.GGUFWriter(path, architecture), []

    def bf16(self, name, shape, spread):
        self.tensors.append((name, shape, spread))

    def f32(self, name, values):
        self.tensors.append((name, values.shape, np.asarray(values, dtype=np.float32)))

    def finish(self):
        for name, shape, what in self.tensors:
            if isinstance(what, float):
                self.gguf.add_tensor_info(name, shape, np.dtype(np.float32), int(np.prod(shape)) * 2,
                                          raw_dtype=GGMLQuantizationType.BF16)
            else:
                self.gguf.add_tensor_info(name, shape, what.dtype, what.nbytes)
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_ti_data_to_file()
        noise, tiles, at = RNG.standard_normal(TILE, dtype=np.float32), {}, 0
        for _, shape, what in self.tensors:
            if isinstance(what, float):
                tile = tiles.setdefault(what, None)
                if tile is None:
                    tile = tiles[what] = to_bf16(noise * what)
                at = (at + 7919) % TILE  # no two tensors begin alike
                what = np.resize(np.roll(tile, -at), int(np.prod(shape)))
            self.gguf.write_tensor_data(what)
        self.gguf.close()
        return sum(int(np.prod(shape)) for _, shape, _ in self.tensors)


def mamba2(w, i, s, groups=1):
    p, inner = f"blk.{i}.", 2 * s["h"]
    conv = inner + 2 * groups * s["ds"]
    w.f32(p + "attn_norm.weight", np.ones(s["h"]))
    w.bf16(p + "ssm_in.weight", (2 * inner + 2 * groups * s["ds"] + s["nh"], s["h"]), 0.02)
    w.f32(p + "ssm_conv1d.weight", RNG.standard_normal((conv, 4)) * 0.2)
    w.f32(p + "ssm_conv1d.bias", np.zeros(conv))
    dt = np.exp(RNG.uniform(np.log(1e-3), np.log(1e-1), s["nh"]))
    w.f32(p + "ssm_dt.bias", np.log(np.expm1(dt)))
    w.f32(p + "ssm_a", -RNG.uniform(1, 16, (s["nh"], 1)))
    w.f32(p + "ssm_d", np.ones((s["nh"], 1)))
    w.f32(p + "ssm_norm.weight", np.ones((groups, inner // groups)))
    w.bf16(p + "ssm_out.weight", (s["h"], inner), 0.01)


def nemotron(path, s, vocab=32000):
    kinds = []
    for i in range(s["L"]):
        kinds += ["attention", "mlp", "mamba"] if i in s["hyb"] else ["mamba"]
    w = Writer(path, "nemotron_h")
    g = w.gguf
    g.add_block_count(len(kinds))
    g.add_context_length(1 << 17)
    g.add_embedding_length(s["h"])
    g.add_vocab_size(vocab)
    g.add_feed_forward_length([s["ff"] if k == "mlp" else 0 for k in kinds])
    g.add_head_count(s["heads"])
    g.add_head_count_kv([s["heads"] if k == "attention" else 0 for k in kinds])
    g.add_key_length(s["hd"])
    g.add_value_length(s["hd"])
    g.add_rope_dimension_count(s["hd"])
    g.add_ssm_conv_kernel(4)
    g.add_ssm_inner_size(2 * s["h"])
    g.add_ssm_state_size(s["ds"])
    g.add_ssm_time_step_rank(s["nh"])
    g.add_ssm_group_count(1)
    g.add_layer_norm_rms_eps(1e-5)
    g.add_layer_norm_eps(1e-5)
    w.bf16("token_embd.weight", (vocab, s["h"]), 0.02)
    w.f32("output_norm.weight", np.ones(s["h"]))
    for i, kind in enumerate(kinds):
        p = f"blk.{i}."
        if kind == "mamba":
            mamba2(w, i, s)
            continue
        w.f32(p + "attn_norm.weight", np.ones(s["h"]))
        if kind == "attention":
            for name in "qkv":
                w.bf16(p + f"attn_{name}.weight", (s["heads"] * s["hd"], s["h"]), 0.02)
            w.bf16(p + "attn_output.weight", (s["h"], s["heads"] * s["hd"]), 0.01)
        else:
            w.bf16(p + "ffn_up.weight", (s["ff"], s["h"]), 0.02)
            w.bf16(p + "ffn_down.weight", (s["h"], s["ff"]), 0.005)
    return w


def llama(path, s):
    w = Writer(path, "llama")
    g = w.gguf
    g.add_block_count(s["L"])
    g.add_context_length(131072)
    g.add_embedding_length(s["h"])
    g.add_feed_forward_length(s["ff"])
    g.add_vocab_size(s["vocab"])
    g.add_head_count(s["heads"])
    g.add_head_count_kv(s["kv"])
    g.add_rope_dimension_count(s["hd"])
    g.add_rope_freq_base(500000.0)
    g.add_key_length(s["hd"])
    g.add_value_length(s["hd"])
    g.add_layer_norm_rms_eps(1e-5)
    w.bf16("token_embd.weight", (s["vocab"], s["h"]), 0.02)
    w.f32("output_norm.weight", np.ones(s["h"]))
    if not s["tied"]:
        w.bf16("output.weight", (s["vocab"], s["h"]), 0.02)
    for i in range(s["L"]):
        p = f"blk.{i}."
        w.f32(p + "attn_norm.weight", np.ones(s["h"]))
        w.f32(p + "ffn_norm.weight", np.ones(s["h"]))
        w.bf16(p + "attn_q.weight", (s["heads"] * s["hd"], s["h"]), 0.02)
        for name in "kv":
            w.bf16(p + f"attn_{name}.weight", (s["kv"] * s["hd"], s["h"]), 0.02)
        w.bf16(p + "attn_output.weight", (s["h"], s["heads"] * s["hd"]), 0.01)
        for name in ("gate", "up"):
            w.bf16(p + f"ffn_{name}.weight", (s["ff"], s["h"]), 0.02)
        w.bf16(p + "ffn_down.weight", (s["h"], s["ff"]), 0.01)
    return w


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, choices=[f"nemo-{k}" for k in NEMO] + [f"llama-{k}" for k in LLAMA])
    parser.add_argument("--out", required=True)
    a = parser.parse_args()
    kind, _, size = a.model.partition("-")
    part = a.out + ".part"
    w = nemotron(part, NEMO[size]) if kind == "nemo" else llama(part, LLAMA[size])
    w.gguf.add_tokenizer_model("no_vocab")
    w.gguf.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    n = w.finish()
    os.replace(part, a.out)
    print(f"{a.model}: {n / 1e9:.3f} B parameters, {os.path.getsize(a.out) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
