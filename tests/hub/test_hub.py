#!/usr/bin/env python3
"""test_hub.py — getting models: `zamba pull`, `list`, `rm`, `show`, and `run` of what is absent, against a small fake hub on
loopback with every fault that a network has. ZAMBA_PROGRAM names the program."""
import concurrent.futures
import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
from fake_hub import FakeHub, Repo, wait_until  # noqa: E402
from program import MODEL, PROGRAM, ROOT, TIMEOUT, Case, Result, environment, run  # noqa: E402

if "cannot get models" in run("pull", "a/b", env=environment(HF_ENDPOINT="http://127.0.0.1:9", no_proxy="*")).err:
    print("skipped: this build cannot get models")
    raise SystemExit(77)

ORG = "Org/Tiny-1.0"
MIB = 1 << 20
NOISE = random.Random(1).randbytes(3 * MIB + 17)


def shards(n):
    """The starter model in n files and an index, as transformers saves large models."""
    data = (MODEL / "model.safetensors").read_bytes()
    (n_head,) = struct.unpack("<Q", data[:8])
    head, body = json.loads(data[8:8 + n_head]), data[8 + n_head:]
    names = sorted(k for k in head if k != "__metadata__")
    out, where = {}, {}
    for i in range(n):
        file, at, table, pieces = f"model-{i + 1:05}-of-{n:05}.safetensors", 0, {}, []
        for name in names[i::n]:
            first, last = head[name]["data_offsets"]
            table[name] = {**head[name], "data_offsets": [at, at + last - first]}
            pieces.append(body[first:last])
            at += last - first
            where[name] = file
        text = json.dumps(table).encode()
        text += b" " * (-len(text) % 8)
        out[file] = struct.pack("<Q", len(text)) + text + b"".join(pieces)
    index = {"metadata": {"total_size": len(body)}, "weight_map": where}
    return {**out, "model.safetensors.index.json": json.dumps(index).encode()}


def starter():
    names = ["config.json", "generation_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    return {name: (MODEL / name).read_bytes() for name in names}


def small(**more):
    return Repo({"config.json": b'{"model_type": "zamba2"}\n', "model.safetensors": NOISE, "tokenizer.json": b"{}\n"}, **more)


class HubCase(Case):
    def setUp(self):
        super().setUp()
        self.hub = FakeHub()
        self.addCleanup(self.hub.close)
        self.home = self.folder / "hf"
        self.cache = self.home / "hub"
        self.store = self.cache / "models--Org--Tiny-1.0"

    def env(self, **changes):
        clean = {k: None for k in os.environ if k.startswith(("HF_", "HUGGING")) or k.lower().endswith("_proxy")}
        return environment(**{**clean, "HF_HOME": self.home, "HF_ENDPOINT": self.hub.endpoint, "HOME": self.folder,
                              "HF_HUB_DOWNLOAD_TIMEOUT": "5", "NO_PROXY": "*", **changes})

    def zamba(self, *args, stdin=None, env=None):
        return run(*args, stdin=stdin, env=env or self.env())

    def pull(self, *args, env=None):
        return self.zamba("pull", *(args or [ORG]), env=env)

    def start(self, *args, env=None):
        return subprocess.Popen([PROGRAM, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=env or self.env(), cwd=ROOT)

    def end(self, process):
        out, err = process.communicate(timeout=TIMEOUT)
        return Result(process.returncode, out, err)

    def good(self, result):
        self.assertEqual(result.code, 0, result.err)
        return result

    def blobs(self):
        return sorted(p.name for p in (self.store / "blobs").glob("*"))

    def check_whole(self, repo, names=None):
        """Every file is where huggingface_hub would have put it, and nothing else is."""
        snapshot = self.store / "snapshots" / repo.commit
        names = sorted(names or repo.files)
        self.assertEqual(sorted(str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if not p.is_dir()), names)
        for name in names:
            self.assertEqual((snapshot / name).read_bytes(), repo.files[name], name)
            self.assertEqual(os.readlink(snapshot / name), "../" * (2 + name.count("/")) + "blobs/" + repo.etag(name))
        self.assertEqual(self.blobs(), sorted({repo.etag(name) for name in names}))
        self.assertEqual((self.store / "refs" / "main").read_text(), repo.commit)


class Getting(HubCase):
    def test_shards_then_run_list_show_rm(self):
        readme = b"---\nlicense: apache-2.0\nlanguage: en\n---\n# Tiny\n"
        needed = {**starter(), **shards(3), "README.md": readme}
        others = {"pytorch_model.bin": b"no", "training_args.bin": b"no", "onnx/model.onnx": b"no", ".gitattributes": b"no",
                  "consolidated.safetensors": b"no", "eval/results.json": b"no", "model.safetensors.md": b"no"}
        repo = self.hub.repos[ORG] = Repo({**needed, **others})
        first = self.good(self.pull())
        snapshot = self.store / "snapshots" / repo.commit
        self.assertEqual(first.out, f"{snapshot}\n")
        self.check_whole(repo, needed)
        for name in others:
            self.assertEqual(self.hub.asked("hub", name) + self.hub.asked("store", name), [])
        self.assertTrue((self.cache / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55"))
        # again: only the list is asked for
        n = len(self.hub.log)
        again = self.good(self.pull(ORG, "--json"))
        self.assertEqual(again.json["fetched"], 0)
        self.assertEqual(again.json["commit"], repo.commit)
        self.assertEqual(again.json["files"], len(needed))
        self.assertEqual(len(self.hub.log), n + 1)
        # run from the cache says what the folder says, without asking anybody
        n = len(self.hub.log)
        words = ["-p", "The fox", "--temp", "0", "-n", "4"]
        self.assertEqual(self.good(self.zamba("run", ORG, *words)).out, self.good(run("run", MODEL, *words)).out)
        self.assertEqual(self.good(self.zamba("run", "--offline", "--model", ORG, *words)).out[:7], run("run", MODEL, *words).out[:7])
        self.assertEqual(len(self.hub.log), n)
        listed = {m["name"]: m for m in self.good(self.zamba("list", "--json")).json["models"]}
        self.assertEqual(listed[ORG]["bytes"], sum(map(len, needed.values())))
        self.assertEqual((listed[ORG]["type"], listed[ORG]["source"], listed[ORG]["complete"]), ("zamba2", "hub", True))
        if MODEL.name in listed:  # the program was built inside of the project
            self.assertEqual(listed[MODEL.name]["source"], "models")
        self.assertRegex(self.good(self.zamba("list")).out, rf"(?m)^{re.escape(ORG)} .*MiB  zamba2 .*\d\d:\d\d$")
        shown = self.good(self.zamba("show", ORG, "--json")).json
        self.assertEqual(shown["license"], "apache-2.0")
        self.assertEqual(shown["hub"], {"name": ORG, "commit": repo.commit})
        self.assertEqual(shown["config"], json.loads(needed["config.json"]))
        self.assertEqual(shown["parameters"]["stored"], run("inspect", MODEL, "--json").json["parameters"]["stored"])
        text = self.good(self.zamba("show", ORG)).out
        for word in ("apache-2.0", ORG, "Parameters", "Template", "Hello!"):
            self.assertIn(word, text)
        freed = sum((self.store / "blobs" / b).stat().st_size for b in self.blobs())
        self.assertEqual(self.good(self.zamba("rm", ORG, "--dry-run", "--json")).json["removed"], False)
        self.assertTrue(self.store.exists())
        gone = self.good(self.zamba("rm", ORG, "--json")).json
        self.assertTrue(gone["removed"])
        self.assertGreaterEqual(gone["bytes"], freed)
        self.assertFalse(self.store.exists())
        self.fails(self.zamba("rm", ORG), 1, "not in the cache")
        self.assertNotIn(ORG, self.zamba("list").out)

    def test_files_come_at_the_same_time(self):
        for connections, together in ((4, 3), (1, 1)):
            self.hub.reached.clear()
            self.hub.go_on.clear()
            self.hub.log.clear()
            repo = self.hub.repos[ORG] = Repo({"config.json": b"{}", **shards(3)}, large=(".safetensors",))
            for i in (1, 2, 3):
                self.hub.fault(f"model-0000{i}-of-00003.safetensors", {"slow": 1000}, where="store")
            process = self.start("pull", ORG, "--connections", connections)
            wait_until(lambda n=together: len(self.hub.asked("store")) == n)
            self.assertTrue(self.hub.reached.wait(TIMEOUT))
            self.assertEqual(len(self.hub.asked("store")), together)
            self.hub.go_on.set()
            self.good(self.end(process))
            self.check_whole(repo)
            self.good(self.zamba("rm", ORG))

    def test_run_gets_what_is_absent(self):
        repo = self.hub.repos[ORG] = Repo({**starter(), "model.safetensors": (MODEL / "model.safetensors").read_bytes()})
        words = ["--temp", "0", "-n", "4"]
        want = self.good(run("run", MODEL, "-p", "The fox", *words)).out
        # in a pipe: the prompt from standard input, only text on standard output
        result = self.good(self.zamba("run", ORG, *words, stdin=b"The fox"))
        self.assertEqual(result.out, want)
        self.assertIn(f"{ORG}: getting 6 files from {self.hub.endpoint}", result.err)
        self.check_whole(repo)
        for command in (["tokenize", ORG, "A"], ["inspect", ORG, "--json"], ["template", ORG, "--help"]):
            self.good(self.zamba(*command))
        self.fails(self.zamba("inspect", "Org/Other"), 1, "`zamba pull Org/Other`")
        server = self.start("serve", ORG, "--port", "0", "--json")
        line = server.stdout.readline()
        server.terminate()
        ended = self.end(server)
        if "no server" not in ended.err:
            self.assertEqual(json.loads(line)["model"], ORG)

    def test_a_local_folder_wins_and_typos_stay_here(self):
        work = self.folder / "work"
        (work / "Org").mkdir(parents=True)
        (work / ORG).symlink_to(MODEL)
        result = run("run", ORG, "--temp", "0", "-n", "2", "-p", "A", env=self.env(), cwd=work)
        self.good(result)
        for word in ("Org/Other", "no/such/folder", "./x/y", "../x/y", "models/none", "Org/file.gguf", "a--b/c", "a/b.git"):
            self.fails(run("run", word, env=self.env(), stdin=None, cwd=work), 1, "no such folder or file")
        self.assertEqual(self.hub.log, [])

    def test_offline(self):
        self.hub.repos[ORG] = small()
        self.fails(self.zamba("run", ORG, "--offline"), 1, "not in the cache", "--offline")
        self.fails(self.zamba("run", ORG, env=self.env(HF_HUB_OFFLINE="1")), 1, "not in the cache", "HF_HUB_OFFLINE")
        self.fails(self.pull(env=self.env(HF_HUB_OFFLINE="yes")), 1, "HF_HUB_OFFLINE")
        self.fails(self.pull(ORG, "--offline"), 1, "not in the cache")
        self.assertEqual(self.hub.log, [])
        path = self.good(self.pull()).out
        self.assertEqual(self.good(self.pull(ORG, "--offline")).out, path)
        # what is missing is named
        (self.store / "snapshots" / ("a" * 40) / "model.safetensors").unlink()
        self.fails(self.pull(ORG, "--offline"), 1, "weights are not there")

    def test_places_and_names(self):
        repo = self.hub.repos[ORG] = small(revisions={"v1.0": "a" * 40, "refs/pr/1": "a" * 40})
        for i, (env, where) in enumerate([({"HF_HUB_CACHE": self.folder / "c1"}, "c1"), ({"HF_HUB_CACHE": "~/c2/"}, "c2"),
                                          ({"HF_HOME": None, "XDG_CACHE_HOME": self.folder / "x"}, "x/huggingface/hub"),
                                          ({"HF_HOME": None, "XDG_CACHE_HOME": None}, ".cache/huggingface/hub")]):
            result = self.good(self.pull(env=self.env(**env)))
            self.assertEqual(Path(result.out.strip()), self.folder / where / "models--Org--Tiny-1.0/snapshots" / repo.commit, i)
        for name in (f"hf.co/{ORG}", f"hf://{ORG}", f"https://huggingface.co/{ORG}", f"{ORG}@v1.0", f"{ORG}@refs/pr/1",
                     f"{ORG}@{repo.commit}"):
            self.good(self.pull(name))
        self.assertEqual((self.store / "refs/refs/pr/1").read_text(), repo.commit)
        self.assertFalse((self.store / "refs" / repo.commit).exists())
        self.good(self.pull(f"{ORG}@{repo.commit[:9]}", "--offline"))
        for name in ("x", "a/b/c", "/a/b", "../a", "a/..", "a/b@", "a/b@../../x", "a/b@-x", "a/b:", "a/b:Q4/../x", "a/b@x\\y", "a b/c",
                     "a/b/../../c.gguf", "a/b//c.gguf", "a/b/.\x01.gguf", "datasets/a", "é/b", "a/" + "b" * 97, "a--b/c"):
            self.fails(self.pull(name), 1)
        self.fails(self.zamba("pull"), 2, "wanted the name")

    def test_mirror_that_names_files_only(self):
        repo = self.hub.repos[ORG] = small(sizes=False)
        self.good(self.pull())
        self.check_whole(repo)
        self.assertEqual(len(self.hub.asked("hub", "model.safetensors", "HEAD")), 1)
        self.assertEqual(self.hub.asked("store", method="HEAD"), [])

    def test_update_and_snapshots(self):
        first = self.hub.repos[ORG] = small()
        self.good(self.pull())
        second = self.hub.repos[ORG] = small(commit="b" * 40, revisions={"v1": "a" * 40})
        second.files["model.safetensors"] = NOISE[::-1]
        self.good(self.pull())
        self.assertEqual((self.store / "refs/main").read_text(), "b" * 40)
        names = [m["name"] for m in self.zamba("list", "--json").json["models"] if m["source"] == "hub"]
        self.assertEqual(names, [ORG, f"{ORG}@{'a' * 12}"])
        self.assertEqual(self.good(self.zamba("rm", f"{ORG}@{'a' * 12}", "--dry-run", "--json")).json["bytes"], len(NOISE))
        self.assertEqual(self.good(self.zamba("rm", f"{ORG}@{'a' * 12}", "--json")).json["bytes"], len(NOISE))
        self.assertFalse((self.store / "blobs" / first.etag("model.safetensors")).exists())
        self.check_whole(second)
        self.good(self.zamba("rm", f"{ORG}@main"))
        self.assertFalse(self.store.exists())

    def test_rm_leaves_other_things_alone(self):
        keep = self.folder / "keep"
        keep.mkdir()
        (keep / "x").write_text("mine")
        self.hub.repos[ORG] = small()
        self.good(self.pull())
        (self.store / "blobs" / "odd").symlink_to(keep)
        (self.store / "snapshots" / "link").symlink_to(keep)
        self.good(self.zamba("rm", ORG))
        self.assertEqual((keep / "x").read_text(), "mine")
        for word in (MODEL.name, MODEL, ".", "/", "../x"):
            self.fails(self.zamba("rm", word), 1)
        self.assertTrue((MODEL / "config.json").exists())


class Ggufs(HubCase):
    def setUp(self):
        super().setUp()
        self.files = {f"Tiny-{q}.gguf": b"GGUF" + q.encode() for q in ("Q2_K", "Q8_0", "Q4_K_M", "UD-Q4_K_XL", "BF16")}
        self.files.update({"mmproj-F16.gguf": b"no", "README.md": b"no", "config.json": b"{}"})
        self.files.update({f"big/Tiny-Q6_K-{i:05}-of-00003.gguf": b"GGUF%d" % i for i in (1, 2, 3)})

    def check(self, word, *files):
        path = Path(self.good(self.pull(word)).out.strip())
        self.assertEqual(path.name, Path(files[0]).name)
        snapshot = self.store / "snapshots" / ("a" * 40)
        self.assertEqual(sorted(str(p.relative_to(snapshot)) for p in snapshot.rglob("*.gguf")), sorted(files))
        self.assertEqual(self.good(self.pull(word, "--offline")).out.strip(), str(path))
        return path

    def test_choice(self):
        self.hub.repos[ORG] = Repo(self.files)
        for word, *files in ((ORG, "Tiny-Q4_K_M.gguf"), (f"{ORG}:Q8_0", "Tiny-Q8_0.gguf"), (f"{ORG}:q2_k", "Tiny-Q2_K.gguf"),
                             (f"{ORG}:UD-Q4_K_XL", "Tiny-UD-Q4_K_XL.gguf"), (f"{ORG}/Tiny-BF16.gguf", "Tiny-BF16.gguf"),
                             (f"{ORG}:Q6_K@main", *[f"big/Tiny-Q6_K-{i:05}-of-00003.gguf" for i in (1, 2, 3)]),
                             (f"{ORG}/big/Tiny-Q6_K-00002-of-00003.gguf", *[f"big/Tiny-Q6_K-{i:05}-of-00003.gguf" for i in (1, 2, 3)])):
            with self.subTest(word):
                self.check(word, *files)
                self.good(self.zamba("rm", ORG))
        self.fails(self.pull(f"{ORG}:Q3_K_M"), 1, "no GGUF file of Q3_K_M", "Q2_K, Q8_0, Q4_K_M")
        self.fails(self.pull(f"{ORG}/none.gguf"), 1, "no file none.gguf")
        self.good(self.pull(f"{ORG}:Q8_0"))
        self.good(self.pull(f"{ORG}:Q6_K"))
        names = {m["name"]: m for m in self.zamba("list", "--all", "--json").json["models"]}
        self.assertEqual(names[f"{ORG}:Q6_K"]["bytes"], 15)
        self.good(self.zamba("rm", f"{ORG}:Q6_K"))
        self.assertEqual(sorted(n for n in (m["name"] for m in self.zamba("list", "--all", "--json").json["models"]) if ORG in n),
                         [f"{ORG}:Q8_0"])
        self.assertEqual(len(self.blobs()), 1)
        self.fails(self.zamba("rm", f"{ORG}:Q6_K"), 1, "no GGUF file of Q6_K")

    def test_run(self):
        path = self.folder / "t.gguf"
        self.good(run("convert", MODEL, path))
        self.hub.repos[ORG] = Repo({"Tiny-F32.gguf": path.read_bytes()})
        words = ["-p", "The fox", "--temp", "0", "-n", "4"]
        self.assertEqual(self.good(self.zamba("run", f"{ORG}:F32", *words)).out, run("run", MODEL, *words).out)
        listed = {m["name"]: m for m in self.good(self.zamba("list", "--json")).json["models"]}
        self.assertEqual((listed[f"{ORG}:F32"]["type"], listed[f"{ORG}:F32"]["dtype"]), ("zamba2", "F32"))

    def test_incomplete_set(self):
        del self.files["big/Tiny-Q6_K-00002-of-00003.gguf"]
        self.hub.repos[ORG] = Repo(self.files)
        self.fails(self.pull(f"{ORG}:Q6_K"), 1, "is one of 3 files, but 2 are there")

    def test_no_weights(self):
        self.hub.repos[ORG] = Repo({"config.json": b"{}", "pytorch_model.bin": b"x"})
        self.fails(self.pull(), 1, "only pickle files", ".safetensors")
        self.hub.repos[ORG] = Repo({"README.md": b"x"})
        self.fails(self.pull(), 1, "no weights")


class Faults(HubCase):
    def setUp(self):
        super().setUp()
        self.repo = self.hub.repos[ORG] = small()

    def test_cut_connections(self):
        self.hub.fault("model.safetensors", {"cut": MIB}, {"cut": MIB + 1}, {"cut": 0}, {"no_length": MIB // 2}, where="store")
        result = self.good(self.pull())
        self.check_whole(self.repo)
        ranges = [h.get("Range") for h in self.hub.asked("store", "model.safetensors")]
        self.assertEqual(ranges, [None, f"bytes={MIB}-", f"bytes={2 * MIB + 1}-", f"bytes={2 * MIB + 1}-",
                                  f"bytes={2 * MIB + MIB // 2 + 1}-"])
        self.assertIn("trying again", result.err)

    def test_cut_for_ever(self):
        self.hub.fault("model.safetensors", {"cut": 1000}, always=True, where="store")
        self.fails(self.pull(ORG, "--retries", "1"), 1, "broke", "ask again to go on")
        self.assertFalse((self.store / "refs").exists())
        self.assertFalse((self.store / "snapshots" / self.repo.commit / "model.safetensors").exists())
        kept = self.store / "blobs" / (self.repo.etag("model.safetensors") + ".incomplete")
        self.assertEqual(kept.stat().st_size, 2000)
        self.hub.fault("model.safetensors")
        self.good(self.pull())
        self.check_whole(self.repo)
        self.assertEqual(self.hub.asked("store", "model.safetensors")[-1]["Range"], "bytes=2000-")

    def test_server_without_ranges(self):
        self.hub.fault("model.safetensors", {"cut": MIB}, {"no_range": 1, "cut": MIB}, {"no_range": 1}, where="store")
        self.good(self.pull())
        self.check_whole(self.repo)

    def test_ranges_that_lie(self):
        self.hub.fault("model.safetensors", {"cut": MIB}, {"shift": 5}, where="store")
        self.fails(self.pull(), 1, "answers with others")
        self.hub.fault("model.safetensors")
        self.good(self.pull())
        self.check_whole(self.repo)

    def test_wrong_sum_once(self):
        self.hub.fault("model.safetensors", {"change": lambda d: d[:-1] + b"?"}, where="store")
        result = self.good(self.pull())
        self.assertIn("comes anew", result.err)
        self.check_whole(self.repo)

    def test_wrong_sum_always(self):
        for name, where in (("model.safetensors", "store"), ("config.json", "hub")):
            self.hub.fault(name, {"change": lambda d: b"?" + d[1:]}, always=True, where=where)
            self.fails(self.pull(), 1, name, "twice")
            self.assertFalse((self.store / "refs").exists())
            self.assertEqual([b for b in self.blobs() if b.startswith(self.repo.etag(name))], [])
            self.hub.fault(name)
            self.zamba("rm", ORG)
        self.good(self.pull())

    def test_wrong_sizes(self):
        for change in (lambda d: d + b"x", lambda d: d[:-1], lambda d: b""):
            self.hub.fault("model.safetensors", {"change": change}, where="store")
            self.fails(self.pull(), 1, "model.safetensors", f"the hub says {len(NOISE)}")
        # more than was said, without a length
        self.hub.fault("model.safetensors", {"change": lambda d: d + b"x" * MIB, "no_length": 1 << 30}, where="store")
        self.fails(self.pull(), 1, "more bytes")
        self.good(self.pull())
        self.check_whole(self.repo)

    def test_damaged_beginning(self):
        blob = self.store / "blobs" / (self.repo.etag("model.safetensors") + ".incomplete")
        for damage in (b"?" * MIB, b"?" * len(NOISE), b"?" * (len(NOISE) + 5), NOISE):
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(damage)
            self.good(self.pull())
            self.check_whole(self.repo)
            self.good(self.zamba("rm", ORG))

    def test_verify(self):
        self.good(self.pull())
        blob = self.store / "blobs" / self.repo.etag("model.safetensors")
        blob.write_bytes(NOISE[:-1] + b"?")
        self.assertEqual(self.good(self.pull(ORG, "--json")).json["fetched"], 0)  # the size is right
        result = self.good(self.pull(ORG, "--verify", "--json"))
        self.assertEqual(result.json["fetched"], len(NOISE))
        self.check_whole(self.repo)
        blob.write_bytes(b"short")
        self.good(self.pull())
        self.check_whole(self.repo)

    def test_busy_and_broken_servers(self):
        self.hub.fault("/api", {"status": 429, "headers": {"Retry_After": "1"}}, {"status": 503},
                       {"status": 429, "headers": {"RateLimit": '"api";r=0;t=0'}})
        self.hub.fault("model.safetensors", {"status": 500}, {"status": 403}, where="store")  # 403: an address that ran out
        result = self.good(self.pull())
        self.check_whole(self.repo)
        self.assertIn("trying again in 1 s", result.err)
        for fault, words in (({"status": 429, "headers": {"Retry_After": "100000"}}, ["429", "patience", "HF_TOKEN"]),
                             ({"status": 500}, ["500"]), ({"status": 418}, ["418"]), ({"body": b"<html>"}, ["answer"]),
                             ({"body": b"[]"}, ["HF_ENDPOINT"]), ({"body": b"{" * 100000}, ["answer"]),
                             ({"redirect": "/api/models/Org/Tiny-1.0/revision/main"}, ["redirects"]),
                             ({"redirect": "file:///etc/passwd"}, ["address"]), ({"redirect": "gopher://x/"}, ["address"])):
            with self.subTest(fault):
                self.hub.fault("/api", fault, always=True)
                self.fails(self.pull(ORG, "--retries", "0"), 1, *words)

    def test_refusals_name_the_cure(self):
        self.fails(self.pull("Org/None"), 1, "no such model", "401", "HF_TOKEN")
        self.fails(self.pull("Org/None", env=self.env(HF_TOKEN="hf_x")), 1, "no such model", "404")
        self.fails(self.pull(f"{ORG}@nope"), 1, "no such revision")
        self.fails(self.pull(env=self.env(HF_TOKEN="bad")), 1, "does not know the token", "settings/tokens")
        self.fails(self.pull(env=self.env(HF_TOKEN="two words")), 1, "HF_TOKEN", "one word")
        self.repo.gated = True
        self.fails(self.pull(), 1, "terms", f"{self.hub.endpoint}/{ORG} in a browser", "no token was sent")
        self.fails(self.pull(env=self.env(HF_TOKEN="hf_x")), 1, "terms", "the token that was sent")
        self.assertFalse((self.store / "refs").exists())
        self.fails(self.pull(env=self.env(HF_ENDPOINT="http://127.0.0.1:9")), 1, "cannot be reached")
        self.fails(self.pull(env=self.env(HF_ENDPOINT="ftp://x")), 1, "HF_ENDPOINT")
        self.fails(self.pull(env=self.env(HF_ENDPOINT="nonsense")), 1)

    def test_token_goes_to_the_hub_only(self):
        self.repo.token = "hf_secret"
        (self.home).mkdir()
        (self.home / "token").write_text("hf_secret\n")
        for env in ({"HF_TOKEN": "hf_secret"}, {}, {"HF_TOKEN": " hf_secret \n"}):
            self.hub.log.clear()
            self.good(self.pull(env=self.env(**env)))
            self.check_whole(self.repo)
            self.assertTrue(all(h["Authorization"] == "Bearer hf_secret" for h in self.hub.asked("hub")))
            self.assertEqual(len(self.hub.asked("store")), 2)
            self.assertTrue(all("Authorization" not in h for h in self.hub.asked("store")))
            self.good(self.zamba("rm", ORG))
        self.fails(self.pull(env=self.env(HF_HUB_DISABLE_IMPLICIT_TOKEN="1")), 1, "no such model")
        # from the list too
        self.hub.fault("/api", {"redirect": f"http://127.0.0.1:{self.hub.store.server_port}/Org/Tiny-1.0/config.json"})
        self.hub.log.clear()
        self.fails(self.pull(), 1)
        self.assertEqual([("Authorization" in h) for h in self.hub.asked("store")], [False])

    def test_stalled_connection(self):
        self.hub.fault("model.safetensors", {"slow": MIB}, where="store")
        result = self.good(self.pull(env=self.env(HF_HUB_DOWNLOAD_TIMEOUT="1")))
        self.check_whole(self.repo)
        self.assertIn("trying again", result.err)

    def test_no_room(self):
        self.hub.repos[ORG] = Repo({}, siblings=[{"rfilename": "config.json", "size": 3, "blobId": "0" * 40},
                                                 {"rfilename": "model.safetensors", "size": 1 << 52, "blobId": "1" * 40}])
        self.fails(self.pull(), 1, "room")
        self.assertEqual(len(self.hub.log), 1)
        self.assertFalse(self.store.exists())

    def test_a_disk_that_is_full_on_the_way(self):
        limit = f'ulimit -f 2048; exec "$0" pull {ORG}'  # 1 MiB
        self.fails(run("-c", limit, PROGRAM, program="sh", env=self.env(), stdin=None), 1, "incomplete", "go on")
        part = self.store / "blobs" / (self.repo.etag("model.safetensors") + ".incomplete")
        self.assertGreater(part.stat().st_size, 0)
        self.good(self.pull())
        self.check_whole(self.repo)
        self.assertIn("Range", self.hub.asked("store", "model.safetensors")[-1])

    def test_no_folder_for_the_cache(self):
        self.home.mkdir()
        self.cache.write_text("a file")
        self.fails(self.pull(), 1, "HF_HOME")


class Hostile(HubCase):
    def names(self, *names, **fields):
        return [{"rfilename": "config.json", "size": 2, "blobId": "0" * 40},
                *[{"rfilename": n, "size": 2, "blobId": "1" * 40, **fields} for n in names]]

    def test_names(self):
        outside = self.folder / "evil.gguf"
        for name in ("../evil.gguf", "a/../../evil.gguf", f"{outside}", "..\\evil.gguf", "C:\\evil.gguf", "a\x1b[2Jb.gguf", "a//b.gguf",
                     "./x.gguf", "a/./x.gguf", "x" * 300 + ".gguf", "a\x00b.gguf", "\x7f.gguf", "..\\model.safetensors", "a\nb.safetensors"):
            with self.subTest(name):
                self.hub.repos[ORG] = Repo({}, siblings=self.names(name))
                result = self.pull()
                self.fails(result, 1)
                self.assertNotIn("\x1b", result.err)
                self.assertFalse(outside.exists())
                self.assertFalse(self.store.exists())
        self.hub.repos[ORG] = Repo({}, siblings=self.names("model.safetensors", "model.safetensors"))
        self.fails(self.pull(), 1, "two of its files")

    def test_sums_and_commits_are_no_paths(self):
        for etag in ("../../../evil", "/evil", ".evil", "a/b", "", "x" * 200):
            self.hub.repos[ORG] = Repo({}, siblings=self.names("model.safetensors", blobId=etag))
            self.fails(self.pull(), 1)
        for commit in ("../../evil", "main", "A" * 40, "a" * 39, "", None, 7):
            self.hub.repos[ORG] = small(sha=commit)
            self.fails(self.pull(), 1, "commit")
        self.assertFalse(self.store.exists())

    def test_lists_of_wrong_shape(self):
        for siblings in (None, {}, [1], [{}], [{"rfilename": 5}], [{"rfilename": "model.safetensors", "size": -1, "blobId": "0" * 40}],
                         [{"rfilename": "model.safetensors", "size": 1e30}], "x", [[]] * 1000):
            repo = self.hub.repos[ORG] = small(siblings=siblings)
            repo.list = lambda s=siblings: s
            self.fails(self.pull("--retries", "0", ORG), 1)

    def test_links_in_the_way(self):
        target = self.folder / "target"
        target.mkdir()
        self.hub.repos[ORG] = Repo({"big/Tiny-Q4_K_M.gguf": b"GGUF"})
        snapshot = self.store / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "big").symlink_to(target)
        self.fails(self.pull(), 1)
        self.assertEqual(list(target.iterdir()), [])
        blobs = self.store / "blobs"
        repo = self.hub.repos[ORG] = small()
        (blobs / (repo.etag("model.safetensors") + ".incomplete")).symlink_to(target / "x")
        self.fails(self.pull(), 1, "incomplete")
        self.assertEqual(list(target.iterdir()), [])

    def test_damaged_cache(self):
        for path, text in (("models--Org--Tiny-1.0/refs/main", "../../../.."), ("models--Org--Bad/refs/main", "x" * 100),
                           ("models--Org--Bad/snapshots/" + "c" * 40 + "/config.json", "{"), ("models--x", "file"),
                           ("models--Org--Bad2/snapshots/file", ""), ("models--a--b--c/snapshots/" + "c" * 40 + "/config.json", "{}"),
                           ("models--Org--G/snapshots/" + "c" * 40 + "/x-Q8_0.gguf", "GGUF\0\0\0\0"), ("datasets--a--b/refs/main", "x"),
                           ("models--Org--I/snapshots/" + "c" * 40 + "/config.json", "{}"),
                           ("models--Org--I/snapshots/" + "c" * 40 + "/model.safetensors.index.json", '{"weight_map": {"a": "../x"}}')):
            file = self.cache / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.good(self.zamba("list", "--all"))
        self.good(self.zamba("list", "--all", "--json"))
        self.fails(self.zamba("inspect", f"Org/I@{'c' * 40}"), 1)
        self.fails(self.zamba("run", ORG, "--offline"), 1)


class Together(HubCase):
    def setUp(self):
        super().setUp()
        self.repo = self.hub.repos[ORG] = small()
        self.part = self.store / "blobs" / (self.repo.etag("model.safetensors") + ".incomplete")

    def stop_at(self, number, *command):
        self.hub.fault("model.safetensors", {"slow": MIB}, where="store")
        process = self.start(*(command or ["pull", ORG]))
        self.assertTrue(self.hub.reached.wait(TIMEOUT))
        wait_until(lambda: self.part.exists() and self.part.stat().st_size >= MIB)
        process.send_signal(number)
        result = self.end(process)
        self.hub.go_on.set()
        return result

    def test_interrupt_and_go_on(self):
        for number, code, *command in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9),
                                       (signal.SIGINT, 130, "run", ORG, "-p", "A")):
            with self.subTest(number, command=command):
                self.hub.reached.clear()
                self.hub.go_on.clear()
                result = self.stop_at(number, *command)
                self.assertEqual(result.code, code, result.err)
                if code > 0:
                    self.assertIn(f"`zamba pull {ORG}` goes on", result.err)
                size = self.part.stat().st_size
                self.assertGreaterEqual(size, MIB)
                self.good(self.pull())
                self.check_whole(self.repo)
                self.assertEqual(self.hub.asked("store", "model.safetensors")[-1]["Range"], f"bytes={size}-")
                self.good(self.zamba("rm", ORG))

    def test_two_at_once(self):
        self.hub.fault("model.safetensors", {"slow": MIB}, where="store")
        first = self.start("pull", ORG)
        self.assertTrue(self.hub.reached.wait(TIMEOUT))
        second = self.start("pull", ORG)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(second.stderr.readline, b"")))
        reader.start()
        wait_until(lambda: any(b"another program" in line for line in lines))
        self.hub.go_on.set()
        self.good(self.end(first))
        self.assertEqual(second.wait(TIMEOUT), 0)
        reader.join()
        second.stdout.close()
        second.stderr.close()
        self.check_whole(self.repo)
        self.assertEqual(len(self.hub.asked("store", "model.safetensors")), 1)

    def test_many_at_once(self):
        processes = [self.start("pull", ORG) for _ in range(4)]
        for process in processes:
            self.good(self.end(process))
        self.check_whole(self.repo)
        self.assertEqual(len(self.hub.asked("store", "model.safetensors")), 1)

    def test_the_first_is_killed_while_the_second_waits(self):
        self.hub.fault("model.safetensors", {"slow": MIB}, where="store")
        first = self.start("pull", ORG)
        self.assertTrue(self.hub.reached.wait(TIMEOUT))
        wait_until(lambda: self.part.exists() and self.part.stat().st_size >= MIB)
        second = self.start("pull", ORG)
        first.kill()
        self.end(first)
        self.good(self.end(second))
        self.hub.go_on.set()
        self.check_whole(self.repo)
        self.assertIn("Range", self.hub.asked("store", "model.safetensors")[-1])

    def test_progress(self):
        result = self.good(self.pull(ORG, "--progress", "json"))
        lines = [json.loads(line)["progress"] for line in result.err.splitlines() if line.startswith("{")]
        self.assertEqual(lines[-1]["total"], sum(map(len, self.repo.files.values())))
        self.assertEqual(lines[-1]["done"], lines[-1]["total"])
        self.assertEqual(lines[-1]["unit"], "bytes")


def run_class(one):
    text = io.StringIO()
    result = unittest.TextTestRunner(stream=text).run(unittest.defaultTestLoader.loadTestsFromTestCase(one))
    return result, text.getvalue()


def main():
    """The classes side by side: most of the time they wait for a connection to be tried again."""
    good = True
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for result, text in pool.map(run_class, (Faults, Getting, Together, Hostile, Ggufs)):
            print(text, end="", flush=True)
            good = good and result.wasSuccessful()
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:]:
        unittest.main()
    sys.exit(main())
