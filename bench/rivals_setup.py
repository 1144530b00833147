"""rivals_setup.py — gets ready what rivals.py measures: the runner of zamba, a Python environment with the rivals from
the package index, checkpoints and stand-ins of random weights. What is there already is used again."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rivals_process import Failed, note

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "llama": (["llama-cpp-python", "gguf", "numpy"], "import llama_cpp, gguf, numpy",
              "llama.cpp is compiled for this machine: 10 to 30 minutes"),
    "transformers": (["torch", "transformers", "numpy"], "import torch, transformers", "a large download"),
}
GIGABYTES = {"syn-tiny": 0.1, "syn-1.2b": 2.5, "syn-2.7b": 5.4, "syn-7b": 14.8, "nemo-tiny": 0.1, "nemo-1.2b": 3.6,
             "nemo-2.7b": 7.8, "nemo-7b": 22.2, "llama-1b": 2.5, "llama-8b": 16.1}


def works(python, check):
    return subprocess.run([python, "-c", check], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def memory_gb():
    with open("/proc/meminfo") as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["MemTotal"].split()[0]) * 1024 / 1e9


class Setup:
    def __init__(self, folder, runner=None, pythons=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "models").mkdir(exist_ok=True)
        self.given_runner, self.pythons, self.missing = runner, dict(pythons or {}), {}

    def run(self, what, command, **more):
        log = self.folder / "setup.log"
        with open(log, "ab") as out:
            if subprocess.run([str(c) for c in command], stdout=out, stderr=out, **more).returncode:
                raise Failed(f"{what} failed; see {log}")

    def runner(self):
        if not self.given_runner:
            note("building bench_runner")
            self.run("the build", ["sh", ROOT / "scripts/build.sh", "release", "--jobs", os.cpu_count() or 2,
                                   "bench_runner"], cwd=ROOT)
            self.given_runner = ROOT / "build/release/bench/bench_runner"
        return str(self.given_runner)

    def python(self, rival):
        """The interpreter that has a rival's packages; Failed if there is none and none can be made."""
        packages, check, slow = PACKAGES[rival]
        if rival in self.missing:
            raise Failed(self.missing[rival])
        if self.pythons.get(rival):
            return self.pythons[rival]
        python = self.folder / "venv/bin/python"
        try:
            if not python.exists():
                note(f"making {self.folder / 'venv'}")
                self.run("making the environment", [sys.executable, "-m", "venv", self.folder / "venv"])
            if not works(python, check):
                note(f"installing {', '.join(packages)} ({slow}; what happens: {self.folder / 'setup.log'})")
                self.run(f"installing {rival}", [python, "-m", "pip", "install", "--disable-pip-version-check", *packages])
            if not works(python, check):
                raise Failed(f"{rival} was installed, but '{check}' fails")
        except Failed as problem:
            self.missing[rival] = str(problem)
            raise
        self.pythons[rival] = str(python)
        return str(python)

    def room(self, name, path):
        free = shutil.disk_usage(path.parent).free / 1e9
        if free < GIGABYTES[name] + 1:
            raise Failed(f"{name}: takes {GIGABYTES[name]} GB of disk, {free:.1f} are free")

    def checkpoint(self, size):
        name, path = f"syn-{size}", self.folder / "models" / f"syn-{size}"
        if not (path / "config.json").exists():
            self.room(name, path)
            note(f"writing {name} ({GIGABYTES[name]} GB)")
            part = path.with_name(path.name + ".part")
            python = sys.executable if works(sys.executable, "import numpy") else self.python("llama")
            self.run(name, [python, ROOT / "reference/make_synthetic.py", "--model", size, "--out", part])
            part.rename(path)
        return str(path)

    def quantized(self, size, kind):
        """A checkpoint in a quantized type, made by this tree's own program."""
        path, source = self.folder / "models" / f"syn-{size}-{kind}.gguf", self.checkpoint(size)
        if not path.exists():
            note(f"quantizing syn-{size} to {kind}")
            self.run("building zamba", ["sh", ROOT / "scripts/build.sh", "release", "--jobs", os.cpu_count() or 2, "zamba"],
                     cwd=ROOT)
            self.run(path.name, [ROOT / "build/release/zamba", "quantize", source, path, kind])
        return str(path)

    def quantized_standin(self, name, kind):
        """A stand-in in a quantized type, made by llama.cpp."""
        path, source = self.folder / "models" / f"{name}-{kind}.gguf", self.standin(name)
        if not path.exists():
            note(f"quantizing {name} to {kind}")
            part = path.with_suffix(".part")
            self.run(path.name, [self.python("llama"), ROOT / "bench/rival_llama.py", "quantize", source, part, kind])
            part.rename(path)
        return str(path)

    def standin(self, name):
        path = self.folder / "models" / f"{name}.gguf"
        if not path.exists():
            self.room(name, path)
            note(f"writing {name} ({GIGABYTES[name]} GB)")
            self.run(name, [self.python("llama"), ROOT / "bench/make_standin.py", "--model", name, "--out", path])
        return str(path)
