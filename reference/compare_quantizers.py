#!/usr/bin/env python3
"""compare_quantizers.py — KL divergence of a model packed by zamba and by the Python package gguf, type by type, and of the
K types beside the plain type of about their size.

    python3 reference/compare_quantizers.py --zamba FILE --model DIR --text FILE [--limit TOKENS] [--compute f32|auto]

zamba packs every matrix to one type; in a copy of that file gguf's own bytes take the place of the same tensors, so that
nothing else differs. `zamba perplexity --kl-base` compares both with the unquantized model. Needs numpy and gguf.
"""
import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader, quants

BY_GGUF = ["Q8_0", "Q5_0", "Q4_1", "Q4_0"]
PAIRS = [("Q4_K", "Q4_0"), ("Q5_K", "Q5_0")]  # the same bits a weight


def run(zamba, *words):
    done = subprocess.run([zamba, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"zamba {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def put_gguf_bytes(path, wide):
    """Replace the quantized tensors of a file by what gguf packs of the same numbers; returns how many there were."""
    reader = GGUFReader(path)
    numbers = {t.name: t for t in GGUFReader(wide).tensors}
    n = 0
    with open(path, "r+b") as f:
        for t in reader.tensors:
            if t.tensor_type.name not in BY_GGUF:
                continue
            rows = np.array(numbers[t.name].data, dtype=np.float32).reshape(-1, int(t.shape[0]))
            packed = quants.quantize(rows, t.tensor_type).tobytes()
            assert len(packed) == t.n_bytes, t.name
            f.seek(int(t.data_offset))
            f.write(packed)
            n += 1
    return n


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zamba", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--limit", type=int, default=4096)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--compute", default="f32", help="f32 (the weights' error alone) or auto (what runs)")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        base, wide = folder / "base.kl", folder / "wide.gguf"
        common = ["--limit", a.limit, "--window", a.window, "--compute", a.compute, "--kl-base", base]
        run(a.zamba, "perplexity", a.model, a.text, *common, "--save-kl-base")
        run(a.zamba, "convert", a.model, wide, "--type", "f32")

        def kl(path):
            found = json.loads(run(a.zamba, "perplexity", path, a.text, *common, "--json"))
            return found["kl"]["kld"]["mean"]

        ours = {}
        print("| type | zamba | gguf | |\n| --- | ---: | ---: | --- |")
        for kind in BY_GGUF:
            path, theirs = folder / f"{kind}.gguf", folder / f"{kind}-gguf.gguf"
            run(a.zamba, "quantize", a.model, path, kind, "--pure")
            shutil.copyfile(path, theirs)
            put_gguf_bytes(theirs, wide)
            ours[kind], other = kl(path), kl(theirs)
            print(f"| {kind} | {ours[kind]:.6f} | {other:.6f} | {'met' if ours[kind] <= other * 1.0001 else 'NOT met'} |",
                  flush=True)
        print("\n| type | zamba | plain type | |\n| --- | ---: | ---: | --- |")
        for kind, plain in PAIRS:
            path = folder / f"{kind}.gguf"
            run(a.zamba, "quantize", a.model, path, kind, "--pure")
            found = kl(path)
            print(f"| {kind} | {found:.6f} | {plain} {ours[plain]:.6f} | {'met' if found < ours[plain] else 'NOT met'} |",
                  flush=True)


if __name__ == "__main__":
    main()
