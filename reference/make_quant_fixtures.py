#!/usr/bin/env python3
"""Make tests/quant/fixtures/{unpack,pack}.safetensors: blocks of every type with the numbers that the Python package gguf
makes of them, and rows with the blocks that its quantizers make.

    pip install numpy gguf==0.19.0
    python3 reference/make_quant_fixtures.py [--out FOLDER]

unpack: <type>.blocks u8 [n, bytes of a block] and <type>.want f32 [n, numbers of a block], to be met bit for bit.
GROUP4, GROUP8 and NF4 are this project's own layouts: what they mean is written out here in NumPy. pack: x f32 [rows, 512]
and <type>.blocks u8 [rows, bytes of a row] for the types that gguf can quantize.
"""
import argparse
import json
import os

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

RNG = np.random.default_rng(20240611)
# bytes at which a block has its f16 (or, NF4, f32) scales
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "GROUP4": [0], "GROUP8": [0], "NF4": [0]}
OWN = {"GROUP4": (32, 20), "GROUP8": (32, 36), "NF4": (64, 36)}
NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
                0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
                1.0], np.float32)


def save(path, arrays):
    """A safetensors file: u64 length, JSON header, data."""
    header, at, names = {}, 0, {np.dtype(np.uint8): "U8", np.dtype(np.float32): "F32"}
    for name, a in arrays.items():
        header[name] = {"dtype": names[a.dtype], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for a in arrays.values():
            f.write(np.ascontiguousarray(a).tobytes())
    print(path, os.path.getsize(path), "bytes")


def nibbles(q):
    return np.concatenate([q & 15, q >> 4], axis=1)


def unpack(name, blocks):
    if name not in OWN:
        return quants.dequantize(blocks, GGMLQuantizationType[name])
    if name == "NF4":
        return blocks[:, :4].copy().view(np.float32) * NF4[nibbles(blocks[:, 4:])]
    head = blocks[:, :4].copy()
    d, zero = head.view(np.float16)[:, :1].astype(np.float32), head.view(np.uint16)[:, 1:].astype(np.int32)
    q = nibbles(blocks[:, 4:]) if name == "GROUP4" else blocks[:, 4:]
    return d * (q.astype(np.int32) - zero).astype(np.float32)


def finite(scales):
    """f16 bits without infinities and NaNs."""
    return np.where((scales & 0x7C00) == 0x7C00, scales & 0xBFFF, scales).astype(np.uint16)


def blocks_of(name):
    n, size = OWN[name] if name in OWN else GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    random = RNG.integers(0, 256, (12, size), dtype=np.uint8)
    # zeros of both signs, the least and greatest denormals, the least normal, 1, the greatest of both signs
    scales = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0x7BFF, 0xFBFF]
    fills = [np.zeros(size, np.uint8), np.full(size, 255, np.uint8), (np.arange(size) * 17).astype(np.uint8),
             RNG.integers(0, 256, size, dtype=np.uint8)]
    extreme = np.stack([fills[i % 4] for i in range(2 * len(scales))])
    out = np.concatenate([random, extreme])
    for k, at in enumerate(SCALES[name]):
        if name == "NF4":
            d = np.concatenate([RNG.standard_normal(12) * 0.01,
                                [0.0, -0.0, 1e-45, -1e-40, 1.17549435e-38, 1.0, 3.4e38, -3.4e38] * 2])
            out[:, 0:4] = d.astype(np.float32)[:, None].view(np.uint8)
            continue
        bits = finite(out[:, at:at + 2].copy().view(np.uint16)[:, 0])
        # the second scale goes through the list the other way round
        bits[12:] = (scales + scales[::-1]) if k == 0 else (scales[::-1] + scales[3:] + scales[:3])
        out[:, at:at + 2] = bits[:, None].view(np.uint8)
    if name in ("GROUP4", "GROUP8"):
        zeros = RNG.integers(0, 17 if name == "GROUP4" else 257, len(out)).astype(np.uint16)
        zeros[12:14], zeros[14:16] = 0, 16 if name == "GROUP4" else 256
        out[:, 2:4] = zeros[:, None].view(np.uint8)
    want = unpack(name, out)
    assert want.shape == (len(out), n) and want.dtype == np.float32 and np.isfinite(want).all(), name
    return out, want


def rows():
    n, f = 512, np.float32
    gauss = RNG.standard_normal((4, n)) * np.array([[1.0], [0.02], [3e-4], [200.0]])
    outliers = RNG.standard_normal((2, n)) * 0.02
    outliers[0, RNG.integers(0, n, 12)] *= 30
    outliers[1, ::64] = 1.5
    heavy = RNG.standard_t(3, (2, n)) * 0.02
    constant = np.repeat([[0.0], [0.7], [-0.3], [-0.0]], n, axis=1)
    sided = np.abs(RNG.standard_normal((2, n))) * np.array([[0.05], [-0.05]]) + np.array([[0.01], [-1.0]])
    tiny = RNG.standard_normal((4, n)) * np.array([[3e-6], [2e-7], [1e-20], [1e-35]])
    huge = RNG.uniform(-1, 1, (1, n)) * 60000
    spikes = np.zeros((1, n))
    spikes[0, ::32] = np.arange(16) - 8
    steps = np.tile(np.arange(16) - 8.0, n // 16)[None] * 0.125
    zeros = np.where(RNG.random((1, n)) < 0.8, 0, RNG.standard_normal((1, n)))
    bf16 = (RNG.standard_normal((1, n)) * 0.05).astype(f).view(np.uint32) & 0xFFFF0000
    return np.concatenate([gauss, outliers, heavy, constant, sided, tiny, huge, spikes, steps, zeros,
                           bf16.view(f)]).astype(f)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(os.path.dirname(__file__), "..", "tests", "quant", "fixtures"))
    folder = parser.parse_args().out
    arrays = {}
    for name in SCALES:
        arrays[name + ".blocks"], arrays[name + ".want"] = blocks_of(name)
    save(os.path.join(folder, "unpack.safetensors"), arrays)
    x = rows()
    arrays = {"x": x}
    with np.errstate(over="ignore"):
        for name in ("Q4_0", "Q4_1", "Q5_0", "Q8_0"):
            arrays[name + ".blocks"] = quants.quantize(x, GGMLQuantizationType[name])
    save(os.path.join(folder, "pack.safetensors"), arrays)


if __name__ == "__main__":
    main()
