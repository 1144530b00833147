#!/usr/bin/env python3
"""rivals.py — zamba, llama.cpp and transformers on the same shapes, side by side on this machine, as one table.

    python3 bench/rivals.py [--only PARTS] [--models SIZES] [--threads LIST] [--rounds N] [--again] [--table]
                            [--python-llama FILE] [--python-transformers FILE] [--runner FILE] [--folder DIR]

The rivals are taken in turns (zamba, rival, zamba, rival, ...) and a ratio is one of neighbours, because the memory of a
shared machine may be twice as fast an hour later; before and after each sample the machine itself is probed. One thread
is timed by its processor time; more threads by the wall clock, and a sample during which others used more than a tenth of
a core is taken again. All programs read the same kind of random ids and choose nothing; keys and values are f16.

Results are kept, a JSON line each, in build/bench/results.jsonl; the table is made of the newest of each row and put into
docs/SPEED.md. What was measured with this very program is not measured again without --again, so an interrupted run can be
started anew. llama.cpp has no Zamba2: what stands in for it is described in make_standin.py.

Parts (with sizes, threads, and about how long they take on two cores):
    transformers  decode and first token after 512, 1.2b                                  3 minutes
    decode        decode against the read bandwidth and llama.cpp; 7b alone               10
    prefill       prompts of 128 and 512 against the peak and llama.cpp                   15
    batch         8 sequences against 1                                                   2
    busy          beside a busy process                                                   3
    depth         depth 2,048 and 16,384 against llama.cpp, 1.2b                          30
    memory        resident at a context of 4,096                                          15
    kv            8-bit keys and values at depth 16,384, 2.7b                             15
    quant         quantized: decode, prompts, 8 sequences, against the machine, llama.cpp 30
    quant-few     the same without prompts                                                10
    eight         Zamba2-7B against Llama-3-8B: first token after 2,048, decode           20
    eight-deep    the same at depth 16,384, with memory                                   60
    train         steps of training against transformers                                   5
"""
import argparse
import datetime
import hashlib
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import rivals_table  # noqa: E402
from rivals_process import Failed, Meter, Program, Spinner, median_of, note, wait_idle  # noqa: E402
from rivals_setup import GIGABYTES, ROOT, Setup, memory_gb  # noqa: E402

LIMITS = {"1.2b": 3.0e9, "2.7b": 6.5e9, "7b": 16.5e9}  # resident bytes at a context of 4,096


class Sizes:
    """How much is measured; --models tiny makes everything small, to try the scripts."""

    def __init__(self, tiny):
        self.decode = 4 if tiny else 16
        self.prompts = (16, 64) if tiny else (128, 512)
        self.depths = (64, 256) if tiny else (2048, 16384)
        self.context = 128 if tiny else 4096
        self.long_prompt = 64 if tiny else 2048


class Bench:
    def __init__(self, args):
        self.a, self.sizes = args, Sizes(args.models == ["tiny"])
        self.folder = Path(args.folder)
        self.setup = Setup(self.folder, args.runner, {"llama": args.python_llama, "transformers": args.python_transformers})
        self.results = self.folder / "results.jsonl"
        self.machine = {"kernels": ""}

    # ---- results

    def begin(self):
        self.build = hashlib.sha256(Path(self.setup.runner()).read_bytes()).hexdigest()[:16]
        head = subprocess.run(["git", "rev-parse", "--short=9", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno", "--", "src", "include"], cwd=ROOT,
                               capture_output=True, text=True)
        self.commit = (head.stdout.strip() or "no commit") + ("+" if dirty.stdout.strip() else "")
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        self.machine = {"cpu": names[0] if names else "unknown CPU", "cores": len(os.sched_getaffinity(0)), "kernels": ""}
        self.prober = self.zamba()

    def end(self):
        self.prober.close()

    def load(self):
        if not self.results.exists():
            return []
        return [json.loads(line) for line in self.results.read_text().splitlines() if line.strip()]

    def keep(self, **record):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        record.update(time=now, commit=self.commit, build=self.build, machine=self.machine)
        with open(self.results, "a") as f:
            f.write(json.dumps(record) + "\n")

    def row(self, row, model, threads, value, ours, beside, meter=None, rival=None, **more):
        if meter:
            more["probes"] = {k: meter.best(k) for k in ("read", "f32", "bf16")}
            more["disturbed"] = meter.disturbed
        self.keep(row=row, model=model, threads=threads, value=value, ours=ours, beside=beside, rival_version=rival, **more)
        kind = rivals_table.ROWS[rivals_table.ORDER[row]][3]
        judged = {True: "met", False: "NOT met", None: ""}[rivals_table.met(row, value, model, threads)]
        note(f"  {row} {model} {threads} thread(s): {ours} | {beside} | {rivals_table.written(value, kind)} {judged}")

    # ---- programs

    def zamba(self):
        return Program("zamba", [self.setup.runner()], self.folder / "zamba.log")

    def llama(self):
        script = ROOT / "bench/rival_llama.py"
        return Program("llama.cpp", [self.setup.python("llama"), str(script)], self.folder / "llama.log")

    def transformers(self):
        script = ROOT / "bench/rival_transformers.py"
        return Program("transformers", [self.setup.python("transformers"), str(script)], self.folder / "transformers.log")

    def meter(self, threads):
        return Meter(self.prober, threads, self.a.rounds, self.a.wait)

    def open(self, program, path, threads, context, **more):
        if program.name == "zamba":
            more.setdefault("kv", "f16")  # as the rivals'
        opened = program.ask("open", path=path, threads=threads, context=context, **more)
        if program.name == "zamba":
            self.machine["kernels"] = opened["kernels"]
        return opened

    def warm(self, program, threads):
        """The pages of the files into memory, the caches into their usual state."""
        program.ask("fill", depth=0)
        for _ in range(2):
            program.ask("decode", n=self.sizes.decode)

    def need(self, *names):
        """Do the files of these models fit into memory together?"""
        total, have = sum(GIGABYTES[n] for n in names), memory_gb()
        if total > 0.9 * have:
            raise Failed(f"{' and '.join(names)} take {total:.1f} GB, the machine has {have:.1f}")

    # ---- parts

    def standin(self, stack, context, path):
        """(llama.cpp with the stand-in at path() open and warm, its version), or (None, None)."""
        try:
            program = stack.enter_context(self.llama())
            version = program.ask("hello")["version"]
            self.open(program, path(), 1, context)
            self.warm(program, 1)
            return program, version
        except Failed as problem:
            note(f"  without llama.cpp: {problem}")
            return None, None

    def decode_rows(self, z, l, version, threads, model, n, keys):
        """Written tokens against the machine and, where it is there, llama.cpp."""
        meter, ours = self.meter(threads), lambda: z.ask("decode", n=n)
        if l:
            l.ask("threads", threads=threads)
            mine, theirs, ratio = meter.turns(ours, lambda: l.ask("decode", n=self.sizes.decode))
        else:
            mine = meter.alone(ours)
        near = statistics.median(x["bytes"] / x["seconds"] / x["read"] for x in mine)
        rate, moved = 1 / median_of(mine), mine[0]["bytes"]
        self.row(keys[0], model, threads, near, f"{rate:.2f} tokens/s, {moved * rate / 1e9:.1f} GB/s",
                 f"{median_of(mine, 'read') / 1e9:.1f} GB/s", meter, samples=mine,
                 best_of_best=moved / min(x["seconds"] for x in mine) / meter.best("read"))
        if l:
            self.row(keys[1], model, threads, ratio, f"{rate:.2f} tokens/s", f"{1 / median_of(theirs):.2f} tokens/s", meter,
                     version, samples=[mine, theirs])

    def prompt_rows(self, z, l, version, threads, model, keys):
        """Prompts of both lengths against llama.cpp; returns the meter and the samples of the last."""
        for name, n in zip(keys, self.sizes.prompts):
            meter, ours = self.meter(threads), lambda: z.ask("prompt", n=n)
            ours()
            if not l:
                mine = meter.alone(ours)
                continue
            mine, theirs, ratio = meter.turns(ours, lambda: l.ask("prompt", n=n))
            self.row(name, model, threads, ratio, f"{n / median_of(mine):.1f} tokens/s",
                     f"{n / median_of(theirs):.1f} tokens/s", meter, version, samples=[mine, theirs])
        return meter, mine

    def batch_row(self, z, threads, model, key):
        n = self.sizes.decode
        z.ask("decode", n=n, batch=8)
        meter = self.meter(threads)
        mine, single, ratio = meter.turns(lambda: z.ask("decode", n=n, batch=8), lambda: z.ask("decode", n=n))
        self.row(key, model, threads, 8 * ratio, f"{8 / median_of(mine):.2f} tokens/s",
                 f"{1 / median_of(single):.2f} tokens/s", meter, samples=[mine, single])

    def part_decode(self, model):
        s, alone = self.sizes, model == "7b"  # the stand-in of 7b, where nothing is shared, takes 22 GB
        self.need(f"syn-{model}", *([] if alone else [f"nemo-{model}"]))
        with ExitStack() as stack:
            z = stack.enter_context(self.zamba())
            l, version = (None, None) if alone else self.standin(stack, 4 * s.decode, lambda: self.setup.standin(f"nemo-{model}"))
            for t in self.a.threads:
                self.open(z, self.setup.checkpoint(model), t, 4 * s.decode)
                self.warm(z, t)
                self.decode_rows(z, l, version, t, model, s.decode, ("decode-read", "decode-llama"))

    def part_prefill(self, model):
        s = self.sizes
        self.need(f"syn-{model}", f"nemo-{model}")
        with ExitStack() as stack:
            z = stack.enter_context(self.zamba())
            l, version = self.standin(stack, 2 * s.prompts[1], lambda: self.setup.standin(f"nemo-{model}"))
            for t in self.a.threads:
                self.open(z, self.setup.checkpoint(model), t, 2 * s.prompts[1])
                self.warm(z, t)
                if l:
                    l.ask("threads", threads=t)
                meter, mine = self.prompt_rows(z, l, version, t, model, ("prefill-128", "prefill-512"))
                self.peak_rows(z, model, t, meter, median_of(mine))

    def peak_rows(self, z, model, t, meter, seconds):
        """What the last prompt did, against the peak that was probed beside it. Operations are timed by the wall clock;
        with one thread the time that its core was given to others is taken off evenly."""
        best = {"rate": 0}
        for _ in range(3):
            p = meter.sample(lambda: z.ask("profile", prompt=self.sizes.prompts[1]))
            meter.probe()
            ops, own = p["operations"], p["cpus"][0] / p["walls"][0] if t == 1 else 1
            products = [o for o in ops if o["product"]]
            rate = sum(o["flops"] for o in products) / (sum(o["seconds"] for o in products) * own)
            best = max(best, {"rate": rate, "operations": ops}, key=lambda x: x["rate"])
        whole, peak = sum(o["flops"] for o in best["operations"]) / seconds, meter.best("bf16")
        self.row("prefill-products", model, t, best["rate"] / peak, f"{best['rate'] / 1e9:.0f} GFLOP/s",
                 f"{peak / 1e9:.0f} GFLOP/s", meter, operations=best["operations"])
        self.row("prefill-whole", model, t, whole / peak, f"{whole / 1e9:.0f} GFLOP/s", f"{peak / 1e9:.0f} GFLOP/s", meter)

    def part_transformers(self, model):
        s, t, n = self.sizes, max(self.a.threads), self.sizes.prompts[1]
        path = self.setup.checkpoint(model)
        with self.zamba() as z, self.transformers() as h:
            version = h.ask("hello")["version"]
            self.open(h, path, t, 2 * n)
            self.open(z, path, t, 2 * n)
            for program in (z, h):
                self.warm(program, t)
            meter = self.meter(t)
            mine, theirs, ratio = meter.turns(lambda: z.ask("decode", n=s.decode), lambda: h.ask("decode", n=s.decode))
            self.row("decode-transformers", model, t, ratio, f"{1 / median_of(mine):.2f} tokens/s",
                     f"{1 / median_of(theirs):.2f} tokens/s", meter, version, samples=[mine, theirs])
            meter = self.meter(t)
            h.ask("prompt", n=n)
            z.ask("prompt", n=n)
            mine, theirs, ratio = meter.turns(lambda: z.ask("prompt", n=n), lambda: h.ask("prompt", n=n))
            self.row("ttft-transformers", model, t, ratio, f"{median_of(mine):.2f} s", f"{median_of(theirs):.2f} s", meter,
                     version, samples=[mine, theirs])

    def part_depth(self, model):
        s, state = self.sizes, self.folder / "depth.state"
        self.need(f"syn-{model}", f"nemo-{model}")
        path, standin, context = self.setup.checkpoint(model), self.setup.standin(f"nemo-{model}"), s.depths[-1] + 64
        with self.zamba() as z, self.llama() as l:
            version, most = l.ask("hello")["version"], max(self.a.threads)
            for name, depth in zip(("depth-2048", "depth-16384"), s.depths):
                # a context of the depth that is needed: llama.cpp's attention looks at no more than what is filled
                self.open(l, standin, most, depth + 64)
                self.open(z, path, most, context)
                note(f"  reading {depth} tokens, once for all repetitions")
                z.ask("fill", depth=depth)
                z.ask("save", path=str(state))
                l.ask("fill", depth=depth)
                for t in sorted(self.a.threads, reverse=True):
                    if t != most:
                        self.open(z, path, t, context)
                        z.ask("load", path=str(state))
                        l.ask("threads", threads=t)
                    for program in (z, l):
                        program.ask("decode", n=s.decode // 2)
                    meter = self.meter(t)
                    mine, theirs, ratio = meter.turns(lambda: z.ask("decode", n=s.decode),
                                                      lambda: l.ask("decode", n=s.decode // 2))
                    self.row(name, model, t, ratio, f"{1 / median_of(mine):.2f} tokens/s",
                             f"{1 / median_of(theirs):.2f} tokens/s", meter, version, samples=[mine, theirs])
        state.unlink(missing_ok=True)

    def part_busy(self, model):
        s, t = self.sizes, max(2, max(self.a.threads))

        def kept(program, n):
            """Tokens/s quiet, beside a busy process, and the ratio of neighbours."""
            quiet, beside = [], []
            for i in range(self.a.rounds + 1):
                wait_idle(self.a.wait)
                quiet.append(statistics.median(program.ask("decode", n=s.decode)["walls"]))
                if i < self.a.rounds:
                    with Spinner():
                        walls = program.ask("decode", n=n)["walls"]
                        beside.append(sum(walls) / len(walls))  # the mean: a stall counts
            ratio = statistics.median(((quiet[i] + quiet[i + 1]) / 2) / b for i, b in enumerate(beside))
            return 1 / statistics.median(quiet), 1 / statistics.median(beside), ratio

        with self.zamba() as z:
            self.open(z, self.setup.checkpoint(model), t, 4 * s.decode)
            self.warm(z, t)
            quiet, beside, ratio = kept(z, 2 * s.decode)
        rival, version = "", None
        try:
            with self.llama() as l:
                version = l.ask("hello")["version"]
                self.open(l, self.setup.standin(f"nemo-{model}"), t, 4 * s.decode)
                self.warm(l, t)
                a, b, c = kept(l, 4)
                rival = f"llama.cpp {a:.2f} to {b:.2f} tokens/s: {c:.2f} x"
        except Failed as problem:
            note(f"  without llama.cpp: {problem}")
        self.row("busy", model, t, ratio, f"{quiet:.2f} to {beside:.2f} tokens/s", rival, None, version)

    def part_batch(self, model):
        s = self.sizes
        with self.zamba() as z:
            for t in self.a.threads:
                self.open(z, self.setup.checkpoint(model), t, 4 * s.decode)
                self.warm(z, t)
                self.batch_row(z, t, model, "batch")

    def part_kv(self, model):
        s, state = self.sizes, self.folder / "kv.state"
        path, depth, most = self.setup.checkpoint(model), self.sizes.depths[-1], max(self.a.threads)
        with self.zamba() as shallow, self.zamba() as deep:
            self.open(deep, path, most, depth + 64, kv="q8_0")
            note(f"  reading {depth} tokens")
            deep.ask("fill", depth=depth)
            deep.ask("save", path=str(state))
            for t in sorted(self.a.threads, reverse=True):
                if t != most:
                    self.open(deep, path, t, depth + 64, kv="q8_0")
                    deep.ask("load", path=str(state))
                self.open(shallow, path, t, 4 * s.decode, kv="q8_0")
                self.warm(shallow, t)
                deep.ask("decode", n=s.decode)
                meter = self.meter(t)
                near, far, slower = meter.turns(lambda: shallow.ask("decode", n=s.decode),
                                                lambda: deep.ask("decode", n=s.decode))
                more = far[0]["bytes"] / near[0]["bytes"]
                self.row("kv8", model, t, slower / more, f"{slower:.2f} x the time", f"{more:.2f} x the bytes", meter,
                         samples=[near, far])
        state.unlink(missing_ok=True)

    def part_memory(self, model):
        n, t = self.sizes.context, max(self.a.threads)
        with self.zamba() as z:
            z.ask("reset_peak")
            o = self.open(z, self.setup.checkpoint(model), t, n)
            z.ask("fill", depth=n - 4)
            z.ask("decode", n=4, keep=True)
            peak = z.ask("memory")["peak"]
        wanted = o["weight_bytes"] + o["state_bytes"] + o["kv_bytes_per_token"] * n + 200e6
        self.row("memory", model, t, peak / wanted, f"{peak / 1e9:.2f} GB", f"{wanted / 1e9:.2f} GB", kv=o["kv_k"])
        if model in LIMITS:
            self.row("memory-limit", model, t, peak / LIMITS[model], f"{peak / 1e9:.2f} GB", f"{LIMITS[model] / 1e9:.1f} GB")

    def part_quant(self, model):
        """A type of `--types` after the other: decode, prompts of two lengths, 8 sequences."""
        for kind in self.a.types:
            self.quant(model, kind)

    def part_quant_few(self, model):
        """The same without prompts."""
        for kind in self.a.types:
            self.quant(model, kind, prompts=False)

    def quant(self, model, kind, prompts=True):
        s, name = self.sizes, f"{model}-{kind}"
        with ExitStack() as stack:
            z = stack.enter_context(self.zamba())
            path = self.setup.quantized(model, kind)
            l, version = self.standin(stack, 2 * s.prompts[1],
                                      lambda: self.setup.quantized_standin(f"nemo-{model}", kind))
            for t in self.a.threads:
                self.open(z, path, t, 2 * s.prompts[1])
                self.warm(z, t)
                self.decode_rows(z, l, version, t, name, 2 * s.decode, ("quant-read", "quant-llama"))
                if prompts:
                    self.quant_prompts(z, l, version, t, name)
                z.ask("fill", depth=0)
                self.batch_row(z, t, name, "quant-batch")

    def quant_prompts(self, z, l, version, t, name):
        meter, mine = self.prompt_rows(z, l, version, t, name, ("quant-128", "quant-512"))
        p = meter.sample(lambda: z.ask("profile", prompt=self.sizes.prompts[1]))
        whole = sum(o["flops"] for o in p["operations"]) / median_of(mine)
        self.row("quant-whole", name, t, whole / meter.best("int8"), f"{whole / 1e9:.0f} G/s",
                 f"{meter.best('int8') / 1e9:.0f} G/s", meter, operations=p["operations"])

    def eight(self, measure):
        """Both do not fit into memory together, so they are measured one after the other."""
        tiny, out = self.a.models == ["tiny"], []
        if not tiny:
            self.need("syn-7b")
            self.need("llama-8b")
        for name, path in (("zamba", self.setup.checkpoint("tiny" if tiny else "7b")),
                           ("llama.cpp", self.setup.standin("nemo-tiny" if tiny else "llama-8b"))):
            with (self.zamba() if name == "zamba" else self.llama()) as program:
                version = program.ask("hello")["version"]
                meter = self.meter(max(self.a.threads))
                out.append((measure(program, path, meter), meter))
        return out[0], out[1], version

    def part_eight(self, _):
        s, t = self.sizes, max(self.a.threads)

        def measure(program, path, meter):
            self.open(program, path, t, s.long_prompt + 64)
            self.warm(program, t)
            decode = meter.alone(lambda: program.ask("decode", n=s.decode))
            program.ask("prompt", n=min(256, s.long_prompt))
            note(f"  {program.name}: prompts of {s.long_prompt}")
            prompts = [meter.take(lambda: program.ask("prompt", n=s.long_prompt)) for _ in range(2)]
            return decode, prompts

        ((decode, prompts), meter), ((decode2, prompts2), meter2), version = self.eight(measure)
        meter.probes += meter2.probes
        self.row("eight-ttft", "", t, median_of(prompts2) / median_of(prompts), f"{median_of(prompts):.1f} s",
                 f"{median_of(prompts2):.1f} s", meter, version)
        self.row("eight-decode", "", t, median_of(decode2) / median_of(decode), f"{1 / median_of(decode):.2f} tokens/s",
                 f"{1 / median_of(decode2):.2f} tokens/s", meter, version, samples=[decode, decode2])

    def part_eight_deep(self, _):
        s, t, depth = self.sizes, max(self.a.threads), self.sizes.depths[-1]

        def measure(program, path, meter):
            if program.name == "zamba":
                program.ask("reset_peak")
            self.open(program, path, t, depth + 128)
            program.ask("fill", depth=depth, save=False)
            samples = [meter.take(lambda: program.ask("decode", n=s.decode, keep=True)) for _ in range(3)]
            return samples, program.ask("memory")["peak"]

        ((mine, peak), meter), ((theirs, peak2), meter2), version = self.eight(measure)
        meter.probes += meter2.probes
        self.row("eight-deep", "", t, median_of(theirs) / median_of(mine), f"{1 / median_of(mine):.2f} tokens/s",
                 f"{1 / median_of(theirs):.2f} tokens/s", meter, version)
        self.row("eight-memory", "", t, peak / peak2, f"{peak / 1e9:.2f} GB", f"{peak2 / 1e9:.2f} GB", meter, version)


    def part_train(self, _):
        """Whole steps of training: a Zamba2 of 8 layers of 256, 8 rows of 256 tokens."""
        folder, size = self.folder / "models" / "train-small", dict(batch=8, length=256)
        config = self.folder / "train-small.json"
        config.write_text(json.dumps(TRAIN_SHAPE))
        with self.zamba() as z, self.transformers() as h:
            version = h.ask("hello")["version"]
            if not (folder / "config.json").exists():
                z.ask("init", config=str(config), path=str(folder))
            for t in self.a.threads:
                h.ask("open_trainer", config=str(folder), threads=t, **size)
                h.ask("train", n=1)
                for bf16, name in enumerate(("f32", "bf16")):
                    z.ask("reset_peak")
                    tokens = z.ask("open_trainer", path=str(folder), threads=t, bf16=bf16, **size)["tokens"]
                    z.ask("train", n=2)
                    meter = self.meter(t)
                    mine, theirs, ratio = meter.turns(lambda: z.ask("train", n=3), lambda: h.ask("train", n=2))
                    rate = tokens / median_of(mine)
                    self.row(f"train-{name}", "", t, ratio, f"{rate:.0f} tokens/s", f"{tokens / median_of(theirs):.0f} tokens/s",
                             meter, version, samples=[mine, theirs])
                    flops = 6 * TRAIN_WEIGHTS * rate
                    self.row(f"train-{name}-peak", "", t, flops / meter.best(name), f"{flops / 1e9:.0f} GFLOP/s",
                             f"{meter.best(name) / 1e9:.0f} GFLOP/s", meter)
                    peak, peak2 = z.ask("memory")["peak"], h.ask("memory")["peak"]
                    self.row(f"train-{name}-memory", "", t, peak / peak2, f"{peak / 1e9:.2f} GB", f"{peak2 / 1e9:.2f} GB",
                             meter, version)


# What part_train trains, and the weights that one token of it is multiplied with.
TRAIN_SHAPE = {
    "model_type": "zamba2", "architectures": ["Zamba2ForCausalLM"], "vocab_size": 4096, "hidden_size": 256,
    "num_hidden_layers": 8, "layers_block_type": ["hybrid" if i in (2, 5) else "mamba" for i in range(8)],
    "hybrid_layer_ids": [2, 5], "num_mem_blocks": 2, "mamba_d_state": 64, "mamba_expand": 2, "n_mamba_heads": 8,
    "mamba_ngroups": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 1024, "adapter_rank": 16,
    "use_shared_attention_adapter": False, "use_mem_rope": True, "chunk_size": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}
TRAIN_WEIGHTS = 8.09e6

# name, which of the sizes it is measured with
PARTS = {
    "transformers": ("1.2b",), "decode": ("1.2b", "2.7b", "7b"), "prefill": ("1.2b", "2.7b"), "batch": ("1.2b",),
    "busy": ("1.2b",), "depth": ("1.2b",), "memory": ("1.2b", "2.7b", "7b"), "kv": ("2.7b",), "quant": ("1.2b",),
    "quant-few": ("1.2b",), "eight": ("7b",), "eight-deep": ("7b",), "train": ("1.2b",),
}


def write_table(bench, speed):
    path = Path(speed)
    lines = rivals_table.table(bench.load())
    path.write_text(rivals_table.put_between(path.read_text() if path.exists() else "", lines))
    print("\n".join(lines))
    note(f"\nwritten into {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    many = lambda text: [x for x in text.split(",") if x]  # noqa: E731
    parser.add_argument("--only", type=many, default=[p for p in PARTS if p != "quant-few"],
                        help="parts, with commas between")
    parser.add_argument("--models", type=many, default=["1.2b", "2.7b", "7b"], help="1.2b,2.7b,7b; or tiny, to try")
    parser.add_argument("--threads", type=lambda text: [int(x) for x in many(text)], default=[1, 2])
    parser.add_argument("--types", type=many, default=["q8_0", "q4_k_m", "q4_0"], help="quantized types (part quant)")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each rival")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for an idle machine before a sample")
    parser.add_argument("--again", action="store_true", help="measure also what this program was measured with")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table")
    parser.add_argument("--folder", default=str(ROOT / "build/bench"), help="results, models, environment")
    parser.add_argument("--speed", default=str(ROOT / "docs/SPEED.md"), help="where the table goes")
    parser.add_argument("--runner", help="bench_runner; built if not given")
    parser.add_argument("--python-llama", help="a Python that has llama-cpp-python, gguf and numpy")
    parser.add_argument("--python-transformers", help="a Python that has torch and transformers")
    args = parser.parse_args()
    for part in args.only:
        if part not in PARTS:
            parser.error(f"no part {part}; there are {', '.join(PARTS)}")
    bench = Bench(args)
    if args.table:
        write_table(bench, args.speed)
        return 0
    jobs = [(part, m) for part in args.only for m in (["tiny"] if args.models == ["tiny"] else PARTS[part])
            if m in args.models]
    failed = []
    try:
        bench.begin()
    except Failed as problem:
        note(f"rivals: {problem}")
        return 1
    try:
        done = {r["job"] for r in bench.load() if "job" in r and r["build"] == bench.build}
        for i, (part, model) in enumerate(jobs, 1):
            job = f"{part}/{model}/{','.join(map(str, args.threads))}"
            if job in done and not args.again:
                note(f"[{i}/{len(jobs)}] {part} {model}: measured already (--again measures anew)")
                continue
            note(f"[{i}/{len(jobs)}] {part} {model}")
            try:
                getattr(bench, "part_" + part.replace("-", "_"))(model)
                bench.keep(job=job)
            except Failed as problem:
                failed.append(f"{part} {model}: {problem}")
                note(f"  left out: {problem}")
    except KeyboardInterrupt:
        note("\ninterrupted; what was measured is kept")
        return 130
    finally:
        bench.end()
    write_table(bench, args.speed)
    for text in failed:
        note(f"left out: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
