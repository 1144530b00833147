#!/usr/bin/env python3
"""check_lora.py — adapters between this program and peft: one that `zamba train --lora` made is loaded by peft and must
give transformers the logits that `zamba debug logits --lora` gives; one that peft makes, over every linear module, with
patterns of ranks, must give this program the logits of transformers.

    python3 reference/check_lora.py ZAMBA [GOLDENS]

ZAMBA is the program, GOLDENS a folder of tiny models (tests/golden/fixtures). Needs torch, transformers, peft,
safetensors. Prints the largest difference for each model; exit code 1 if one is above the model's own tolerance."""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent
MODELS = ["zamba1-tiny", "zamba2-1.2b-tiny", "zamba2-2.7b-tiny", "zamba2-7b-tiny"]
IDS = [[5, 9, 100, 37, 2, 61, 8, 200, 11, 77, 3, 150]]
TEXT = list(range(3, 200)) * 3


def zamba(program, *words):
    done = subprocess.run([str(w) for w in (program, *words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")


def ours(program, model, adapter, folder):
    (folder / "ids.json").write_text(json.dumps(IDS))
    zamba(program, "debug", "logits", model, "--lora", adapter, "--ids", folder / "ids.json", "-o", folder / "l.safetensors",
          "--dt-floor", "config")
    return load_file(folder / "l.safetensors")["logits.0"]


def theirs(model):
    with torch.no_grad():
        return model(torch.tensor(IDS), use_cache=False).logits[0].float()


def base_of(path):
    return AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager", dtype=torch.float32).eval()


def made_here(program, golden, folder):
    """train --lora on token ids, beside a tokenizer that is only there because there must be one."""
    model, ids = folder / "model", folder / "ids.u16"
    shutil.copytree(golden, model)
    tokenizer = json.loads((ROOT / "models/starter-zamba2/tokenizer.json").read_text())
    tokenizer["model"].update(merges=[], byte_fallback=False,
                              vocab={k: v for k, v in tokenizer["model"]["vocab"].items() if v < 200})
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["id"] < 200]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    np.array(TEXT, dtype="<u2").tofile(ids)
    zamba(program, "train", "pretrain", model, "--data", ids, "-o", folder / "run", "--lora", "--lora-rank", "6", "--lora-alpha",
          "9", "--rslora", "--batch-size", "2", "--sequence-length", "40", "--max-steps", "20", "--learning-rate", "1e-2",
          "--progress", "none", "--dt-floor", "config")
    return folder / "run" / "checkpoint-000020"


def made_there(model, folder):
    """Random A and B on every linear module, ranks and alphas by pattern."""
    torch.manual_seed(1)
    peft = get_peft_model(base_of(model), LoraConfig(
        r=5, lora_alpha=7, target_modules="all-linear", task_type="CAUSAL_LM", rank_pattern={"in_proj": 3, "q_proj": 2},
        alpha_pattern={"in_proj": 6, "layers.0.mamba.out_proj": 11}))
    for name, p in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    peft.save_pretrained(folder / "peft")
    return folder / "peft", theirs(peft.eval())


def main():
    program = Path(sys.argv[1]).resolve()
    goldens = Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "tests/golden/fixtures")
    bad = 0
    for name in MODELS:
        model = goldens / name
        tolerance = json.loads((model / "goldens.json").read_text())["tolerance"]["logits_abs"]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            plain = theirs(base_of(model))
            adapter = made_here(program, model, folder)
            loaded = theirs(PeftModel.from_pretrained(base_of(model), adapter).eval())
            here = (loaded - ours(program, model, adapter, folder)).abs().max().item()
            effect = (loaded - plain).abs().max().item()
            adapter, want = made_there(model, folder)
            there = (want - ours(program, model, adapter, folder)).abs().max().item()
            more = (want - plain).abs().max().item()
        fine = here <= tolerance and there <= tolerance and effect > 0.1 and more > 0.1
        bad += not fine
        print(f"{name}: trained here {here:.1e} (changes {effect:.2f}), made by peft {there:.1e} (changes {more:.2f}), "
              f"tolerance {tolerance:g}: {'fine' if fine else 'WRONG'}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
