#!/usr/bin/env python3
"""backbone_bench.py — the time of the frame model in plain torch, for `zamba backbone bench --reference PYTHON`.

    python3 reference/backbone_bench.py '{"embed_dim": "287", ...}'

Reads options as `zamba backbone info --json` names them and prints one JSON line: the median of a step, and of the last
--window-size frames computed anew, as agents without a state do. Every recurrence is an explicit loop. backbone_reference.py
stands beside this file, or in shared/reference beside the project.
"""
import json
import sys
import time
from pathlib import Path

for place in (Path(__file__).resolve().parent, Path(__file__).resolve().parent.parent.parent / "shared" / "reference"):
    if (place / "backbone_reference.py").exists():
        sys.path.insert(0, str(place))
        break
import backbone_reference as reference  # noqa: E402
import torch  # noqa: E402


def value(text):
    if text in ("true", "false", "on", "off"):
        return text in ("true", "on")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def median_ms(call, seconds=4.0, least=5):
    times, start = [], time.perf_counter()
    while len(times) < least or (time.perf_counter() - start < seconds and len(times) < 500):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1000 * sorted(times)[len(times) // 2]


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = reference.Options(**{k: value(v) for k, v in json.loads(sys.argv[1]).items()})
    weights = reference.initial_weights(options)
    frames = torch.randn(1, options.seq_len or options.window_size, options.embed_dim)
    out = {"torch": torch.__version__}
    with torch.no_grad():
        out["window_p50_ms"] = median_ms(lambda: reference.forward(options, weights, frames))
        if options.block != "gated":
            stream = reference.Stream(options, weights, 1, torch.float32)
            out["step_p50_ms"] = median_ms(lambda: stream.step(frames[:, 0]))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
