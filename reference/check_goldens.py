"""Compare zamba_reference.py with the golden files of a folder (`zamba_reference.py check FOLDER...`).

It owns what each golden file means and which options it was made with; the numbers come from make_goldens.py.
"""
import copy
import glob
import os

import numpy as np

import zamba_reference as zr


class Checker:
    """Runs golden folders and counts."""

    def __init__(self, dtype):
        self.dtype, self.failed, self.n = dtype, 0, 0

    def say(self, what, ok, detail):
        self.n, self.failed = self.n + 1, self.failed + (not ok)
        print(f"  {'ok  ' if ok else 'FAIL'} {what}: {detail}", flush=True)

    def close(self, what, got, want, tol):
        want = want.reshape(got.shape) if want.size == got.size else np.full_like(got, np.nan)
        worst = float(np.abs(got - want).max())
        self.say(what, worst <= tol, f"{worst:.2g} of {tol:.2g}")

    def same(self, what, got, want):
        self.say(what, list(got) == list(want), f"{len(got)} ids" if list(got) == list(want) else f"{got} != {list(want)}")

    def folder(self, folder):
        print(folder)
        read = lambda name: {k: v[1] for k, v in zr.safetensors_read(os.path.join(folder, name)).items()}
        has = lambda name: os.path.exists(os.path.join(folder, name))
        tol = {"logits_abs": 5e-4, "hidden_abs": 5e-4}
        if has("goldens.json"):
            tol.update(zr.json_read(os.path.join(folder, "goldens.json"))["tolerance"])
        open_ = lambda at=folder, **kw: zr.Model(at, **dict(dict(dtype=self.dtype), **kw))
        # Where a floor matters the plain goldens hold transformers' clamped pass; elsewhere the floor is never reached.
        clamped = has("forward_unclamped.safetensors")
        model = open_(dt_floor="config" if clamped else "auto")
        self.lengths(model, read("forward.safetensors"), "forward", tol["logits_abs"])
        whole = read("decode.safetensors") if has("decode.safetensors") else None
        if has("hidden.safetensors"):
            self.hidden(model, read("hidden.safetensors"), tol["hidden_abs"])
        if whole:
            self.decode(model, whole["input_ids"], whole["logits_whole"], tol["logits_abs"])
        if has("padded.safetensors"):
            self.padded(model, read("padded.safetensors"), tol["logits_abs"])
        if has("generate.safetensors"):
            g = read("generate.safetensors")
            self.same("generate", zr.generate(model, g["prompt"][0], g["generated"].size), g["generated"][0])
        if clamped:
            free = read("forward_unclamped.safetensors")
            model = open_(dt_floor="none")
            self.lengths(model, free, "dt floor none", tol["logits_abs"])
            self.decode(model, free["decode.input_ids"], free["decode.logits"], tol["logits_abs"])
        if has("config.4x.json"):
            ntk = has("forward_ntk.safetensors")
            old = open_(config="config.4x.json", dt_floor="config" if clamped else "auto")
            want = read("forward_ntk.safetensors" if ntk else "forward.safetensors")
            if ntk:
                self.close("rope theta", np.array([old.config.rope_theta]), want["rope_theta"], 1e-6)
            self.lengths(old, want, "config.4x.json", tol["logits_abs"], only=None if ntk else ("T64",))
        for variant in sorted(glob.glob(os.path.join(folder, "variant-*"))):
            self.lengths(open_(variant), read("forward.safetensors"), os.path.basename(variant), tol["logits_abs"], ("T64",))

    def lengths(self, model, golden, title, tol, only=None):
        for name in sorted((k[10:] for k in golden if k.startswith("input_ids.T")), key=lambda k: int(k[1:])):
            if only is None or name in only:
                logits = zr.forward(model, zr.State(model), golden["input_ids." + name])
                self.close(f"{title} {name}", logits, golden["logits." + name], tol)

    def hidden(self, model, golden, tol):
        got = {}
        got["logits"] = zr.forward(model, zr.State(model), golden["input_ids"], got)
        worst = np.max([np.abs(got[k] - v.reshape(got[k].shape)).max() for k, v in golden.items() if k in got])
        n = sum(k in got for k in golden)
        self.say("hidden", worst <= tol and n == len(golden) - 1, f"{worst:.2g} of {tol:.2g}, {n} tensors")

    def decode(self, model, ids, want, tol):
        for sizes_ in ((13,), (5, 8), (1,), (2, 1, 7, 23)):
            self.close(f"decode in pieces of {sizes_}, then 1", zr.forward_split(model, ids[0], sizes_), want, tol)
        state = zr.State(model)
        zr.forward(model, state, ids[0][:9])
        fork = copy.deepcopy(state)
        zr.forward(model, state, ids[0][:5])                               # the fork does not see this
        self.close("decode from a copied state", zr.forward_split(model, ids[0][9:], (11,), fork), want[:, 9:], tol)

    def padded(self, model, g, tol):
        for row, mask in enumerate(g["attention_mask"]):                # each prompt alone, without its pads
            ids = g["input_ids"][row][mask != 0]
            self.close(f"prompt {row} alone", zr.forward(model, zr.State(model), ids), g[f"logits_unpadded.{row}"], tol)
            want = g["generated_single"][row]
            self.same(f"prompt {row} greedy", zr.generate(model, ids, len(want), model.config.eos), want)


def check(folders, dtype):
    checker = Checker(dtype)
    for top in folders:
        found = [d for d in sorted(glob.glob(os.path.join(top, "*"))) if os.path.exists(os.path.join(d, "forward.safetensors"))]
        for folder in [top] if os.path.exists(os.path.join(top, "forward.safetensors")) else found:
            checker.folder(folder)
    print(f"{checker.n} checks, {checker.failed} failed")
    return 1 if checker.failed or not checker.n else 0
