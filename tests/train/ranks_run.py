"""ranks_run.py — what the tests of training by several processes share: a tiny run, mpirun, weights to compare. Exit code
77 (skipped) where there is no mpirun, or the program was built without MPI."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("ZAMBA_PROGRAM") or str(ROOT / "build" / "release" / "zamba")
TOKENIZER = ROOT / "models" / "starter-zamba2"
TIMEOUT = 300
CONFIG = {"model_type": "zamba2", "hidden_size": 64, "num_hidden_layers": 3, "hybrid_layer_ids": [1], "num_mem_blocks": 1,
          "num_attention_heads": 2, "intermediate_size": 64, "mamba_expand": 2, "mamba_headdim": 32, "mamba_ngroups": 1,
          "mamba_d_state": 8, "adapter_rank": 4, "use_mem_rope": True, "max_position_embeddings": 128, "vocab_size": 4096}
# Sums of gradients in another order differ in their last bits, ten steps of AdamW at 1e-3 make that: in the mean little,
# but a weight whose gradient is next to nothing may go the other way.
LOSS, MOST, MEAN = 1e-4, 2e-3, 1e-6


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "SLURM_"))}
    env.update(OMPI_MCA_btl_vader_single_copy_mechanism="none",  # what it needs is forbidden in many containers
               OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", LC_ALL="C.UTF-8",
               ASAN_OPTIONS="detect_leaks=0", TMPDIR="/tmp")  # sockets have short names
    return env


def launcher(n, *more):
    return ["mpirun", "-n", n, "--oversubscribe", "--bind-to", "none", *more]


def needs_mpi():
    if not shutil.which("mpirun"):
        skip("no mpirun (Debian: openmpi-bin)")
    if "Open MPI" not in subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout:
        skip("mpirun is not Open MPI's")
    done = execute([*launcher(2), PROGRAM, "train"])
    if "without MPI" in done.stderr:
        skip("the program was built without MPI (Debian: libopenmpi-dev)")


def execute(command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=TIMEOUT, env=environment(),
                          cwd=ROOT)


def prepare(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "text.txt").write_text("".join(f"Line {i}: the fox {i * i} ran over hill {i % 7}.\n" for i in range(400)))
    rows = ({"prompt": f"What is {i} and {i}?", "chosen": f" It is {2 * i}.", "rejected": f" It may be {i * i + 1}, or less."}
            for i in range(40))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def pretrain(folder, run, *more):
    return [PROGRAM, "train", "pretrain", "--config", folder / "config.json", "--tokenizer", TOKENIZER, "--data",
            folder / "text.txt", "-o", run, *steps(), *more]


def steps():
    return ["--batch-size", 4, "--sequence-length", 32, "--max-steps", 10, "--save-steps", 5, "--threads", 1,
            "--learning-rate", "1e-3", "--progress", "none"]


def succeed(command):
    done = execute(command)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(m["step"], m["loss"], m["tokens"]) for m in lines if "loss" in m]


def tensors(path):
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    types = {"F32": np.float32}
    return {name: np.frombuffer(data, types[t["dtype"]], (t["data_offsets"][1] - t["data_offsets"][0]) // 4,
                                8 + n + t["data_offsets"][0]) for name, t in header.items()}


def check_same(a, b, step=10, weights="model.safetensors"):
    """Two runs went the same way."""
    one, two = losses(a), losses(b)
    assert len(one) == len(two) == step, (one, two)
    for x, y in zip(one, two):
        assert x[0] == y[0] and x[2] == y[2] and abs(x[1] - y[1]) < LOSS, (x, y)
    worst = 0
    for name in (weights, "optimizer.safetensors"):
        x, y = tensors(a / f"checkpoint-{step:06d}" / name), tensors(b / f"checkpoint-{step:06d}" / name)
        assert x.keys() == y.keys(), x.keys() ^ y.keys()
        for k in x:
            off = np.abs(x[k] - y[k])
            assert off.max() < MOST and off.mean() < MEAN, f"{name}, {k}: {off.max()}, in the mean {off.mean()}"
            worst = max(worst, off.max())
    return max(abs(x[1] - y[1]) for x, y in zip(one, two)), worst


def check_same_bytes(a, b, step=10):
    for name in ("model.safetensors", "optimizer.safetensors", "trainer_state.json"):
        x, y = a / f"checkpoint-{step:06d}" / name, b / f"checkpoint-{step:06d}" / name
        assert x.read_bytes() == y.read_bytes(), f"{x} and {y} differ"
