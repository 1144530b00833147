#!/usr/bin/env python3
"""make_backbone_fixtures.py — the fixtures of tests/backbone: small cases of every form of the frame model, made by its
plain-torch reference (backbone_reference.py, given as an argument; it is the executable form of the specification).

    python reference/make_backbone_fixtures.py path/to/backbone_reference.py tests/backbone/fixtures

Each case is a folder: case.json (options, counts, tolerances), weights, inputs, outputs (every position, streamed
positions, the state after the last frame) and gradients. Numbers are made in f64 from f32 weights and inputs.
"""
import importlib.util
import sys

import torch

CASES = {  # name: (preset, options, batch, seed); the shapes are odd on purpose
    "default_287": ("edifice", dict(hidden_size=16, head_dim=4), 1, 11),
    "every3_of_7": ("edifice", dict(embed_dim=20, hidden_size=16, num_layers=7, attention_every=3, state_size=8,
                                    expand_factor=3, conv_size=3, num_heads=2, head_dim=12, window_size=16), 2, 12),
    "one_head": ("edifice", dict(embed_dim=16, hidden_size=16, num_layers=3, attention_every=1, num_heads=1,
                                 head_dim=16, window_size=24), 1, 13),
    "seq_ne_window": ("edifice", dict(embed_dim=13, hidden_size=24, num_layers=4, attention_every=2, state_size=4,
                                      num_heads=3, head_dim=8, window_size=20, seq_len=97), 1, 14),
    "nexus_ffn": ("nexus", dict(embed_dim=16, hidden_size=16, num_layers=6, attention_every=3, num_heads=4, head_dim=4,
                                window_size=12, seq_len=40), 2, 15),
    "edifice_gated": ("edifice", dict(embed_dim=24, hidden_size=16, num_layers=4, attention_every=2, num_heads=2,
                                      head_dim=8, window_size=30, block="gated"), 2, 16),
    "edifice_mamba": ("edifice", dict(embed_dim=24, hidden_size=16, num_layers=4, attention_every=2, num_heads=2,
                                      head_dim=8, window_size=30, seq_len=45, block="mamba_fixed"), 1, 17),
    "gated_causal": ("edifice", dict(embed_dim=11, hidden_size=16, num_layers=3, attention_every=2, num_heads=2,
                                     head_dim=8, window_size=10, seq_len=30, block="gated_causal", conv_size=1), 2, 18),
}


def main():
    spec = importlib.util.spec_from_file_location("backbone_reference", sys.argv[1])
    reference = importlib.util.module_from_spec(spec)
    sys.modules["backbone_reference"] = reference
    spec.loader.exec_module(reference)
    torch.set_num_threads(1)
    reference.make(sys.argv[2], CASES)


if __name__ == "__main__":
    main()
