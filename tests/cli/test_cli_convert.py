#!/usr/bin/env python3
"""test_cli_convert.py — `zamba convert` and the other commands on GGUF files, as a user meets them. Standard library only;
ZAMBA_PROGRAM names the program."""
import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, PROGRAM, ROOT, Case, environment, read_safetensors, run  # noqa: E402

TINY = ROOT / "tests" / "golden" / "fixtures"
TEXTS = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


class Convert(Case):
    def path(self, name):
        return Path(self.folder) / name

    def done(self, *args):
        result = run("convert", *args)
        self.assertEqual((result.code, result.out, result.err), (0, "", ""))

    def test_there_and_back(self):
        file, back = self.path("m.gguf"), self.path("back")
        self.done(MODEL, file)
        self.assertEqual(file.read_bytes()[:4], b"GGUF")
        self.done(file, back)
        for name in TEXTS:
            self.assertEqual((back / name).read_bytes(), (MODEL / name).read_bytes(), name)
        self.assertEqual(sorted(p.name for p in back.iterdir()), sorted([*TEXTS, "model.safetensors"]))
        self.done(back, self.path("again.gguf"))
        for name in ("inspect", "run"):
            options = ["--json"] if name == "inspect" else ["--json", "-p", "Once upon a time", "--temp", "0", "-n", "12"]
            whole = [run(name, m, *options).json for m in (MODEL, file, back)]
            for key in ("shape", "layers", "parameters", "tensors", "ids", "text", "prompt_ids"):
                self.assertEqual(whole[0].get(key), whole[1].get(key), key)
                self.assertEqual(whole[0].get(key), whole[2].get(key), key)

    def test_json_and_progress(self):
        result = run("convert", MODEL, self.path("m.gguf"), "--json", "--progress", "json")
        self.assertEqual(result.code, 0)
        self.assertEqual(result.json["out"], str(self.path("m.gguf")))
        self.assertEqual(result.json["files"], 1)
        self.assertGreater(result.json["bytes"], 14_000_000)
        self.assertLess(result.json["bytes"], self.path("m.gguf").stat().st_size)
        lines = [json.loads(line)["progress"] for line in result.err.splitlines()]
        self.assertEqual(lines[-1]["done"], lines[-1]["total"])
        self.assertEqual(lines[0]["task"], "converting")

    def test_logits_are_the_same_bits(self):
        model = TINY / "zamba2-1.2b-tiny"
        ids = self.file("ids.json", json.dumps([[1, 5, 9, 2, 30, 7]]))
        self.done(model, self.path("m.gguf"))
        self.done(model, self.path("l.gguf"), "--layout", "llama.cpp")
        out = []
        for m in (model, self.path("m.gguf"), self.path("l.gguf")):
            name = self.path(f"{len(out)}.safetensors")
            self.assertEqual(run("debug", "logits", m, "--ids", ids, "-o", name).code, 0)
            out.append(read_safetensors(name)["logits.0"])
        self.assertEqual(out[0], out[1])
        self.assertNotEqual(out[0], out[2])
        for a, b in zip(out[0][1], out[2][1]):
            self.assertAlmostEqual(a, b, delta=2e-4)

    def test_types(self):
        model = TINY / "zamba2-7b-tiny"
        for kind, name in (("f16", "F16"), ("bf16", "BF16"), ("f32", "F32")):
            self.done(model, self.path(kind + ".gguf"), "--type", kind)
            self.assertEqual(run("inspect", self.path(kind + ".gguf"), "--json").json["dtype"], name)

    def test_text_commands_take_files(self):
        file = self.path("m.gguf")
        self.done(MODEL, file)
        self.assertEqual(run("tokenize", file, "Hello world").out, run("tokenize", MODEL, "Hello world").out)
        self.assertEqual(run("detokenize", file, "1,300,400").out, run("detokenize", MODEL, "1,300,400").out)
        request = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
        self.assertEqual(run("template", file, stdin=request).out, run("template", MODEL, stdin=request).out)

    def test_refused(self):
        file, folder = self.path("m.gguf"), self.path("full")
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
        file.write_text("old")
        for words, code, *message in (
            [["convert"], 2, "zamba convert IN OUT"],
            [["convert", MODEL], 2, "zamba convert IN OUT"],
            [["convert", MODEL, "a.gguf", "b"], 2, "one word too many"],
            [["convert", MODEL, file, "--layout", "dense"], 2, "compact|llama.cpp"],
            [["convert", MODEL, folder], 1, "has files in it", "--force"],
            [["convert", MODEL, self.path("out"), "--layout", "llama.cpp"], 1, "should end in .gguf"],
            [["convert", TINY / "zamba1-tiny", file, "--layout", "llama.cpp"], 1, "no layout for zamba"],
            [["convert", self.path("nothing"), file], 1, "nothing"],
            [["convert", file, self.path("out")], 1, "m.gguf", "a file, wanted"],
            [["run", file, "-p", "x"], 1, "m.gguf", "GGUF"],
        ):
            self.fails(run(*words), code, *message)
        self.assertEqual(file.read_text(), "old")
        self.assertEqual(sorted(p.name for p in self.path(".").iterdir()), ["full", "m.gguf"])
        self.done(MODEL, folder, "--force")
        self.assertEqual((folder / "notes.txt").read_text(), "mine")
        self.assertTrue((folder / "model.safetensors").exists())

    def test_damaged_file(self):
        file = self.path("m.gguf")
        self.done(TINY / "zamba2-7b-tiny", file)
        data = file.read_bytes()
        for name, damaged in (("cut", data[:len(data) // 2]), ("version", data[:4] + b"\x01" + data[5:])):
            file.write_bytes(damaged)
            self.fails(run("run", file, "-p", "x"), 1, "m.gguf", {"cut": "cut-off", "version": "version 1"}[name])

    def test_interrupted(self):
        """Ctrl-C leaves nothing, whenever it comes; the old file stays until the new one is whole."""
        file = self.path("m.gguf")
        for wait in (0, 0.005, 0.01, 0.02, 0.04, 0.08):
            file.write_text("old")
            process = subprocess.Popen([PROGRAM, "convert", str(MODEL), str(file), "--layout", "llama.cpp"],
                                       env=environment(), stderr=subprocess.PIPE)
            time.sleep(wait)
            process.send_signal(signal.SIGINT)
            process.communicate()
            self.assertIn(process.returncode, (0, 130, -signal.SIGINT))  # it may be over, or not have begun
            self.assertEqual([p.name for p in self.path(".").iterdir()], ["m.gguf"])
            self.assertEqual(file.read_bytes()[:4], b"GGUF" if process.returncode == 0 else b"old")

    def test_full_disk(self):
        """/dev/full stands for a disk that fills up while the file is written."""
        if os.path.exists("/dev/full"):
            link = self.path("full.gguf")
            link.symlink_to("/dev/full")
            self.fails(run("convert", TINY / "zamba2-7b-tiny", link), 1, "full.gguf", "No space left")


if __name__ == "__main__":
    unittest.main()
