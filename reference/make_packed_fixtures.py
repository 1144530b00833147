#!/usr/bin/env python3
"""Make tiny models whose matrices are packed as GPTQ, AWQ and bitsandbytes pack them.

    make_packed_fixtures.py --out tests/model/fixtures/packed [--only NAME ...]

Each becomes DIR/<name>/ with config.json, model.safetensors (packed), expected.json and forward.safetensors. Packing and
unpacking are written here from the documented layouts, in NumPy, number by number. expected.json has for each packed
matrix the CRC-32 of its dequantized f32 numbers [out, in] and what it should be kept as; forward.safetensors has
input_ids.T<n> and logits.T<n> of transformers (fp32, eager) run on the dequantized weights.
"""
import argparse
import json
import os
import shutil
import tempfile
import zlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from make_goldens import H, M, build, dump, gen, load, run_logits, tokens, write

SALT, LENGTHS = "zamba-packed-1", (1, 17)
Z2 = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_attention_heads=4, n_mamba_heads=16, mamba_d_state=8,
          adapter_rank=32, chunk_size=16, max_position_embeddings=128, use_mem_rope=True, num_mem_blocks=1,
          rope_parameters=dict(rope_type="default", rope_theta=10000.0), layers_block_type=[H, M, H])
Z1 = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=4, n_mamba_heads=2,
          mamba_d_state=8, max_position_embeddings=128, layers_block_type=[H, M, H])
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
FP4 = [0.0, 0.005208333333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25,
       -0.0, -0.005208333333, -0.66666667, -1.0, -0.33333333, -0.5, -0.16666667, -0.25]
f32 = np.float32


# ---------------------------------------------------------------- words of 32 bits
def put(numbers, bits):
    """uint [n, m] -> int32 [n * bits / 32, m]: the numbers of a column as one stream of bits, low bits first."""
    n, m = numbers.shape
    assert n * bits % 32 == 0 and int(numbers.max()) < 1 << bits
    words = np.zeros((n * bits // 32 + 1, m), np.uint64)
    for k in range(n):
        at, shift = divmod(k * bits, 32)
        both = numbers[k].astype(np.uint64) << np.uint64(shift)
        words[at] |= both & np.uint64(0xFFFFFFFF)
        words[at + 1] |= both >> np.uint64(32)
    return words[:-1].astype(np.uint32).view(np.int32)


def cut(words, bits, n):
    """The other way."""
    w = words.view(np.uint32).astype(np.uint64)
    w = np.concatenate([w, np.zeros((1, w.shape[1]), np.uint64)])
    out = np.zeros((n, w.shape[1]), np.int64)
    for k in range(n):
        at, shift = divmod(k * bits, 32)
        out[k] = (((w[at] | w[at + 1] << np.uint64(32)) >> np.uint64(shift)) & np.uint64((1 << bits) - 1)).astype(np.int64)
    return out


AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def put_awq(numbers):
    """uint [k, out] -> int32 [k, out / 8]"""
    words = np.zeros((numbers.shape[0], numbers.shape[1] // 8), np.uint32)
    for i, column in enumerate(AWQ_ORDER):
        words |= (numbers[:, column::8].astype(np.uint32) << np.uint32(4 * i))
    return words.view(np.int32)


def cut_awq(words):
    out = np.zeros((words.shape[0], words.shape[1] * 8), np.int64)
    for i, column in enumerate(AWQ_ORDER):
        out[:, column::8] = words.view(np.uint32) >> np.uint32(4 * i) & np.uint32(15)
    return out


# ---------------------------------------------------------------- integers with a scale and a zero for each group
def group_numbers(w, group, bits, rng, sym, least, scale_type):
    """q uint [in, out], scales [groups, out] (of scale_type), zeros [groups, out] in [least, least + 2^bits - 1]."""
    greatest, n_groups = (1 << bits) - 1, int(group.max()) + 1
    q = np.zeros(w.shape[::-1], np.int64)
    scales, zeros = np.zeros((n_groups, w.shape[0]), f32), np.zeros((n_groups, w.shape[0]), np.int64)
    for g in range(n_groups):
        part = w[:, group == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        if sym:
            scale, zero = 2 * np.maximum(-low, high) / greatest, np.full(len(low), (greatest + 1) // 2)
        else:
            scale = (high - low) / greatest
            zero = np.clip(np.round(-low / scale), least, least + greatest).astype(np.int64)
            zero[rng.random(len(zero)) < 0.05] = least  # the ends of the range
            zero[rng.random(len(zero)) < 0.05] = least + greatest
        scale = torch.from_numpy(scale.astype(f32)).to(scale_type).float().numpy()
        scales[g], zeros[g] = scale, zero
        q[group == g] = np.clip(np.round(part / scale[:, None]) + zero[:, None], 0, greatest).astype(np.int64).T
    return q, scales, zeros


def natural_groups(n, size):
    return np.arange(n) // (n if size == -1 else size)


def back(q, scales, zeros, group):
    """f32 [out, in]"""
    return np.ascontiguousarray((scales[group] * (q - zeros[group]).astype(f32)).T)


def gptq(w, o, rng):
    """o: bits, group_size, and v2, act, sym, carry, uneven, scales (a dtype)."""
    bits, n_in, n_out = o["bits"], w.shape[1], w.shape[0]
    group = natural_groups(n_in, o["group_size"])
    if o.get("act"):
        group = group[rng.permutation(n_in)]
    if o.get("uneven"):
        group = np.where(np.arange(n_in) < 17, 0, 1)
    v2, carry = o.get("v2", False), o.get("carry", False)
    stype = o.get("scales", torch.float16)
    q, scales, zeros = group_numbers(w, group, bits, rng, o.get("sym", False), 0 if v2 or carry else 1, stype)
    qweight = put(q, bits)
    if v2:
        qzeros = put(zeros.T, bits).T
    elif carry and bits == 3:
        qzeros = put(zeros.T - 1 & 7, bits).T
    elif carry:  # one taken from every field, as one subtraction from the whole word
        ones = sum(1 << i for i in range(0, 32, bits))
        qzeros = (put(zeros.T, bits).T.view(np.uint32) - np.uint32(ones)).view(np.int32)
    else:
        qzeros = put(zeros.T - 1, bits).T
    # and back, from what stands in the file
    if carry and bits != 3:
        read = cut(np.ascontiguousarray((qzeros.view(np.uint32) + np.uint32(ones)).T).view(np.int32), bits, n_out).T
    else:
        read = cut(np.ascontiguousarray(qzeros.T), bits, n_out).T + (0 if v2 else 1)
        read = read & 7 if carry else read
    assert (read == zeros).all()
    tensors = {".qweight": qweight, ".qzeros": qzeros, ".scales": torch.from_numpy(scales).to(stype),
               ".g_idx": group.astype(np.int32)}
    exact = (scales.astype(np.float16).astype(f32) == scales).all()
    sizes = np.bincount(group)
    kept = f"GPTQ-{bits}" if exact and (sizes % 32 == 0).all() else "F32"
    return tensors, back(cut(qweight, bits, n_in), scales, read, group), kept


def awq(w, o, rng):
    group = natural_groups(w.shape[1], o["group_size"])
    q, scales, zeros = group_numbers(w, group, 4, rng, not o["zero_point"], 0, torch.float16)
    tensors = {".qweight": put_awq(q), ".scales": scales.astype(np.float16)}
    if o["zero_point"]:
        tensors[".qzeros"] = put_awq(zeros)
        zeros = cut_awq(tensors[".qzeros"])
    return tensors, back(cut_awq(tensors[".qweight"]), scales, zeros, group), "AWQ-4"


# ---------------------------------------------------------------- bitsandbytes
def nested_map():
    x = np.linspace(-1, 1, 256)
    return (np.sign(x) * x * x).astype(f32)


def bnb4(w, o, rng):
    """o: kind, blocksize, nested, dtype, storage."""
    size, flat = o.get("blocksize", 64), w.reshape(-1)
    table = np.array(NF4 if o["kind"] == "nf4" else FP4, f32)
    n_blocks = -(-len(flat) // size)
    padded = np.zeros(n_blocks * size, f32)
    padded[:len(flat)] = flat
    absmax = np.abs(padded.reshape(n_blocks, size)).max(1).astype(f32)
    state = dict(quant_type=o["kind"], blocksize=size, dtype=o.get("dtype", "bfloat16"), shape=list(w.shape))
    tensors = {".weight.quant_map": table}
    if o.get("nested"):
        offset = f32(absmax.mean())
        rest, code = absmax - offset, nested_map()
        n_nested = -(-n_blocks // 256)
        wide = np.zeros(n_nested * 256, f32)
        wide[:n_blocks] = rest
        nested = np.abs(wide.reshape(n_nested, 256)).max(1).astype(f32)
        factor = np.repeat(nested, 256)[:n_blocks]
        number = np.abs((rest / factor)[:, None] - code[None, :]).argmin(1).astype(np.uint8)
        absmax = ((code[number] * factor).astype(f32) + offset).astype(f32)
        tensors.update({".weight.absmax": number, ".weight.nested_absmax": nested, ".weight.nested_quant_map": code})
        state.update(nested_blocksize=256, nested_dtype="float32", nested_offset=float(offset))
    else:
        tensors[".weight.absmax"] = absmax
    factor = np.repeat(absmax, size)[:len(flat)]
    number = np.abs((flat / factor)[:, None] - table[None, :]).argmin(1).astype(np.uint8)
    packed = (number[0::2] << 4 | number[1::2]).astype(np.uint8).reshape(-1, 1)
    if o.get("storage"):  # the same bytes under another type
        packed = torch.from_numpy(packed.reshape(-1)).view(o["storage"]).reshape(-1, 1)
    tensors[".weight"] = packed
    tensors[f".weight.quant_state.bitsandbytes__{o['kind']}"] = np.frombuffer(json.dumps(state).encode(), np.uint8).copy()
    got = (table[number] * factor).astype(f32).reshape(w.shape)
    kept = "NF4" if o["kind"] == "nf4" and w.shape[1] % 64 == 0 and size % 64 == 0 else "F32"
    if o["kind"] == "fp4" and state["dtype"] != "float32":
        got = torch.from_numpy(got).to(getattr(torch, state["dtype"])).float().numpy()
        kept = {"bfloat16": "BF16", "float16": "F16"}[state["dtype"]]
    return tensors, got, kept


def int8(w, o, rng):
    """The factor of a row, SCB / 127, is rounded to f16: that is how it is kept, see docs/MODEL.md."""
    greatest = np.abs(w).max(1).astype(f32)
    q = np.clip(np.round(w * (127 / greatest)[:, None]), -127, 127).astype(np.int8)
    step = (greatest * f32(7.874015718698502e-3)).astype(np.float16).astype(f32)
    tensors = {".weight": q, ".SCB": greatest, ".weight_format": np.array(0, np.uint8)}
    return tensors, q.astype(f32) * step[:, None], "INT8"


# ---------------------------------------------------------------- the models
def gptq_config(o, **more):
    return dict(bits=o["bits"], group_size=o["group_size"], damp_percent=0.01, desc_act=bool(o.get("act")),
                sym=bool(o.get("sym")), true_sequential=True, quant_method="gptq", **more)


def awq_config(o):
    return dict(bits=4, group_size=o["group_size"], modules_to_not_convert=None, quant_method="awq", version="gemm",
                zero_point=o["zero_point"])


def mixed(name):
    """A module's own bits, as GPTQModel's `dynamic` has them."""
    if "layers.0.mamba_decoder" in name:
        return dict(bits=2, group_size=32, carry=True)
    if "mamba" in name:
        return dict(bits=3, group_size=32, carry=True)
    if "self_attn" in name:
        return dict(bits=8, group_size=32, carry=True, act=True)
    if "down_proj" in name:
        return dict(bits=4, group_size=32, uneven=True, carry=True)
    if "gate_up_proj.weight" in name:
        return dict(bits=4, group_size=64, scales=torch.float32, carry=True)
    if "adapter" in name:
        return None  # left plain
    return dict(bits=4, group_size=64, carry=True)


def bnb_mixed(name):
    if "self_attn" in name:
        return (bnb4, dict(kind="fp4", dtype="bfloat16" if "q_proj" in name else "float16", blocksize=128))
    if "mamba" in name:
        return (int8, {})
    if "adapter" in name:
        return (bnb4, dict(kind="nf4", blocksize=64, storage=torch.bfloat16, dtype="float32"))
    return (bnb4, dict(kind="nf4", blocksize=128, storage=torch.float32, nested="down" in name))


GPTQ_4 = dict(bits=4, group_size=32, sym=True)
GPTQ_ACT = dict(bits=4, group_size=64, act=True)
GPTQ_V2 = dict(bits=4, group_size=-1, v2=True)
GPTQ_8 = dict(bits=8, group_size=32, act=True)
GPTQ_Z1 = dict(bits=4, group_size=128, scales=torch.bfloat16)
AWQ, AWQ_SYM = dict(group_size=32, zero_point=True), dict(group_size=64, zero_point=False)
NF4_2 = dict(kind="nf4", nested=True)
BNB = dict(_load_in_4bit=True, bnb_4bit_compute_dtype="bfloat16", bnb_4bit_quant_storage="uint8", bnb_4bit_quant_type="nf4",
           llm_int8_threshold=6.0, load_in_4bit=True, load_in_8bit=False, quant_method="bitsandbytes")
# name, family, config, quantization_config, and what packs a matrix of this name (None: nothing does)
PACKED = [
    ("gptq-4", "zamba2", Z2, gptq_config(GPTQ_4, model_file_base_name="model"), lambda n: (gptq, GPTQ_4)),
    ("gptq-4-act", "zamba2", dict(Z2, use_shared_attention_adapter=True), gptq_config(GPTQ_ACT), lambda n: (gptq, GPTQ_ACT)),
    ("gptq-4-v2", "zamba2", Z2, gptq_config(GPTQ_V2, checkpoint_format="gptq_v2"), lambda n: (gptq, GPTQ_V2)),
    ("gptq-8-act", "zamba2", Z2, gptq_config(GPTQ_8, checkpoint_format="gptq"), lambda n: (gptq, GPTQ_8)),
    ("gptq-mixed", "zamba2", Z2,
     gptq_config(dict(bits=4, group_size=64), format="gptq", pack_dtype="int32", meta=dict(quantizer=["gptqmodel:4.0.0"]),
                 dynamic={"+:.*mamba.*": dict(bits=3, group_size=32), "-:.*adapter.*": {}}),
     lambda n: (gptq, mixed(n)) if mixed(n) else None),
    ("gptq-zamba1", "zamba", Z1, gptq_config(GPTQ_Z1), lambda n: (gptq, GPTQ_Z1)),
    ("awq", "zamba2", Z2, awq_config(AWQ), lambda n: (awq, AWQ)),
    ("awq-sym", "zamba2", dict(Z2, tie_word_embeddings=False), dict(awq_config(AWQ_SYM), version="GEMM"),
     lambda n: (awq, AWQ_SYM)),
    ("nf4", "zamba2", Z2, dict(BNB, bnb_4bit_use_double_quant=True, llm_int8_skip_modules=None), lambda n: (bnb4, NF4_2)),
    ("bnb-mixed", "zamba2", Z2, BNB, bnb_mixed),
]


def as_tensor(x):
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))


def make(spec, root):
    name, family, config, quantization, packer = spec
    out = os.path.join(root, name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    rng = np.random.default_rng(zlib.crc32(f"{SALT}/{name}".encode()))
    with tempfile.TemporaryDirectory() as tmp:
        model = build(dict(name=name, family=family, config=config), SALT)
        model.save_pretrained(tmp)
        os.remove(os.path.join(tmp, "generation_config.json"))
        path = os.path.join(tmp, "config.json")
        c = json.load(open(path))
        c["tie_word_embeddings"] = config.get("tie_word_embeddings", True)
        dump(path, c)
        plain, packed, expected = load_file(os.path.join(tmp, "model.safetensors")), {}, {}
        for key in sorted(plain):
            w = plain[key]
            how = packer(key) if key.endswith(".weight") and w.ndim == 2 and "embed_tokens" not in key else None
            if how is None:
                packed[key] = w
                continue
            tensors, got, kept = how[0](w.numpy().astype(f32), how[1], rng)
            stem = key[:-len(".weight")]
            packed.update({stem + end: as_tensor(t).contiguous() for end, t in tensors.items()})
            got = np.ascontiguousarray(got, f32)
            expected[key] = dict(crc32=zlib.crc32(got.tobytes()), kept=kept)
            plain[key] = torch.from_numpy(got.copy())
        save_file(plain, os.path.join(tmp, "model.safetensors"), {"format": "pt"})
        model = load(tmp, torch.float32)
    t, g = {}, gen(SALT, name, "forward")
    for n in LENGTHS:
        t[f"input_ids.T{n}"] = tokens(g, (1, n), c["vocab_size"])
        t[f"logits.T{n}"] = run_logits(model, t[f"input_ids.T{n}"])
    write(os.path.join(out, "forward.safetensors"), t)
    save_file(packed, os.path.join(out, "model.safetensors"), {"format": "pt"})
    dump(os.path.join(out, "config.json"), dict(sorted({**c, "quantization_config": quantization}.items())))
    dump(os.path.join(out, "expected.json"), expected)
    for f in os.listdir(out):
        os.chmod(os.path.join(out, f), 0o644)
    size = sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out))
    kept = sorted({e["kept"] for e in expected.values()})
    print(f"{name}: {size / 1e3:.0f} kB, {len(expected)} matrices as {', '.join(kept)}, "
          f"logits to {float(t['logits.T17'].abs().max()):.1f}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--only", nargs="*")
    a = ap.parse_args()
    for spec in PACKED:
        if not a.only or spec[0] in a.only:
            make(spec, a.out)


if __name__ == "__main__":
    main()
