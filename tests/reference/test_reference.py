#!/usr/bin/env python3
"""Tests of reference/zamba_reference.py: the goldens, the published sizes, what bad files get, and that docs/MODEL.md, the
C headers and the twin still speak of the same things. Run from the project folder; needs NumPy only."""
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import unittest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")   # tiny matrices; other tests want the cores
try:
    import numpy as np
except ImportError:
    print("python3 has no NumPy")
    sys.exit(77)   # skipped

sys.path.insert(0, "reference")
import check_goldens  # noqa: E402
import zamba_reference as zr  # noqa: E402

FIXTURES = "tests/golden/fixtures"
SMALL = os.path.join(FIXTURES, "extra-silu")
PARAMETERS = {"Zamba-7B-v1": 7232490496, "Zamba2-1.2B": 1215064704, "Zamba2-2.7B": 2662214560, "Zamba2-7B": 7356749648}
TENSORS = {"Zamba-7B-v1": 784, "Zamba2-1.2B": 406, "Zamba2-2.7B": 531, "Zamba2-7B": 786}


def captured(f, *args):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        result = f(*args)
    return result, out.getvalue()


def text_of(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


class Goldens(unittest.TestCase):
    def test_all(self):
        failed, out = captured(check_goldens.check, [FIXTURES], np.float32)
        bad = [line for line in out.splitlines() if "FAIL" in line]
        self.assertFalse(failed, "\n".join(bad))
        self.assertGreater(out.count("  ok"), 200)

    def test_a_wrong_model_fails(self):
        """The comparison can fail: one weight off by a tenth is seen."""
        checker = check_goldens.Checker(np.float32)
        model = zr.Model(SMALL)
        model.weights["model.layers.0.mamba.D"][0] += 0.1
        golden = {k: v[1] for k, v in zr.safetensors_read(os.path.join(SMALL, "forward.safetensors")).items()}
        captured(checker.lengths, model, golden, "forward", 5e-4)
        self.assertEqual(checker.failed, 3)


class DefaultModel(unittest.TestCase):
    """A trained model whose dt really meets its floor (time_step_limit): a wrong reading of it changes the text."""
    FOLDER = "models/starter-zamba2"

    def test_continuations_and_perplexity(self):
        model, golden = zr.Model(self.FOLDER), zr.json_read(os.path.join(self.FOLDER, "golden.json"))
        for case in golden["greedy"]["cases"][:2]:
            self.assertEqual(zr.generate(model, case["prompt_ids"], 48), case["continuation_ids"])
        ids = np.fromfile(os.path.join(self.FOLDER, "valid20k.u16"), "<u2").astype(np.int64)[:256]
        logits = zr.forward(model, zr.State(model), ids)[:-1].astype(np.float64)
        best = logits.max(-1)
        nll = np.sum(np.log(np.exp(logits - best[:, None]).sum(-1)) + best - logits[np.arange(255), ids[1:]])
        self.assertAlmostEqual(nll / golden["perplexity"]["window_nll"][0], 1, delta=1e-5)


class CommandLine(unittest.TestCase):
    def run_twin(self, *args):
        old, sys.argv = sys.argv, ["zamba_reference.py", *args]
        try:
            code, out = captured(zr.main)
        finally:
            sys.argv = old
        self.assertEqual(code, 0)
        return out

    def test_logits_hidden_generate(self):
        golden = {k: v[1] for k, v in zr.safetensors_read(os.path.join(SMALL, "forward.safetensors")).items()}
        with tempfile.TemporaryDirectory() as folder:
            ids, out = os.path.join(folder, "ids.json"), os.path.join(folder, "out.safetensors")
            with open(ids, "w", encoding="utf-8") as f:
                json.dump([golden["input_ids.T64"][0].tolist(), golden["input_ids.T7"][0].tolist()], f)
            for more in ((), ("--split", "5,8"), ("--f64", "--dt-floor", "none")):
                self.run_twin("logits", SMALL, "--ids", ids, "-o", out, *more)
                got = zr.safetensors_read(out)
                for k, name in enumerate(("logits.T64", "logits.T7")):
                    np.testing.assert_allclose(got[f"logits.{k}"][1], golden[name][0], atol=5e-4)
            self.run_twin("hidden", SMALL, "--ids", ids, "-o", out)
            self.assertEqual(zr.safetensors_read(out)["hidden.1.4"][1].shape, (7, 24))
        self.assertEqual(len(json.loads(self.run_twin("generate", SMALL, "--prompt-ids", "5,6", "-n", "4", "--ignore-eos"))), 4)


class Sizes(unittest.TestCase):
    def test_published(self):
        for name, raw in zr.PUBLISHED.items():
            s = zr.sizes(zr.config_read(raw))
            self.assertEqual((s["parameters"], s["tensors"]), (PARAMETERS[name], TENSORS[name]), name)

    def test_against_a_file(self):
        """What the list counts is what the files hold."""
        for name in sorted(os.listdir(FIXTURES)):
            folder = os.path.join(FIXTURES, name)
            stored = sum(a.size for _, a in zr.checkpoint_read(folder).values())
            c = zr.config_read(zr.json_read(os.path.join(folder, "config.json")))
            self.assertEqual(zr.sizes(c)["parameters"], stored, name)

    def test_document_has_the_table(self):
        _, table = captured(zr.sizes_print, {k: zr.config_read(v) for k, v in zr.PUBLISHED.items()})
        self.assertIn(table, text_of("docs", "MODEL.md"))


class Recurrences(unittest.TestCase):
    def test_chunks_equal_steps(self):
        rng = np.random.default_rng(1)
        for heads, groups, P, N, L in ((4, 2, 8, 16, 19), (6, 3, 5, 7, 1), (1, 1, 1, 1, 64), (8, 8, 3, 4, 33)):
            x, B, C = (rng.standard_normal((L, *s)) for s in ((heads, P), (groups, N), (groups, N)))
            dt, A, D = rng.uniform(0, 2, (L, heads)), -rng.uniform(0, 16, heads), rng.standard_normal(heads)
            h = rng.standard_normal((heads, P, N))
            steps = h.copy()
            want = np.stack([zr.ssm_step(steps, x[t], dt[t], A, B[t], C[t], D) for t in range(L)])
            np.testing.assert_allclose(zr.ssd_chunk(h, x, dt, A, B, C, D), want, atol=1e-10)
            np.testing.assert_allclose(h, steps, atol=1e-10)

    def test_embedding_half_of_qkv(self):
        """MODEL.md "What may be computed once": W rmsnorm([x, e]) g = r (W1 (g1 x) + W2 (g2 e)), r the row's factor."""
        rng = np.random.default_rng(2)
        x, e = rng.standard_normal((2, 5, 12))
        w, g = rng.standard_normal((7, 24)), rng.standard_normal(24)
        u = np.concatenate([x, e], -1)
        r = 1 / np.sqrt(np.mean(u * u, -1, keepdims=True) + 1e-5)
        split = r * ((x * g[:12]) @ w[:, :12].T + (e * g[12:]) @ w[:, 12:].T)
        np.testing.assert_allclose(zr.linear(zr.rmsnorm(u, g, 1e-5), w), split, atol=1e-12)


class BadFiles(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(os.path.join(SMALL, name), self.folder)
        self.weights = os.path.join(self.folder, "model.safetensors")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def refused(self, pattern, **options):
        with self.assertRaisesRegex(zr.ZambaError, pattern):
            zr.Model(self.folder, **options)

    def rewrite(self, change):
        tensors = {k: zr.widen(*v) for k, v in zr.safetensors_read(self.weights).items()}
        change(tensors)
        zr.safetensors_write(self.weights + ".new", tensors)
        os.replace(self.weights + ".new", self.weights)

    def config(self, **changes):
        path = os.path.join(self.folder, "config.json")
        raw = {**zr.json_read(path), **changes}
        with open(path, "w", encoding="utf-8") as f:
            json.dump({k: v for k, v in raw.items() if v != "absent"}, f)

    def test_cut_off(self):
        with open(self.weights, "rb") as f:
            whole = f.read()
        for n in (0, 7, 8, 100, len(whole) - 1):
            with open(self.weights, "wb") as f:
                f.write(whole[:n])
            with self.assertRaises((zr.ZambaError, ValueError)):
                zr.Model(self.folder)

    def test_pickle_only(self):
        os.rename(self.weights, os.path.join(self.folder, "pytorch_model.bin"))
        self.refused("pickle")

    def test_tensors(self):
        name = "model.layers.1.linear.weight"
        original = zr.safetensors_read(self.weights)[name][1].copy()
        self.rewrite(lambda t: t.pop(name))
        self.refused(f"{name}.*missing")
        self.rewrite(lambda t: t.update({name: original[1:]}))
        self.refused(f"{name}: found F32 .*wanted")
        self.rewrite(lambda t: t.update({name: original, "model.more": original}))
        self.refused("no place for, first model.more")

    def test_ties(self):
        first, later = (f"model.layers.{i}.shared_transformer.self_attn.q_proj.weight" for i in (1, 3))
        self.rewrite(lambda t: t.update({later: t[first], "lm_head.weight": t["model.embed_tokens.weight"]}))
        zr.Model(self.folder)
        self.rewrite(lambda t: t.update({later: t[first] + 1}))
        self.refused("should be the same shared tensor, but differ")
        self.rewrite(lambda t: t.update({later: t[first], "lm_head.weight": t["lm_head.weight"] + 1}))
        self.refused("lm_head.weight differs")

    def test_config(self):
        for pattern, changes in (
                ("hidden_size", dict(hidden_size=0)), ("hidden_size", dict(hidden_size=True)),
                ("vocab_size", dict(vocab_size="absent")), ("model_type", dict(model_type="mamba2")),
                ("layers_block_type", dict(layers_block_type=["mamba", "attention"])),
                ("num_hidden_layers", dict(num_hidden_layers=3)), ("KV heads", dict(num_key_value_heads=3)),
                ("adapters with fewer", dict(num_key_value_heads=2)), ("groups", dict(mamba_ngroups=3)),
                ("Mamba heads", dict(n_mamba_heads=7)), ("hidden_act", dict(hidden_act="softmax")),
                ("time_step_limit", dict(time_step_limit=[1.0, 0.1])), ("rope", dict(rope_parameters={"rope_type": "yarn"})),
                ("quantized", dict(quantization_config={}.fromkeys(["bits"])))):
            with self.subTest(pattern=pattern, changes=changes):
                shutil.copy(os.path.join(SMALL, "config.json"), self.folder)
                self.config(**changes)
                self.refused(pattern)

    def test_ids(self):
        model = zr.Model(self.folder)
        for ids in ([], [-1], [model.config.vocab_size]):
            with self.assertRaises(zr.ZambaError):
                zr.forward(model, zr.State(model), ids)

    def test_dt_floor(self):
        self.config(time_step_limit=[0.25, float("inf")], time_step_min=0.5)
        floors = {k: zr.Model(self.folder, dt_floor=k).config.dt_min for k in ("auto", "none", "config")}
        self.assertEqual(floors, {"auto": 0.25, "none": 0.0, "config": 0.5})


class SameNames(unittest.TestCase):
    """The document, the twin and the C headers use one name for one thing."""
    KERNELS = ("rmsnorm", "rmsnorm_gated", "conv1d_silu", "dt_softplus", "ssm_step", "ssd_chunk", "mamba1_scan", "rope",
               "attention", "glu")
    SECTIONS = re.compile(r'MODEL\.md "([^"]+)"(?:, "([^"]+)")?')

    def test_kernels(self):
        header, document = text_of("src", "kernels", "kernels.h"), text_of("docs", "MODEL.md")
        for name in self.KERNELS:
            self.assertTrue(callable(getattr(zr, name)), name)
            self.assertIn(f"(*{name})(", header)
            self.assertIn(f"`{name}`", document)

    def test_config_fields(self):
        header, document = text_of("src", "model", "config.h"), text_of("docs", "MODEL.md")
        for field in vars(zr.config_read(zr.PUBLISHED["Zamba2-1.2B"])):
            self.assertRegex(header, rf"\b{field}\b")
            self.assertIn(f"`{field}`", document)

    def test_sections(self):
        document = text_of("docs", "MODEL.md")
        wanted = {s for found in self.SECTIONS.findall(text_of("reference", "zamba_reference.py")) for s in found if s}
        self.assertGreater(len(wanted), 8)
        for title in wanted | {"Forward"}:
            self.assertRegex(document, rf"(?m)^##+ (\d+\. )?{re.escape(title)}$")


if __name__ == "__main__":
    unittest.main()
