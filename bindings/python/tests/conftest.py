"""conftest.py — what the tests share: the models of the repository, the program, and a reader of safetensors."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
if not os.environ.get("ZAMBA_TEST_INSTALLED"):  # then what pip installed is tested
    sys.path.insert(0, str(ROOT / "bindings" / "python" / "src"))

import zamba  # noqa: E402

STARTER = ROOT / "models" / "starter-zamba2"
TINY = ROOT / "tests" / "golden" / "fixtures" / "zamba2-1.2b-tiny"
PROGRAM = Path(os.environ.get("ZAMBA_PROGRAM") or ROOT / "build" / "release" / "zamba")


@pytest.fixture(scope="session")
def model():
    """The default model, in f32: what the program's `debug` computes in."""
    return zamba.load(STARTER, compute="f32")


@pytest.fixture(scope="session")
def tiny():
    """A random one, without a tokenizer."""
    return zamba.load(TINY, compute="f32", no_tokenizer=True)


@pytest.fixture(scope="session")
def program():
    """Runs the program; returns what it wrote to standard output."""
    if not PROGRAM.exists():
        pytest.skip(f"{PROGRAM} is not built")

    def run(*words, stdin=""):
        done = subprocess.run([str(PROGRAM), *map(str, words)], input=stdin, capture_output=True, text=True, timeout=300,
                              cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def safetensors(path):
    """{name: array} of a file."""
    data = Path(path).read_bytes()
    n = int.from_bytes(data[:8], "little")
    kinds, out = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "U8": np.uint8, "F64": np.float64}, {}
    for name, entry in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            out[name] = np.frombuffer(data[8 + n + first:8 + n + last], kinds[entry["dtype"]]).reshape(entry["shape"])
    return out
