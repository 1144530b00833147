#!/usr/bin/env python3
"""bits_per_byte.py — how well models predict a text, by transformers: the yardstick for the default model.

    bits_per_byte.py TEXT MODEL [MODEL ...]

Documents, which a line <|endoftext|> separates, become <s> text </s> by each model's own tokenizer, one behind the other; windows
of 256 ids that overlap by one predict every id but the first once. Their mean loss stands for all ids and is divided by the
text's bytes without the separators, so that models with other tokenizers compare. f32; needs torch and transformers."""
import argparse
import math
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW, BATCH = 256, 16


def measure(folder, documents):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = []
    for document in documents:
        ids += [tokenizer.bos_token_id, *tokenizer(document, add_special_tokens=False)["input_ids"],
                tokenizer.convert_tokens_to_ids("</s>")]
    windows = [ids[at:at + WINDOW] for at in range(0, len(ids) - 1, WINDOW - 1)]
    loss = count = 0
    for at in range(0, len(windows), BATCH):
        whole = [w for w in windows[at:at + BATCH] if len(w) == WINDOW]
        rest = [[w] for w in windows[at:at + BATCH] if len(w) < WINDOW]
        for batch in ([whole] if whole else []) + rest:
            rows = torch.tensor(batch)
            with torch.no_grad():
                logits = model(rows, use_cache=False).logits[:, :-1]
            loss += torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
            count += rows[:, 1:].numel()
    return loss / count, len(ids)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("text", type=Path)
    ap.add_argument("models", nargs="+")
    a = ap.parse_args()
    documents = [d.strip("\n") for d in a.text.read_text(encoding="utf-8").split("<|endoftext|>") if d.strip()]
    size = sum(len(d.encode()) for d in documents)
    for folder in a.models:
        start = time.monotonic()
        loss, n = measure(folder, documents)
        print(f"{folder}: {loss:.4f} nats per token, {n} tokens of {size} bytes: {loss * n / size / math.log(2):.4f} bits per byte "
              f"({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
