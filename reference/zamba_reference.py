#!/usr/bin/env python3
"""The Zamba models in NumPy: the executable twin of docs/MODEL.md, in the same order and with the names of the C code.

It owns the meaning of every number (files, config dialects, layer plan, tensors, state, forward pass) and nothing else:
no tokenizer, no sampling, no speed. Recurrences are written as plain steps over time. Needs Python 3.8 and NumPy.

    zamba_reference.py logits   MODEL --ids FILE.json -o OUT.safetensors [--split 5,8]   FILE: a list of lists of ids
    zamba_reference.py hidden   MODEL --ids FILE.json -o OUT.safetensors
    zamba_reference.py generate MODEL --prompt-ids 1,2,3 -n 64 [--ignore-eos]
    zamba_reference.py check    FOLDER...     golden folders, or folders of golden folders
    zamba_reference.py sizes    [MODEL...]    parameters, work and memory; without MODEL the published shapes
    everywhere: --dt-floor auto|none|config, --f64, --config NAME (another config file inside the folder)
"""
import argparse
import json
import math
import os
import struct
import sys
from types import SimpleNamespace
from typing import NamedTuple, Tuple

import numpy as np


class ZambaError(Exception):
    """A file or an argument is not what it should be; the text says what was found and what was wanted."""


# ---- Files (MODEL.md "Files") ----------------------------------------------------------------------------------------

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def json_read(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)          # takes Infinity and NaN, which Python's own writer puts into configs


def safetensors_read(path):
    """{name: (dtype name, array)}. BF16 stays u16 until `widen`: the upper half of an f32."""
    data = np.memmap(path, np.uint8, "r")
    if len(data) < 8:
        raise ZambaError(f"{path}: {len(data)} bytes, a header needs 8 (cut-off download?)")
    n_header = struct.unpack("<Q", data[:8].tobytes())[0]
    if n_header > len(data) - 8:
        raise ZambaError(f"{path}: header of {n_header} bytes in a file of {len(data)} (cut-off download?)")
    out, body = {}, data[8 + n_header:]
    for name, t in json.loads(data[8:8 + n_header].tobytes()).items():
        if name == "__metadata__":
            continue
        if t["dtype"] not in DTYPES:
            raise ZambaError(f"{path}: {name}: dtype {t['dtype']}, wanted one of {' '.join(DTYPES)}")
        (start, end), dtype = t["data_offsets"], np.dtype(DTYPES[t["dtype"]])
        if not 0 <= start <= end <= len(body) or end - start != math.prod(t["shape"]) * dtype.itemsize:
            raise ZambaError(f"{path}: {name}: bytes {start}..{end} do not hold {t['dtype']} {t['shape']}")
        out[name] = t["dtype"], body[start:end].view(dtype).reshape(t["shape"])
    return out


def safetensors_write(path, tensors):
    header, at = {}, 0
    for name, a in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.size * 4]}
        at += a.size * 4
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in tensors.values():
            f.write(np.ascontiguousarray(a, "<f4").tobytes())


def widen(dtype_name, a, to=np.float32):
    """Stored numbers to the type we compute in. Exact."""
    if dtype_name == "BF16":
        a = (a.astype(np.uint32) << 16).view(np.float32)
    return a.astype(to)


def checkpoint_read(folder):
    """All tensors of a folder: model.safetensors, or the shards that model.safetensors.index.json names."""
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(os.path.join(folder, "model.safetensors")):
        return safetensors_read(os.path.join(folder, "model.safetensors"))
    if not os.path.exists(index):
        raise ZambaError(f"{folder}: no model.safetensors and no index (pickle files, .bin or .pt, are not read)")
    out, weight_map = {}, json_read(index)["weight_map"]
    for shard in sorted(set(weight_map.values())):
        if os.path.basename(shard) != shard:
            raise ZambaError(f"{index}: shard {shard}, wanted a plain file name")
        for name, t in safetensors_read(os.path.join(folder, shard)).items():
            if weight_map.get(name) == shard:
                out[name] = t
    lost = sorted(set(weight_map) - set(out))
    if lost:
        raise ZambaError(f"{index}: names {lost[0]} in {weight_map[lost[0]]}, which does not hold it")
    return out


# ---- Config (MODEL.md "Config") --------------------------------------------------------------------------------------

ZAMBA1, ZAMBA2 = "zamba", "zamba2"
GATED_NORM_EPS = 1e-5      # of the Mamba-2 mixer's norm; not rms_norm_eps
OLD_KEYS = ("state_size", "conv_dimension", "expansion_factor", "ffn_hidden_size", "lora_rank", "use_shared_block_lora",
            "use_shared_attention_lora", "se_shared_attention_lora")
ACTS = {"gelu": "gelu", "silu": "silu", "swish": "silu", "relu": "relu", "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh"}


def config_dialect(raw):
    """Who wrote the file. A transformers 5 file may still carry old keys along, so its own marks are looked for first."""
    types = raw.get("layers_block_type") or []
    if "rope_parameters" in raw or "linear_attention" in types or raw.get("transformers_version", "").startswith("5."):
        return "transformers-5"
    return "zyphra-2024" if any(k in raw for k in OLD_KEYS) or "m" in types or "g" in types else "transformers-4"


def config_read(raw, dt_floor="auto"):
    """config.json of any dialect (a dict) to the fields of struct zb_config. Absent and null are the same: the default."""
    def get(*names, default=None):
        return next((raw[n] for n in names if raw.get(n) is not None), default)

    def size(*names, default=None):
        v = get(*names, default=default)
        if isinstance(v, bool) or not isinstance(v, int) or not 1 <= v < 2**31:
            raise ZambaError(f"config: {names[0]}: found {v!r}, wanted a whole number from 1")
        return v

    c = SimpleNamespace(family=raw.get("model_type"), dialect=config_dialect(raw))
    if c.family not in (ZAMBA1, ZAMBA2):
        raise ZambaError(f"config: model_type: found {c.family!r}, wanted 'zamba' or 'zamba2'")
    one = c.family == ZAMBA1
    c.hidden_size, c.vocab_size = size("hidden_size"), size("vocab_size")
    c.hybrid = config_layers(raw, get, one)          # for each layer: does a shared block run before its mixer
    c.n_layers = len(c.hybrid)
    c.norm_eps = float(get("rms_norm_eps", default=1e-5))
    c.tied_head = get("tie_word_embeddings", default=True)
    c.max_positions = size("max_position_embeddings", default=4096)
    c.bos, c.pad, c.eos = (get(k + "_token_id") for k in ("bos", "pad", "eos"))
    c.eos = tuple(c.eos) if isinstance(c.eos, list) else () if c.eos is None else (c.eos,)

    # shared blocks
    c.n_blocks = 1 if one else size("num_mem_blocks", default=1)
    c.n_heads = size("num_attention_heads")
    c.n_kv_heads = size("num_key_value_heads", default=c.n_heads)
    c.head_dim = 2 * c.hidden_size // c.n_heads
    if one:
        c.head_dim = size("attention_head_dim", default=c.head_dim)
    c.ffn_size = size("intermediate_size", "ffn_hidden_size", default=4 * c.hidden_size)
    c.act = ACTS.get(get("hidden_act", default="gelu"))
    c.mlp_adapter = not one and get("use_shared_block_lora", default=True)
    c.attn_adapter = not one and get("use_shared_attention_adapter", "use_shared_attention_lora",
                                     "se_shared_attention_lora", default=False)
    c.adapter_rank = size("adapter_rank", "lora_rank", default=128) if c.mlp_adapter or c.attn_adapter else 0
    c.use_rope = not one and get("use_mem_rope", default=False)
    rope_parameters = get("rope_parameters", default={})
    c.rope_theta = float(rope_parameters.get("rope_theta") or get("rope_theta", default=10000.0))
    c.long_context = not one and get("use_long_context", default=False)
    c.rope_note = f"theta {c.rope_theta:g} as written" if c.use_rope else ""
    if c.long_context:                               # what each dialect meant by it: MODEL.md "Long context"
        c.max_positions = 16384
        if c.use_rope and c.dialect != "transformers-5" and c.head_dim > 2:
            c.rope_theta *= 8.0 ** (c.head_dim / (c.head_dim - 2))
            c.rope_note += f", rescaled to {c.rope_theta:g} for the long context as {c.dialect} means it"

    # mixers
    c.mamba_inner = int(get("mamba_expand", "expansion_factor", default=2) * c.hidden_size)
    c.mamba_state = size("mamba_d_state", "state_size", default=16 if one else 64)
    c.mamba_conv = size("mamba_d_conv", "conv_dimension", default=4)
    c.mamba_groups = 1 if one else size("mamba_ngroups", default=1)
    given = None if one else get("mamba_headdim")
    c.mamba_heads = size("n_mamba_heads", default=2 if one else c.mamba_inner // given if given else 8)
    c.mamba_head_dim = c.mamba_inner // c.mamba_heads
    rank = get("mamba_dt_rank", default="auto")
    c.mamba_dt_rank = 0 if not one else math.ceil(c.hidden_size / 16) if rank == "auto" else size("mamba_dt_rank")
    c.conv_bias = not one or get("mamba_conv_bias", default=True)             # zamba2: always; use_conv_bias is ignored
    c.add_bias = not one and get("add_bias_linear", default=False)            # mixer and MLP projections
    c.proj_bias = get("mamba_proj_bias", default=False) if one else c.add_bias   # in_proj and out_proj
    limit = get("time_step_limit") if dt_floor == "auto" else None
    c.dt_min, c.dt_max = (float(v) for v in limit or (0.0, math.inf))
    if dt_floor == "config":
        c.dt_min = float(get("time_step_min", default=0.001))

    for wrong, text in (
            (c.act is None, f"hidden_act: found {get('hidden_act')!r}, wanted one of {', '.join(ACTS)}"),
            (one and get("hidden_mamba_act", default="silu") != "silu", "hidden_mamba_act: only 'silu' is known"),
            (get("gated_linear_unit") is False, "gated_linear_unit false: only the gated MLP is known"),
            (get("quantization_config"), "quantization_config: quantized checkpoints are not read"),
            (c.use_rope and (get("rope_scaling") or rope_parameters.get("rope_type", "default") != "default"),
             "another kind of rope than 'default'"),
            (not one and 2 * c.hidden_size % c.n_heads, f"2 * {c.hidden_size} does not divide into {c.n_heads} heads"),
            (c.head_dim < 1 or c.use_rope and c.head_dim % 2, f"head_dim {c.head_dim}: rope wants an even number"),
            (c.n_heads % c.n_kv_heads, f"{c.n_heads} heads do not divide into {c.n_kv_heads} KV heads"),
            (c.attn_adapter and c.n_kv_heads != c.n_heads, "attention adapters with fewer KV heads are not defined"),
            (c.mamba_heads * c.mamba_head_dim != c.mamba_inner or given not in (None, c.mamba_head_dim),
             f"{c.mamba_heads} Mamba heads of {given or c.mamba_head_dim} are not {c.mamba_inner} channels"),
            (c.mamba_heads % c.mamba_groups and not one, f"{c.mamba_heads} Mamba heads, {c.mamba_groups} groups"),
            (not 0 <= c.dt_min <= c.dt_max, f"time_step_limit [{c.dt_min}, {c.dt_max}]")):
        if wrong:
            raise ZambaError(f"config: {text}")
    return c


def config_layers(raw, get, one):
    """Which layers are hybrid. layers_block_type is trusted over hybrid_layer_ids."""
    names = {"m": False, "mamba": False, "linear_attention": False, "g": True, "hybrid": True}
    types, ids, n = get("layers_block_type"), get("hybrid_layer_ids"), get("num_hidden_layers")
    if types is not None:
        bad = [t for t in types if t not in names]
        if bad or not types:
            raise ZambaError(f"config: layers_block_type: found {bad[0] if bad else 'nothing'!r}, wanted {list(names)}")
        hybrid = [names[t] for t in types]
    elif one and n:
        period, offset = get("attn_layer_period", default=6), get("attn_layer_offset", default=4)
        hybrid = [False, False, True] + [i % period == offset for i in range(n - 3)]
    elif ids is not None and n:
        hybrid = [i in ids for i in range(n)]
    else:
        raise ZambaError("config: layers_block_type is missing")
    if n is not None and n != len(hybrid):
        raise ZambaError(f"config: num_hidden_layers {n}, but layers_block_type has {len(hybrid)} entries")
    return hybrid


# ---- Plan (MODEL.md "Plan") ------------------------------------------------------------------------------------------

MAMBA1, MAMBA2 = "mamba1", "mamba2"


class Layer(NamedTuple):
    """struct zb_layer: one row per layer. Nothing below asks the config where a layer stands."""
    mixer: str
    shared: int     # shared attention+MLP block that runs before the mixer, or -1
    use: int        # n-th use of a shared block: picks adapters, output linear, KV slot; or -1


def plan_build(c):
    plan, n = [], 0
    for hybrid in c.hybrid:
        plan.append(Layer(MAMBA1 if c.family == ZAMBA1 else MAMBA2, n % c.n_blocks if hybrid else -1, n if hybrid else -1))
        n += hybrid
    return plan


# ---- Tensors (MODEL.md "Tensors") ------------------------------------------------------------------------------------

class Tensor(NamedTuple):
    """One entry of the tensor list. A shared tensor is listed once, under the first layer that uses its block."""
    name: str
    shape: Tuple[int, ...]
    part: str           # embedding, mamba, shared, adapter, linear, norm, head
    n_uses: int         # how often one token's forward pass multiplies by it (the embedding: as the tied head)
    quantizable: bool   # the weight of a matrix product
    decay: bool         # weight decay in training: those weights, but not the embedding
    names: Tuple[str, ...]   # every name it may be stored under


def tensor_list(c, plan):
    h, out = c.hidden_size, []

    def add(part, shape, name, n_uses=1, layers=None):
        matrix = part != "norm" and len(shape) >= 2 and "conv1d" not in name and not name.endswith(("A_log", ".D"))
        names = tuple(name.format(i=i) for i in layers) if layers else (name,)
        out.append(Tensor(names[0], shape, part, n_uses, matrix, matrix and part != "embedding", names))

    add("embedding", (c.vocab_size, h), "model.embed_tokens.weight", 1 if c.tied_head else 0)
    for i, row in enumerate(plan):
        at = f"model.layers.{i}."
        if row.shared >= 0:
            users = [k for k, r in enumerate(plan) if r.shared == row.shared]
            if users[0] == i:
                shared_tensors(c, plan, users, add)
            add("linear", (h, h), at + "linear.weight")
            at += "mamba_decoder."
        add("norm", (h,), at + "input_layernorm.weight")
        (mamba1_tensors if row.mixer == MAMBA1 else mamba2_tensors)(c, at + "mamba.", add)
    add("norm", (h,), "model.final_layernorm.weight")
    if not c.tied_head:
        add("head", (c.vocab_size, h), "lm_head.weight")
    return out


def shared_tensors(c, plan, users, add):
    """A block's own weights, then the adapters of each of its uses (slots of other blocks hold nothing)."""
    h, n, r, f = c.hidden_size, len(users), c.adapter_rank, c.ffn_size
    at = "model.layers.{i}." + ("shared_transf." if c.family == ZAMBA1 else "shared_transformer.")
    wide = {"q": c.n_heads * c.head_dim, "k": c.n_kv_heads * c.head_dim, "v": c.n_kv_heads * c.head_dim}
    add("norm", (2 * h,), at + "input_layernorm.weight", n, users)
    for x, rows in wide.items():
        add("shared", (rows, 2 * h), at + f"self_attn.{x}_proj.weight", n, users)
    add("shared", (h, wide["q"]), at + "self_attn.o_proj.weight", n, users)
    add("norm", (h,), at + "pre_ff_layernorm.weight", n, users)
    mlp = at + "feed_forward."
    if c.family == ZAMBA1:
        add("shared", (f, h), mlp + "gate_proj.weight", n, users)
        add("shared", (f, h), mlp + "up_proj.weight", n, users)
    else:
        add("shared", (2 * f, h), mlp + "gate_up_proj.weight", n, users)
    add("shared", (h, f), mlp + "down_proj.weight", n, users)
    if c.add_bias:
        add("shared", (2 * f,), mlp + "gate_up_proj.bias", n, users)
        add("shared", (h,), mlp + "down_proj.bias", n, users)
    for use in (plan[i].use for i in users):
        for x, rows in wide.items() if c.attn_adapter else ():
            add("adapter", (r, 2 * h), at + f"self_attn.linear_{x}_adapter_list.{use}.0.weight", 1, users)
            add("adapter", (rows, r), at + f"self_attn.linear_{x}_adapter_list.{use}.1.weight", 1, users)
        if c.mlp_adapter:
            add("adapter", (r, h), mlp + f"gate_up_proj_adapter_list.{use}.0.weight", 1, users)
            add("adapter", (2 * f, r), mlp + f"gate_up_proj_adapter_list.{use}.1.weight", 1, users)


def mamba2_tensors(c, at, add):
    inner, h, heads = c.mamba_inner, c.hidden_size, c.mamba_heads
    channels = inner + 2 * c.mamba_groups * c.mamba_state
    add("mamba", (inner + channels + heads, h), at + "in_proj.weight")
    add("mamba", (channels, 1, c.mamba_conv), at + "conv1d.weight")
    add("mamba", (channels,), at + "conv1d.bias")
    for name in ("dt_bias", "A_log", "D"):
        add("mamba", (heads,), at + name)
    add("norm", (inner,), at + "norm.weight")
    add("mamba", (h, inner), at + "out_proj.weight")
    if c.proj_bias:
        add("mamba", (inner + channels + heads,), at + "in_proj.bias")
        add("mamba", (h,), at + "out_proj.bias")


def mamba1_tensors(c, at, add):
    inner, h, heads, p, n, r = c.mamba_inner, c.hidden_size, c.mamba_heads, c.mamba_head_dim, c.mamba_state, c.mamba_dt_rank
    add("mamba", (2 * inner, h), at + "in_proj.weight")
    add("mamba", (inner, 1, c.mamba_conv), at + "conv1d.weight")
    if c.conv_bias:
        add("mamba", (inner,), at + "conv1d.bias")
    add("mamba", (heads, r + 2 * n, p), at + "x_proj_weight")
    add("mamba", (heads, p, r), at + "dt_proj_weight")
    add("mamba", (heads, p), at + "dt_proj_bias")
    add("mamba", (heads, p, n), at + "A_log")
    add("mamba", (heads, p), at + "D")
    add("mamba", (h, inner), at + "out_proj.weight")
    if c.proj_bias:
        add("mamba", (2 * inner,), at + "in_proj.bias")
        add("mamba", (h,), at + "out_proj.bias")


class Model:
    """config, plan, tensor list, and `weights`: {listed name: array in the type we compute in}."""

    def __init__(self, folder, dt_floor="auto", dtype=np.float32, config="config.json"):
        self.config = config_read(json_read(os.path.join(folder, config)), dt_floor)
        generation = os.path.join(folder, "generation_config.json")     # may name more ids that end a text
        if os.path.exists(generation):
            more = json_read(generation).get("eos_token_id") or []
            self.config.eos = tuple(dict.fromkeys(self.config.eos + tuple(more if isinstance(more, list) else [more])))
        self.plan = plan_build(self.config)
        self.tensors = tensor_list(self.config, self.plan)
        self.dtype = dtype
        self.weights = weights_bind(self.config, self.tensors, checkpoint_read(folder), folder, dtype)

    def under(self, prefix):
        """The weights whose names start with prefix, under the rest of their names."""
        return {k[len(prefix):]: v for k, v in self.weights.items() if k.startswith(prefix)}


def weights_bind(c, tensors, stored, folder, dtype):
    """Find each listed tensor under any of its names; copies must be equal; nothing may be left over."""
    weights, left = {}, dict(stored)
    for t in tensors:
        found = [n for n in t.names if n in stored]
        if not found:
            raise ZambaError(f"{folder}: tensor {t.name} {list(t.shape)} is missing")
        for n in found:
            kind, a = left.pop(n)
            if kind not in ("F32", "F16", "BF16") or a.shape != t.shape:
                raise ZambaError(f"{folder}: {n}: found {kind} {list(a.shape)}, wanted F32, F16 or BF16 {list(t.shape)}")
            if not np.array_equal(a, stored[found[0]][1]):
                raise ZambaError(f"{folder}: {n} and {found[0]} should be the same shared tensor, but differ")
        weights[t.name] = widen(*stored[found[0]], dtype)
    if c.tied_head and "lm_head.weight" in left:
        if not np.array_equal(left.pop("lm_head.weight")[1], stored["model.embed_tokens.weight"][1]):
            raise ZambaError(f"{folder}: lm_head.weight differs from the embedding, but tie_word_embeddings is true")
    if left:
        raise ZambaError(f"{folder}: {len(left)} tensors that this config has no place for, first {sorted(left)[0]}")
    return weights


# ---- State (MODEL.md "State") ----------------------------------------------------------------------------------------

class State:
    """Everything a sequence remembers. Weights are shared between layers, state never is."""

    def __init__(self, model):
        c, zeros = model.config, lambda *shape: np.zeros(shape, model.dtype)
        one = c.family == ZAMBA1
        channels = c.mamba_inner + (0 if one else 2 * c.mamba_groups * c.mamba_state)
        n_uses = sum(row.use >= 0 for row in model.plan)
        self.n = 0                                                             # tokens read
        self.conv = [zeros(c.mamba_conv - 1, channels) for _ in model.plan]    # last conv inputs, oldest first
        self.ssm = [zeros(c.mamba_heads, c.mamba_head_dim, c.mamba_state) for _ in model.plan]
        self.kv = [[zeros(0, c.n_kv_heads, c.head_dim) for _ in "kv"] for _ in range(n_uses)]


# ---- Operations (MODEL.md "Operations") ------------------------------------------------------------------------------
# x [T, n] rows are tokens. All of them keep the floating type they are given.

def linear(x, w, bias=None):
    """x W^T: a weight is [out, in], as stored."""
    y = x @ w.T
    return y if bias is None else y + bias


def rmsnorm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + x.dtype.type(eps)) * weight


def silu(x):
    return x / (1 + np.exp(-np.clip(x, -80, None)))


def rmsnorm_gated(y, z, weight, groups, eps=GATED_NORM_EPS):
    """Gate first, then the norm over each group of channels by itself, then the weight."""
    v = (y * silu(z)).reshape(len(y), groups, -1)
    return rmsnorm(v, 1, eps).reshape(y.shape) * weight


ERF = np.frompyfunc(math.erf, 1, 1)


def act(x, name):
    if name == "gelu":   # the exact form
        return x * (1 + ERF(x / math.sqrt(2)).astype(x.dtype)) / 2
    if name == "gelu_tanh":
        return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + x.dtype.type(0.044715) * x**3))) / 2
    return silu(x) if name == "silu" else np.maximum(x, 0)


def glu(gate, up, name):
    return act(gate, name) * up


def conv1d_silu(x, state, weight, bias):
    """Depthwise, causal: tap K-1 multiplies the current token, tap 0 the oldest. Returns (out, new state)."""
    taps = weight.shape[-1]
    seen = np.concatenate([state, x])
    out = sum(weight[:, 0, k] * seen[k:k + len(x)] for k in range(taps))
    return silu(out if bias is None else out + bias), seen[len(x):]


def dt_softplus(raw, bias, dt_min=0.0, dt_max=math.inf):
    return np.clip(np.logaddexp(0, raw + bias), raw.dtype.type(dt_min), raw.dtype.type(dt_max))


def ssm_step(h, x, dt, A, B, C, D):
    """One token of Mamba-2. h [H, P, N] is updated; x [H, P]; dt, A, D [H]; B, C [G, N]. Returns y [H, P].
    Head j reads group j // (H / G): neighbours share a group."""
    B, C = (np.repeat(v, len(dt) // len(v), axis=0)[:, None, :] for v in (B, C))
    h *= np.exp(dt * A)[:, None, None]
    h += (dt[:, None] * x)[:, :, None] * B
    return np.sum(h * C, -1) + D[:, None] * x


def ssd_chunk(h, x, dt, A, B, C, D):
    """The same for L tokens at once, as matrix products (MODEL.md "Chunks"). x [L, H, P]; dt [L, H]; B, C [L, G, N]."""
    B, C = (np.repeat(v, dt.shape[1] // v.shape[1], axis=1) for v in (B, C))
    cum = np.cumsum(dt * A, 0)                                          # log of the decay up to and with token t
    decay = np.exp(np.where(np.tri(len(x), dtype=bool)[:, :, None], cum[:, None] - cum[None], -np.inf))   # [t, s, H]
    scores = np.einsum("thn,shn->tsh", C, B) * decay * dt[None]
    y = np.einsum("tsh,shp->thp", scores, x)                            # what tokens of this chunk add
    y += np.exp(cum)[:, :, None] * np.einsum("thn,hpn->thp", C, h)      # what the state before it adds
    h *= np.exp(cum[-1])[:, None, None]
    h += np.einsum("sh,shp,shn->hpn", np.exp(cum[-1] - cum) * dt, x, B)
    return y + D[:, None] * x


def mamba1_scan(S, x, dt, z, A, B, C, D):
    """One head of Mamba-1 over all tokens. S [P, N] is updated; x, dt, z [T, P]; A [P, N]; B, C [T, N]; D [P]."""
    y = np.empty_like(x)
    for t in range(len(x)):
        S *= np.exp(dt[t][:, None] * A)
        S += (dt[t] * x[t])[:, None] * B[t]
        y[t] = S @ C[t] + D * x[t]
    return y * silu(z)


def rope(x, first, theta):
    """Rotate pairs (i, i + d/2) of each head by position * theta^(-2i/d). x [T, heads, d]; angles are made in f64."""
    half = x.shape[-1] // 2
    angle = np.arange(first, first + len(x))[:, None] * theta ** (-np.arange(half) / half)
    cos, sin = (f(angle)[:, None, :].astype(x.dtype) for f in (np.cos, np.sin))
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention(q, k, v):
    """Causal. q [T, heads, d], the last T of the S positions in k, v [S, kv heads, d]. The scale is that of d/2."""
    T, heads, d = q.shape
    hidden_keys = np.arange(len(k)) > np.arange(len(k) - T, len(k))[:, None]
    out = np.empty_like(q)
    for j in range(heads):
        g = j // (heads // k.shape[1])                                  # heads of a KV group are neighbours
        s = q[:, j] @ k[:, g].T * q.dtype.type((d / 2) ** -0.5)
        s[hidden_keys] = -np.inf
        p = np.exp(s - s.max(-1, keepdims=True))
        out[:, j] = p / p.sum(-1, keepdims=True) @ v[:, g]
    return out.reshape(T, heads * d)


# ---- Mixers (MODEL.md "Mamba-2 mixer", "Mamba-1 mixer") --------------------------------------------------------------

def mamba2(c, w, x, state, i):
    inner, groups, N, heads = c.mamba_inner, c.mamba_groups, c.mamba_state, c.mamba_heads
    rows = linear(x, w["in_proj.weight"], w.get("in_proj.bias"))
    z, xBC, raw = np.split(rows, [inner, 2 * inner + 2 * groups * N], -1)
    xBC, state.conv[i] = conv1d_silu(xBC, state.conv[i], w["conv1d.weight"], w["conv1d.bias"])
    x, B, C = np.split(xBC, [inner, inner + groups * N], -1)
    x = x.reshape(-1, heads, c.mamba_head_dim)
    B, C = B.reshape(-1, groups, N), C.reshape(-1, groups, N)
    dt, A = dt_softplus(raw, w["dt_bias"], c.dt_min, c.dt_max), -np.exp(w["A_log"])
    y = np.stack([ssm_step(state.ssm[i], x[t], dt[t], A, B[t], C[t], w["D"]) for t in range(len(x))])
    y = rmsnorm_gated(y.reshape(len(x), inner), z, w["norm.weight"], groups)
    return linear(y, w["out_proj.weight"], w.get("out_proj.bias"))


def mamba1(c, w, x, state, i):
    P, N, r = c.mamba_head_dim, c.mamba_state, c.mamba_dt_rank
    rows = linear(x, w["in_proj.weight"], w.get("in_proj.bias"))
    x, z = rows[:, 0::2], rows[:, 1::2]                                 # interleaved: x, gate, x, gate, ...
    x, state.conv[i] = conv1d_silu(x, state.conv[i], w["conv1d.weight"], w.get("conv1d.bias"))
    y = np.empty_like(x)
    for head in range(c.mamba_heads):
        own = slice(head * P, (head + 1) * P)
        low, B, C = np.split(linear(x[:, own], w["x_proj_weight"][head]), [r, r + N], -1)
        dt = dt_softplus(linear(low, w["dt_proj_weight"][head]), w["dt_proj_bias"][head])   # per channel, no floor
        y[:, own] = mamba1_scan(state.ssm[i][head], x[:, own], dt, z[:, own], -np.exp(w["A_log"][head]), B, C, w["D"][head])
    return linear(y, w["out_proj.weight"], w.get("out_proj.bias"))


# ---- Shared block (MODEL.md "Shared block") --------------------------------------------------------------------------

def shared_block(c, w, x, x0, state, use):
    """Attention, then the MLP, on (current hidden, embedding). No residual inside. Returns (attention out, block out)."""
    u = rmsnorm(np.concatenate([x, x0], -1), w["input_layernorm.weight"], c.norm_eps)
    qkv = []
    for name in "qkv":
        y = linear(u, w[f"self_attn.{name}_proj.weight"])
        if c.attn_adapter:
            y = y + adapter(w, f"self_attn.linear_{name}_adapter_list.{use}.", u)
        qkv.append(y.reshape(len(x), -1, c.head_dim))
    q, k, v = qkv
    if c.use_rope:
        q, k = rope(q, state.n, c.rope_theta), rope(k, state.n, c.rope_theta)
    state.kv[use] = [np.concatenate([old, new]) for old, new in zip(state.kv[use], (k, v))]
    a = linear(attention(q, *state.kv[use]), w["self_attn.o_proj.weight"])

    u, mlp = rmsnorm(a, w["pre_ff_layernorm.weight"], c.norm_eps), "feed_forward."
    if c.family == ZAMBA1:
        gate, up = linear(u, w[mlp + "gate_proj.weight"]), linear(u, w[mlp + "up_proj.weight"])
    else:
        both = linear(u, w[mlp + "gate_up_proj.weight"], w.get(mlp + "gate_up_proj.bias"))
        if c.mlp_adapter:
            both = both + adapter(w, mlp + f"gate_up_proj_adapter_list.{use}.", u)
        gate, up = np.split(both, 2, -1)
    return a, linear(glu(gate, up, c.act), w[mlp + "down_proj.weight"], w.get(mlp + "down_proj.bias"))


def adapter(w, prefix, u):
    return linear(linear(u, w[prefix + "0.weight"]), w[prefix + "1.weight"])


# ---- Forward (MODEL.md "Forward") ------------------------------------------------------------------------------------

def forward(model, state, ids, hidden=None):
    """Read ids after what `state` has read; logits [T, vocab]. A prompt, a piece of one and a single token are the same
    call. `hidden`, a dict, takes the values between the layers."""
    c, w, note = model.config, model.weights, (hidden if hidden is not None else {}).__setitem__
    ids = np.asarray(ids, np.int64).reshape(-1)
    if not len(ids) or ids.min() < 0 or ids.max() >= c.vocab_size:
        raise ZambaError(f"ids: found {ids.tolist()[:8]}..., wanted at least one, each from 0 to {c.vocab_size - 1}")
    owner = {}                                                          # block -> layer that lists its tensors
    x = x0 = w["model.embed_tokens.weight"][ids]
    note("embed", x)
    for i, row in enumerate(model.plan):
        at, into = f"model.layers.{i}.", x
        if row.shared >= 0:
            prefix = f"model.layers.{owner.setdefault(row.shared, i)}."
            block = model.under(prefix + ("shared_transf." if c.family == ZAMBA1 else "shared_transformer."))
            a, s = shared_block(c, block, x, x0, state, row.use)
            t = linear(s, w[at + "linear.weight"])
            for name, value in (("attn_out", a), ("shared_out", s), ("linear_out", t)):
                note(f"layers.{i}.{name}", value)
            at, into = at + "mamba_decoder.", x + t                     # t reaches the mixer only, not the residual
        mixer = mamba1 if row.mixer == MAMBA1 else mamba2
        m = mixer(c, model.under(at + "mamba."), rmsnorm(into, w[at + "input_layernorm.weight"], c.norm_eps), state, i)
        x = x + m
        note(f"layers.{i}.mamba_out", m)
        note(f"layers.{i}.out", x)
    state.n += len(ids)
    x = rmsnorm(x, w["model.final_layernorm.weight"], c.norm_eps)
    note("final_norm", x)
    return linear(x, w["model.embed_tokens.weight" if c.tied_head else "lm_head.weight"])


def forward_split(model, ids, sizes, state=None):
    """The same logits with the ids fed in pieces of these sizes, the rest one by one."""
    state, out, at = state or State(model), [], 0
    while at < len(ids):
        n, sizes = (sizes[0], sizes[1:]) if sizes else (1, ())
        out.append(forward(model, state, ids[at:at + n]))
        at += n
    return np.concatenate(out)


def generate(model, prompt, n, forbid=(), stop=()):
    """Greedy: the n best ids one after another (the lowest id among equals)."""
    state, ids, out = State(model), list(prompt), []
    for _ in range(n):
        logits = forward(model, state, ids)[-1]
        logits[list(forbid)] = -np.inf
        ids = [int(np.argmax(logits))]
        out += ids
        if ids[0] in stop:
            break
    return out


# ---- Sizes (MODEL.md "Sizes") ----------------------------------------------------------------------------------------

def published(hidden, layers, heads, hybrid, one=False, **more):
    return dict(dict(model_type=ZAMBA1 if one else ZAMBA2, hidden_size=hidden, num_hidden_layers=layers, vocab_size=32000,
                     num_attention_heads=heads, layers_block_type=["hybrid" if i in hybrid else "mamba" for i in range(layers)]),
                **more)


PUBLISHED = {
    "Zamba-7B-v1": published(3712, 76, 16, [2, *range(7, 76, 6)], one=True),
    "Zamba2-1.2B": published(2048, 38, 32, range(5, 38, 6), n_mamba_heads=64, mamba_d_state=128, use_mem_rope=True,
                             use_shared_attention_adapter=True),
    "Zamba2-2.7B": published(2560, 54, 32, [*range(6, 43, 6), 47, 51], n_mamba_heads=80, num_mem_blocks=2),
    "Zamba2-7B": published(3584, 81, 32, [6, *range(11, 78, 6)], n_mamba_heads=112, num_mem_blocks=2, mamba_ngroups=2,
                           use_mem_rope=True),
}


def sizes(c):
    """Counts from the tensor list alone. Work: a multiply and an add for each weight of a product that a token meets."""
    plan = plan_build(c)
    tensors = tensor_list(c, plan)
    uses = sum(row.use >= 0 for row in plan)
    channels = c.mamba_inner + (0 if c.family == ZAMBA1 else 2 * c.mamba_groups * c.mamba_state)
    kv = uses * 2 * c.n_kv_heads * c.head_dim
    conv = lambda taps: 4 * c.n_layers * (c.mamba_inner * c.mamba_state + taps * channels)
    touched = sum(t.n_uses * math.prod(t.shape) for t in tensors if t.quantizable)
    out = {"parameters": sum(math.prod(t.shape) for t in tensors), "tensors": len(tensors), "touched": touched,
           "flop": 2 * touched, "flop_per_1000_context": 4000 * uses * c.n_heads * c.head_dim, "kv_f32": 4 * kv,
           "kv_bf16": 2 * kv, "kv_q8_0": kv * 34 // 32, "kv_q4_0": kv * 18 // 32,
           "state": conv(c.mamba_conv - 1), "state_hf": conv(c.mamba_conv)}
    for part in ("embedding", "head", "mamba", "shared", "adapter", "linear", "norm"):
        out["part." + part] = sum(math.prod(t.shape) for t in tensors if t.part == part)
    return out


SIZE_ROWS = [
    ("parameters", "parameters", 1), ("tensors (tied ones once)", "tensors", 1), ("weights touched per token", "touched", 1),
    ("GFLOP per token", "flop", 1e9), ("GFLOP more per 1,000 tokens of context", "flop_per_1000_context", 1e9),
    ("KV bytes per token, f32", "kv_f32", 1), ("KV bytes per token, bf16", "kv_bf16", 1),
    ("KV bytes per token, q8_0", "kv_q8_0", 1), ("KV bytes per token, q4_0", "kv_q4_0", 1),
    ("state bytes per sequence, f32", "state", 1), ("the same, MiB", "state", 2**20),
    ("the same with d_conv columns, MiB", "state_hf", 2**20)]
SIZE_ROWS += [(f"parameters in {p}", "part." + p, 1) for p in ("embedding", "mamba", "shared", "adapter", "linear", "norm")]


def sizes_print(configs):
    table = {name: sizes(c) for name, c in configs.items()}
    print("| | " + " | ".join(table) + " |\n| --- |" + " ---: |" * len(table))
    for title, key, unit in SIZE_ROWS:
        cells = [f"{s[key]:,}" if unit == 1 else f"{s[key] / unit:.2f}" for s in table.values()]
        print(f"| {title} | " + " | ".join(cells) + " |")


# ---- Command line ----------------------------------------------------------------------------------------------------

def run(args):
    if args.command == "check":
        import check_goldens
        return check_goldens.check(args.model, args.dtype)
    if args.command == "sizes":
        configs = {k: config_read(v) for k, v in PUBLISHED.items()} if not args.model else {}
        for path in args.model:
            configs[os.path.basename(os.path.abspath(path))] = config_read(json_read(os.path.join(path, args.config)))
        sizes_print(configs)
        return 0
    model = Model(args.model[0], args.dt_floor, args.dtype, args.config)
    if args.command == "generate":
        eos = model.config.eos
        ids = generate(model, args.prompt_ids, args.n, *((eos, ()) if args.ignore_eos else ((), eos)))
        print(json.dumps(ids))
        return 0
    out = {}
    for k, ids in enumerate(json_read(args.ids)):
        if args.command == "logits":
            out[f"logits.{k}"] = forward_split(model, ids, args.split or (len(ids),))
        else:
            values = {}
            forward(model, State(model), ids, values)
            out.update({f"hidden.{k}.{i}": values[f"layers.{i}.out"] for i in range(model.config.n_layers)})
    safetensors_write(args.output, out)
    return 0


def main():
    numbers = lambda text: tuple(int(v) for v in text.split(","))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=["logits", "hidden", "generate", "check", "sizes"])
    p.add_argument("model", nargs="*")
    p.add_argument("--ids")
    p.add_argument("--prompt-ids", type=numbers, default=())
    p.add_argument("--split", type=numbers, default=())
    p.add_argument("-n", type=int, default=64)
    p.add_argument("-o", "--output", default="logits.safetensors")
    p.add_argument("--ignore-eos", action="store_true")
    p.add_argument("--dt-floor", choices=["auto", "none", "config"], default="auto")
    p.add_argument("--config", default="config.json")
    p.add_argument("--f64", dest="dtype", action="store_const", const=np.float64, default=np.float32)
    args = p.parse_intermixed_args()
    if not args.model and args.command != "sizes":
        p.error("no folder given")
    if args.command in ("logits", "hidden") and not args.ids:
        p.error("--ids FILE.json is missing")
    try:
        return run(args)
    except (ZambaError, OSError, ValueError) as e:
        print(f"zamba_reference.py: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
