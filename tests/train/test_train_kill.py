#!/usr/bin/env python3
"""test_train_kill.py [KILLS] — a training run that saves after every step is killed (-9) at random moments and gone on
with, KILLS times (5). After each kill there is a whole checkpoint that loses no more than one interval; in the end the
weights are, to the byte, those of a run that was never stopped."""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("ZAMBA_PROGRAM") or str(ROOT / "build" / "release" / "zamba")
TOKENIZER = ROOT / "models" / "starter-zamba2"
KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
STEPS = max(30, 6 * KILLS)
CONFIG = {"model_type": "zamba2", "hidden_size": 64, "num_hidden_layers": 3, "hybrid_layer_ids": [1], "num_mem_blocks": 1,
          "num_attention_heads": 2, "intermediate_size": 64, "mamba_expand": 2, "mamba_headdim": 32, "mamba_ngroups": 1,
          "mamba_d_state": 8, "adapter_rank": 4, "use_mem_rope": True, "max_position_embeddings": 128, "vocab_size": 4096}


def command(folder, run, *more):
    return [PROGRAM, "train", "pretrain", "--config", folder / "config.json", "--tokenizer", TOKENIZER, "--data",
            folder / "text.txt", "-o", run, "--batch-size", "2", "--sequence-length", "16", "--max-steps", STEPS,
            "--save-steps", "1", "--save-total-limit", "2", "--threads", "1", "--learning-rate", "1e-3", "--progress",
            "none", *more]


def start(arguments):
    return subprocess.Popen([str(a) for a in arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def check_safetensors(path):
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    tensors = json.loads(data[8:8 + n])
    tensors.pop("__metadata__", None)
    end = max(t["data_offsets"][1] for t in tensors.values())
    assert len(data) == 8 + n + end, f"{path}: {len(data)} bytes, wanted {8 + n + end}"


def latest(run):
    """The step of the checkpoint that `latest` names, checked whole; -1: none yet."""
    marker = run / "latest"
    if not marker.exists():
        return -1
    folder = run / marker.read_text().strip()
    state = json.loads((folder / "trainer_state.json").read_text())
    json.loads((folder / "config.json").read_text())
    check_safetensors(folder / "model.safetensors")
    check_safetensors(folder / "optimizer.safetensors")
    assert folder.name == f"checkpoint-{state['step']:06d}", folder
    return state["step"]


def last_metric(run):
    path = run / "metrics.jsonl"
    steps = [0]
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            steps.append(json.loads(line).get("step", 0))
        except json.JSONDecodeError:
            pass  # the last line may have been cut
    return max(steps)


def main():
    random.seed(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "text.txt").write_text("".join(f"Line {i}: the fox {i * i} ran over hill {i % 7}.\n" for i in range(400)))
        began = time.monotonic()
        whole = start(command(folder, folder / "whole"))
        _, err = whole.communicate(timeout=600)
        assert whole.returncode == 0, err.decode()
        took = time.monotonic() - began
        run, kills, before = folder / "killed", 0, -1
        while True:
            process = start(command(folder, run, "--resume"))
            try:
                # the last tries run to the end
                _, err = process.communicate(timeout=random.uniform(0.05, took / STEPS * 6 + 0.3) if kills < KILLS else 600)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                step = latest(run)
                assert step >= before, f"went back from {before} to {step}"
                assert step >= last_metric(run) - 1, f"lost more than one interval: {step} after {last_metric(run)}"
                before = step
                continue
            assert process.returncode == 0, err.decode()
            break
        assert kills >= min(KILLS, 1), "nothing was killed"
        assert latest(run) == STEPS
        name = f"checkpoint-{STEPS:06d}"
        for part in ("model.safetensors", "optimizer.safetensors"):
            a, b = (folder / "whole" / name / part).read_bytes(), (run / name / part).read_bytes()
            assert a == b, f"{part} differs from that of the run that was never stopped"
        left = sorted(p.name for p in run.iterdir() if p.name.startswith("checkpoint-"))
        assert len(left) == 2, left
        print(f"{kills} kills in {STEPS} steps: every checkpoint whole, the same bytes in the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
