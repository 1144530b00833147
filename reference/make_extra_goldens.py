#!/usr/bin/env python3
"""Make very small goldens for the variants that make_goldens.py's models do not have.

    make_extra_goldens.py --out DIR [--only NAME ...]

Each becomes DIR/extra-<name>/ with config.json, model.safetensors and forward.safetensors (input_ids.T<n> int64 [1, n],
logits.T<n> f32 [1, n, vocab], n = 1, 7, 64), computed like the others: transformers 5.23.0, torch 2.13, fp32, eager. Where
transformers has no switch for a variant, its weights are changed so that the same numbers come out (see `edit`,
`before`): an adapter that is absent is one that is zero, a rescaled theta is a theta written so.
"""
import argparse
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

from make_goldens import H, M, build, dump, gen, load, mixers, run_logits, shared_layers, tokens, write

SALT, LENGTHS = "zamba-extra-1", (1, 7, 64)
Z1 = dict(vocab_size=96, hidden_size=24, intermediate_size=40, num_attention_heads=4, num_key_value_heads=4, n_mamba_heads=2,
          mamba_d_state=8, max_position_embeddings=128, layers_block_type=[M, M, H, M, H])
Z2 = dict(vocab_size=96, hidden_size=24, intermediate_size=40, num_attention_heads=4, n_mamba_heads=8, mamba_d_state=8,
          adapter_rank=4, chunk_size=16, max_position_embeddings=128, use_mem_rope=True, rope_parameters=dict(
              rope_type="default", rope_theta=10000.0), layers_block_type=[M, H, M, H, H])


def old_keys(c, block_types="mg", **more):
    """The config with the keys of the 2024 fork."""
    for new, old in (("mamba_d_state", "state_size"), ("mamba_d_conv", "conv_dimension"), ("mamba_expand", "expansion_factor"),
                     ("adapter_rank", "lora_rank"), ("intermediate_size", "ffn_hidden_size"), ("dtype", "torch_dtype")):
        c[old] = c.pop(new)
    for k in ("n_mamba_heads", "chunk_size", "hybrid_layer_ids", "use_shared_attention_adapter", "use_mem_eff_path",
              "use_conv_bias", "attention_head_dim", "attention_hidden_size", "use_cache"):
        c.pop(k, None)
    c["layers_block_type"] = [block_types[t == "hybrid"] if len(block_types) == 2 else {"hybrid": H}.get(t, M)
                              for t in c["layers_block_type"]]
    c["rope_theta"] = c.pop("rope_parameters")["rope_theta"]
    c.update(gated_linear_unit=True, use_shared_block_lora=True, sliding_window=None, transformers_version="4.43.0.dev0")
    c.update(more)
    return c


def without(c, *keys, **more):
    return {**{k: v for k, v in c.items() if k not in keys}, **more}


def long_theta(d):
    return dict(rope_type="default", rope_theta=10000.0 * 8 ** (d / (d - 2)))


@torch.no_grad()
def zero_mlp_adapters(model):
    for k, p in model.named_parameters():
        if "gate_up_proj_adapter_list" in k:
            p.zero_()


def limit_dt(model):
    for m in mixers(model):
        m.time_step_limit = (0.05, 0.1)


# name, family, config, then: `edit` of config.json, `before` the logits, `drop` a part of tensor names, `dtype`
EXTRA = [
    dict(name="gqa", family="zamba2", config=dict(Z2, num_key_value_heads=2)),
    dict(name="mqa-norope", family="zamba2", config=dict(Z2, num_key_value_heads=1, use_mem_rope=False)),
    dict(name="bias", family="zamba2", config=dict(Z2, add_bias_linear=True)),
    dict(name="silu", family="zamba2", config=dict(Z2, hidden_act="silu", use_shared_attention_adapter=True)),
    dict(name="gelu-tanh", family="zamba2", config=dict(Z2, hidden_act="gelu_pytorch_tanh")),
    dict(name="blocks3", family="zamba2", config=dict(
        Z2, hidden_size=16, num_mem_blocks=3, use_shared_attention_adapter=True, layers_block_type=[H, M, H, H, M, H, H, H, H])),
    dict(name="spare-blocks", family="zamba2", config=dict(Z2, num_mem_blocks=5)),
    dict(name="no-hybrid", family="zamba2", config=dict(Z2, layers_block_type=[M, M]), T=(7, 64)),
    dict(name="groups4", family="zamba2", config=dict(Z2, mamba_ngroups=4)),
    dict(name="conv3", family="zamba2", config=dict(Z2, mamba_d_conv=3)),
    dict(name="conv2-zamba1", family="zamba", config=dict(Z1, mamba_d_conv=2)),
    dict(name="odd-sizes", family="zamba2", config=dict(
        Z2, vocab_size=101, hidden_size=15, intermediate_size=37, num_attention_heads=3, n_mamba_heads=6, mamba_d_state=7,
        mamba_ngroups=3, adapter_rank=5, mamba_d_conv=5, rms_norm_eps=1e-3, num_mem_blocks=2,
        use_shared_attention_adapter=True)),
    dict(name="f16-untied", family="zamba2", dtype="float16", config=dict(
        Z2, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=500.0))),
    dict(name="zyphra-2024", family="zamba2", config=dict(Z2, use_shared_attention_adapter=True, mamba_ngroups=2),
         edit=lambda c: old_keys(c, se_shared_attention_lora=True)),
    dict(name="zyphra-2024-longctx", family="zamba2", config=dict(Z2, num_mem_blocks=2, rope_parameters=long_theta(12)),
         edit=lambda c: old_keys(c, "names", rope_theta=10000, use_long_context=True)),
    dict(name="no-mlp-adapter", family="zamba2", config=dict(Z2, use_shared_attention_adapter=True), before=zero_mlp_adapters,
         drop="gate_up_proj_adapter_list",
         edit=lambda c: old_keys(c, use_shared_block_lora=False, use_shared_attention_lora=True)),
    dict(name="dt-limit", family="zamba2", config=dict(Z2), before=limit_dt,
         edit=lambda c: without(c, time_step_limit=[0.05, 0.1])),
    dict(name="dt-no-limit", family="zamba2", config=dict(Z2), edit=lambda c: without(c, time_step_limit=[0.0, float("inf")])),
    dict(name="few-keys", family="zamba2", config=dict(Z2, intermediate_size=96), edit=lambda c: {
        k: c[k] for k in ("model_type", "hidden_size", "num_hidden_layers", "hybrid_layer_ids", "vocab_size", "mamba_d_state",
                          "num_attention_heads", "adapter_rank", "use_mem_rope")}),
    dict(name="zamba1-proj-bias", family="zamba", config=dict(Z1, mamba_proj_bias=True, hidden_act="silu")),
    dict(name="zamba1-no-conv-bias", family="zamba", config=dict(Z1, mamba_conv_bias=False, mamba_dt_rank=5)),
    dict(name="zamba1-heads1", family="zamba", config=dict(Z1, n_mamba_heads=1)),
    dict(name="zamba1-heads4-gqa", family="zamba", config=dict(Z1, n_mamba_heads=4, num_key_value_heads=2)),
    dict(name="zamba1-head-dim", family="zamba", config=dict(Z1, attention_head_dim=10, tie_word_embeddings=False)),
    dict(name="zamba1-no-types", family="zamba", config=dict(
        Z1, layers_block_type=[M, M, H, M, H, M, M, H, M]), edit=lambda c: without(
            c, "layers_block_type", attn_layer_period=3, attn_layer_offset=1, mamba_dt_rank="auto")),
]


def make(spec, root):
    out = os.path.join(root, "extra-" + spec["name"])
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    dtype = getattr(torch, spec.get("dtype", "float32"))
    model = build(spec, SALT).to(dtype)
    model.config.dtype = dtype
    if spec.get("drop"):
        spec["before"](model)
    model.save_pretrained(out)
    os.remove(os.path.join(out, "generation_config.json"))
    path = os.path.join(out, "config.json")
    config = json.load(open(path))
    config["tie_word_embeddings"] = spec["config"].get("tie_word_embeddings", True)
    dump(path, config)
    model = load(out, torch.float32)
    if "before" in spec:
        spec["before"](model)
    t, g = {}, gen(SALT, spec["name"], "forward")
    for n in spec.get("T", LENGTHS):
        t[f"input_ids.T{n}"] = tokens(g, (1, n), config["vocab_size"])
        t[f"logits.T{n}"] = run_logits(model, t[f"input_ids.T{n}"])
    write(os.path.join(out, "forward.safetensors"), t)
    if "edit" in spec:
        config = spec["edit"](config)
    dump(path, dict(sorted(config.items())))
    if spec.get("drop"):
        weights = os.path.join(out, "model.safetensors")
        save_file({k: v.clone() for k, v in load_file(weights).items() if spec["drop"] not in k}, weights, {"format": "pt"})
    for f in os.listdir(out):
        os.chmod(os.path.join(out, f), 0o644)
    size = sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out))
    print(f"extra-{spec['name']}: {size / 1e3:.0f} kB, logits to {float(t['logits.T64'].abs().max()):.1f}, "
          f"{len(list(shared_layers(model)))} tied blocks")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--only", nargs="*")
    a = ap.parse_args()
    for spec in EXTRA:
        if not a.only or spec["name"] in a.only:
            make(spec, a.out)


if __name__ == "__main__":
    main()
