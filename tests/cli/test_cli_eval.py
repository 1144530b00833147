#!/usr/bin/env python3
"""test_cli_eval.py — `zamba eval`, `zamba eval needle`, `zamba perplexity --kl-base`: scores against those of
lm-evaluation-harness over transformers (fixtures/eval/expected.jsonl, made by reference/eval_oracle.py), divergence
against NumPy over the logits of `zamba debug logits`, and files that lie."""
import csv
import io
import json
import os
import struct
import sys
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, Case, run  # noqa: E402

ROWS = Path(__file__).parent / "fixtures" / "eval"
TASKS = ["hellaswag", "arc_easy", "arc_challenge", "piqa", "winogrande", "boolq", "openbookqa"]
NORMED = {"hellaswag", "arc_easy", "arc_challenge", "piqa", "openbookqa"}
# Two orders of f32 summation over a hundred tokens; sums are some -20 to -150.
TOL_LN_P = 1e-4


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def logits(case, model, ids):
    """What `zamba debug logits` gives for lists of ids, in float32."""
    out = case.folder / "logits.safetensors"
    result = run("debug", "logits", model, "--ids", case.file("ids.json", json.dumps(ids)), "-o", out)
    case.assertEqual(result.code, 0, result.err)
    data = out.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    tensors = [json.loads(data[8:8 + n])[f"logits.{i}"] for i in range(len(ids))]
    return [np.frombuffer(data, "<f4", np.prod(t["shape"]), 8 + n + t["data_offsets"][0]).reshape(t["shape"])
            for t in tensors]


def samples(path):
    return {(s["task"], s["row"]): s for s in map(json.loads, Path(path).read_text().splitlines())}


class Tasks(Case):
    @classmethod
    def setUpClass(cls):
        cls.expected = samples(ROWS / "expected.jsonl")

    def score(self, *args):
        path = self.folder / "samples.jsonl"
        result = run("eval", *args, "--samples", path, "--compute", "f32", "--json")
        self.assertEqual(result.code, 0, result.err)
        return result.json["results"], samples(path)

    def test_scores_are_those_of_lm_evaluation_harness(self):
        results, got = self.score(",".join(TASKS), MODEL, "--data", ROWS)
        self.assertEqual(set(got), set(self.expected))
        for key, want in self.expected.items():
            have = got[key]
            self.assertEqual(have["gold"], want["gold"], key)
            np.testing.assert_allclose(have["loglikelihoods"], want["loglikelihoods"], atol=TOL_LN_P, rtol=0,
                                       err_msg=str(key))
            self.assertEqual(float(have["pred"] == have["gold"]), want["acc"], key)
            if "acc_norm" in want:
                self.assertEqual(float(have["pred_norm"] == have["gold"]), want["acc_norm"], key)
        for task in TASKS:
            mine = [w for (t, _), w in self.expected.items() if t == task]
            for metric in ("acc", "acc_norm") if task in NORMED else ("acc",):
                values = np.array([w[metric] for w in mine])
                self.assertAlmostEqual(results[task][metric], values.mean(), 9)
                self.assertAlmostEqual(results[task][metric + "_stderr"], values.std(ddof=1) / len(values) ** 0.5, 9)
            self.assertEqual("acc_norm" in results[task], task in NORMED)

    def test_a_choice_scores_the_same_whatever_it_is_read_with(self):
        _, whole = self.score("arc_easy", MODEL, "--data", ROWS)
        _, first = self.score("arc-easy", MODEL, "--data", ROWS / "arc_easy.jsonl", "--limit", 1)
        self.assertEqual(list(first), [("arc_easy", 0)])
        np.testing.assert_allclose(first["arc_easy", 0]["loglikelihoods"], whole["arc_easy", 0]["loglikelihoods"],
                                   atol=TOL_LN_P)

    def test_log_likelihood_is_the_sum_over_the_continuation(self):
        _, got = self.score("piqa", MODEL, "--data", ROWS, "--limit", 1)
        row = json.loads((ROWS / "piqa.jsonl").read_text().splitlines()[0])
        context = f"Question: {row['goal']}\nAnswer:"
        for i, text in enumerate((row["sol1"], row["sol2"])):
            whole = run("tokenize", MODEL, f"{context} {text}").json
            n = len(run("tokenize", MODEL, context).json)
            ln_p = log_softmax(logits(self, MODEL, [whole])[0])
            want = sum(ln_p[k - 1, whole[k]] for k in range(n, len(whole)))
            self.assertAlmostEqual(got["piqa", 0]["loglikelihoods"][i], want, delta=TOL_LN_P)
            self.assertEqual(got["piqa", 0]["tokens"][i], len(whole) - n)
            self.assertEqual(got["piqa", 0]["characters"][i], len(text))

    def test_characters_are_counted_not_bytes(self):
        _, got = self.score("arc_easy", MODEL, "--data", ROWS)
        self.assertEqual(got["arc_easy", 2]["characters"][4], 5)  # Glück

    def test_examples_in_front(self):
        results, got = self.score("arc_easy", MODEL, "--data", ROWS, "--num-fewshot", 1)
        self.assertEqual((results["arc_easy"]["items"], results["arc_easy"]["num_fewshot"]), (2, 1))
        rows = [json.loads(line) for line in (ROWS / "arc_easy.jsonl").read_text().splitlines()]
        shot = f"Question: {rows[0]['question']}\nAnswer: a boat\n\n"
        both = dict(rows[1], question="X")
        by_hand = self.file("by-hand.jsonl", json.dumps(
            dict(both, question=(shot + f"Question: {rows[1]['question']}")[len("Question: "):])) + "\n")
        _, want = self.score("arc_easy", MODEL, "--data", by_hand)
        np.testing.assert_allclose(got["arc_easy", 1]["loglikelihoods"], want["arc_easy", 0]["loglikelihoods"],
                                   atol=TOL_LN_P)

    def test_long_contexts_lose_their_beginning(self):
        row = {"question": "is it so", "passage": "The old king sat by the fire. " * 200, "label": 1}
        path = self.file("boolq.jsonl", json.dumps(row) + "\n")
        _, cut = self.score("boolq", MODEL, "--data", path)
        ids = run("tokenize", MODEL, f"{row['passage']}\nQuestion: {row['question']}?\nAnswer: yes").json[-513:]
        ln_p = log_softmax(logits(self, MODEL, [ids[:-1]])[0])
        self.assertEqual(cut["boolq", 0]["tokens"][1], 1)
        self.assertAlmostEqual(cut["boolq", 0]["loglikelihoods"][1], ln_p[-1, ids[-1]], delta=TOL_LN_P)

    def test_table_and_progress(self):
        result = run("eval", "arc_easy,boolq", "--data", ROWS, "--progress", "json")
        self.assertRegex(result.out, r"(?m)^arc_easy +0 +3 +0\.\d{4} ± 0\.\d{4} +0\.\d{4} ± 0\.\d{4}$")
        self.assertRegex(result.out, r"(?m)^boolq +0 +3 +0\.\d{4} ± 0\.\d{4}$")
        self.assertIn('"unit": "items"', result.err)

    def test_what_is_wrong_is_named(self):
        def data(text):
            return self.file(f"rows{len(list(self.folder.iterdir()))}.jsonl", text)
        good = (ROWS / "arc_easy.jsonl").read_text().splitlines()[0]
        for args, code, word in (
                ([], 2, "needs a task"),
                (["arc_easi", "--data", ROWS], 2, "did you mean 'arc_easy'"),
                (["mmlu", "--data", ROWS], 2, "wanted hellaswag"),
                (["arc_easy,arc-easy", "--data", ROWS], 2, "twice"),
                ([",", "--data", ROWS], 2, "no task"),
                (["arc_easy"], 2, "--data"),
                (["arc_easy,piqa", "--data", ROWS / "piqa.jsonl"], 1, "folder"),
                (["arc_easy", "--data", self.folder], 1, "no rows for arc_easy"),
                (["arc_easy", "--data", self.folder / "nothing.jsonl"], 1, "No such file"),
                (["arc_easy", "--data", self.file("rows.jsonl.xz", b"\xfd7zXZ\0")], 1, "xz -dk"),
                (["arc_easy", "--data", data("")], 1, "0 rows"),
                (["arc_easy", "--data", data("{")], 1, "line 1"),
                (["arc_easy", "--data", data(good + "\n[]\n")], 1, "line 2"),
                (["arc_easy", "--data", data("{}")], 1, '"question"'),
                (["arc_easy", "--data", data(good.replace('"answerKey": "A"', '"answerKey": "Z"'))], 1, "'Z'"),
                (["arc_easy", "--data", data(good.replace('"label": ["A", ', '"label": ['))], 1, "as many labels"),
                (["piqa", "--data", data('{"goal": "", "sol1": "", "sol2": "", "label": 2}')], 1, "none of the choices"),
                (["winogrande", "--data", data('{"sentence": "a", "option1": "", "option2": "", "answer": "1"}')], 1, "'_'"),
                (["winogrande", "--data", data('{"sentence": "_", "option1": "", "option2": "", "answer": ""}')], 1,
                 '"answer"'),
                (["arc_easy", "--data", data('{"instruction": "x", "answer": "answer1"}')], 1, "instruction"),
                (["arc_easy", "--data", data('{"instruction": "x: Answer format:", "answer": "answer1"}')], 1, "choices"),
                (["arc_easy", "--data", data(
                    '{"instruction": "x: y\\n\\nAnswer1: a Answer2: b Answer format:", "answer": "answer3"}')], 1, "answer3"),
                (["piqa", "--data", data(json.dumps({"goal": "a", "sol1": "b " * 600, "sol2": "b", "label": 0}))], 1,
                 "the context holds 512"),
                (["arc_easy", "--data", ROWS, "--num-fewshot", 3], 1, "examples"),
                (["arc_easy", MODEL, "more", "--data", ROWS], 2, "one word too many"),
                (["arc_easy", "--data", ROWS, "--samples", self.folder / "no" / "where"], 1, "No such file")):
            self.fails(run("eval", *args), code, word)
        bare = run("eval", "boolq", "--data", self.file(
            "boolq.jsonl", '{"instruction": "x, question: is it so?\\n\\nAnswer format: true/false", "answer": "true"}\n'))
        self.assertEqual(bare.code, 0, bare.err)
        self.assertIn("no passage", bare.err)


def coarser(folder):
    """The default model with its large weights cut to four bits behind the point: something like a quantized one."""
    folder.mkdir()
    for path in MODEL.iterdir():
        if path.name != "model.safetensors":
            os.symlink(path, folder / path.name)
    data = bytearray((MODEL / "model.safetensors").read_bytes())
    n = struct.unpack("<Q", data[:8])[0]
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__" and len(t["shape"]) == 2:
            first, last = (8 + n + o for o in t["data_offsets"])
            words = np.frombuffer(data[first:last], "<u2")
            data[first:last] = (words & 0xFFF8).tobytes()
    (folder / "model.safetensors").write_bytes(data)
    return folder


class Divergence(Case):
    WINDOW, STRIDE, LIMIT = 48, 40, 150
    GRID = ["--window", "48", "--stride", "40", "--limit", "150", "--compute", "f32"]

    def setUp(self):
        super().setUp()
        self.base = self.folder / "base.kl"
        self.text = MODEL / "valid20k.u16"

    def save(self, *args):
        result = run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", self.base, "--save-kl-base", *args)
        self.assertEqual(result.code, 0, result.err)
        return result

    def test_statistics_against_numpy(self):
        self.save("--json")
        other = coarser(self.folder / "coarse")
        result = run("perplexity", other, self.text, *self.GRID, "--kl-base", self.base, "--worst", "5", "--json")
        self.assertEqual(result.code, 0, result.err)
        got = result.json["kl"]

        ids = np.frombuffer(self.text.read_bytes()[:2 * self.LIMIT], "<u2").astype(int).tolist()
        windows, places, reached = [], [], 0
        for first in range(0, self.LIMIT, self.STRIDE):
            window = ids[first:first + self.WINDOW]
            if first + len(window) <= reached:
                break
            places.append(range(max(reached, first + 1), first + len(window)))
            windows.append((first, window))
            reached = first + len(window)
        flat = [(w, p - f - 1, p) for w, ((f, _), at) in enumerate(zip(windows, places)) for p in at]
        self.assertEqual([p for _, _, p in flat], list(range(1, self.LIMIT)))
        pair = []
        for model in (MODEL, other):
            rows = logits(self, model, [w for _, w in windows])
            pair.append(log_softmax(np.stack([rows[w][r] for w, r, _ in flat])))
        base, now = pair
        kld = (np.exp(base) * (base - now)).sum(-1)
        follow = np.array([ids[p] for _, _, p in flat])
        nll_base, nll = (-x[np.arange(len(follow)), follow] for x in pair)
        delta = np.exp(-nll) - np.exp(-nll_base)
        n = len(follow)

        def close(have, want, tolerance=2e-5):
            self.assertLess(abs(have - want), tolerance + 2e-4 * abs(want), (have, want))

        def mean(x):
            return x.mean(), x.std() / (n - 1) ** 0.5
        self.assertEqual(got["predictions"], n)
        for key, values in (("kld", kld), ("delta_p", delta)):
            close(got[key]["mean"], mean(values)[0])
            close(got[key]["error"], mean(values)[1])
            for name, q in (("max", 1), ("p99_9", .999), ("p99", .99), ("p95", .95), ("p90", .9), ("median", .5),
                            ("p10", .1), ("p5", .05), ("p1", .01), ("min", 0)):
                close(got[key + "_quantiles"][name], np.quantile(values, q))
        close(got["perplexity"]["mean"], np.exp(nll.mean()), 1e-3)
        close(got["perplexity"]["error"], np.exp(nll.mean()) * mean(nll)[1], 1e-3)
        close(got["perplexity_base"]["mean"], np.exp(nll_base.mean()), 1e-3)
        close(got["ratio"]["mean"], np.exp((nll - nll_base).mean()))
        close(got["ln_ratio"]["mean"], (nll - nll_base).mean())
        close(got["ln_ratio"]["error"], mean(nll - nll_base)[1])
        close(got["correlation"], np.corrcoef(nll, nll_base)[0, 1])
        close(got["delta_p_rms"]["mean"], (delta ** 2).mean() ** .5)
        same = (base.argmax(-1) == now.argmax(-1)).mean()
        self.assertAlmostEqual(got["same_top"]["mean"], same, 9)
        self.assertAlmostEqual(got["same_top"]["error"], (same * (1 - same) / (n - 1)) ** .5, 9)
        self.assertGreater(got["kld"]["mean"], 1e-4)  # else this test says nothing

        order = np.argsort(-kld)[:5]
        self.assertEqual([w["position"] for w in got["worst"]], [flat[i][2] for i in order])
        for w, i in zip(got["worst"], order):
            close(w["kld"], kld[i])
            self.assertEqual(w["next"]["id"], follow[i])
            close(w["next"]["p"], np.exp(-nll[i]))
            close(w["next"]["p_base"], np.exp(-nll_base[i]))
            self.assertEqual((w["top"]["id"], w["top_base"]["id"]), (now[i].argmax(), base[i].argmax()))
            close(w["top"]["p"], np.exp(now[i].max()))
            close(w["top_base"]["p"], np.exp(base[i].max()))
            self.assertIsInstance(w["context"], str)

    def test_a_model_does_not_differ_from_itself(self):
        saved = self.save()
        self.assertIn("perplexity", saved.out)
        self.assertEqual(self.base.stat().st_size, 72 + 4 * 150 + 149 * (16 + 2 * 4096))
        self.assertEqual([p for p in self.folder.iterdir()], [self.base])
        got = run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", self.base, "--json").json["kl"]
        self.assertLess(got["kld"]["mean"], 1e-7)
        self.assertEqual(got["same_top"]["mean"], 1)
        self.assertLess(abs(got["ratio"]["mean"] - 1), 1e-6)
        text = run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", self.base, "--worst", "1").out
        for word in ("same likeliest", "99.9 %", "median", "likeliest"):
            self.assertIn(word, text)
        self.assertNotIn("Largest KL", run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", self.base,
                                           "--worst", "0").out)

    def test_other_texts_and_windows_are_refused(self):
        self.save()
        compare = ["--kl-base", self.base]
        self.fails(run("perplexity", MODEL, self.text, *self.GRID[2:], *compare), 1, "--window 48", "256")
        self.fails(run("perplexity", MODEL, self.text, "--window", "48", "--limit", "150", *compare), 1, "--stride 40")
        self.fails(run("perplexity", MODEL, self.text, "--window", "48", "--stride", "40", "--limit", "149", *compare), 1,
                   "another text", "150 tokens")
        data = bytearray(self.text.read_bytes())
        data[200:202] = b"\1\1"
        self.fails(run("perplexity", MODEL, self.file("x.u16", bytes(data)), *self.GRID, *compare), 1,
                   "another text", "token 100")
        tiny = Path(__file__).parent.parent / "golden" / "fixtures" / "zamba2-1.2b-tiny"
        small = self.file("small.u16", b"\3\0" * 150)
        self.fails(run("perplexity", tiny, small, *self.GRID, *compare), 1, "vocabulary of 4096")
        self.fails(run("perplexity", MODEL, self.text, "--save-kl-base"), 2, "--kl-base")
        self.fails(run("perplexity", MODEL, self.text, "--kl-base", self.folder / "none.kl"), 1, "--save-kl-base")
        self.fails(run("perplexity", MODEL, self.text, "--kl-base", self.folder), 1, "no plain file")
        self.fails(run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", self.folder / "a" / "b",
                       "--save-kl-base"), 1, "No such file")

    def test_hostile_files(self):
        self.save()
        good = self.base.read_bytes()

        def damaged(at, value, *words):
            data = bytearray(good)
            data[at:at + len(value)] = value
            path = self.file("bad.kl", bytes(data))
            self.fails(run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", path), 1, str(path), *words)

        for at, value, word in ((0, b"x", "no file of"), (8, b"\2", "version 2"), (12, b"\0", "head is damaged"),
                                (16, b"xxxx", "head is damaged"), (24, b"\xff" * 8, "head is damaged"),
                                (48, b"\0\0\0\0", "head is damaged"), (64, b"x", "head is damaged"),
                                (72 + 600 + 4, b"\0\0\xc0\x7f", "row 0 is damaged"),
                                (len(good) - 1, bytes([good[-1] ^ 1]), "row 148 is damaged")):
            damaged(at, value, word)
        for n, word in ((0, "0 bytes"), (40, "40 bytes"), (len(good) - 1, "cut off"), (100, "cut off")):
            path = self.file("short.kl", good[:n])
            self.fails(run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", path), 1, word)
        self.fails(run("perplexity", MODEL, self.text, *self.GRID, "--kl-base", self.file("l.kl", good + b"x")), 1, "cut off")

    def test_what_is_there_already(self):
        self.base.write_bytes(b"a text")
        save = ["--kl-base", self.base, "--save-kl-base"]
        self.fails(run("perplexity", MODEL, self.text, *self.GRID, *save), 1, "not replaced")
        self.assertEqual(self.base.read_bytes(), b"a text")
        self.base.write_bytes(b"")
        self.save("--limit", "20")
        first = self.base.read_bytes()
        self.save("--limit", "30")
        self.assertGreater(self.base.stat().st_size, len(first))
        self.fails(run("perplexity", MODEL, self.text, "--kl-base", "/dev/null", "--save-kl-base"), 1, "no plain file")


class Needle(Case):
    def setUp(self):
        super().setUp()
        sentences = ["The fox ran into the wood.", "A king had three sons!", "Where was the goose?", "It rained all day."]
        self.hay = self.file("hay.txt", " ".join(sentences[i * i % 4] for i in range(120)))

    def test_cells_are_those_of_the_whole_prompt(self):
        """Forked states give what reading each prompt from its beginning gives."""
        result = run("eval", "needle", MODEL, "--haystack", self.hay, "--lengths", "100,160", "--depths", "0,50,100",
                     "--needle", "The name of the cat is Tom.", "--question", "What is the name of the cat? It is",
                     "--answer", "Tom the cat", "--key", "Tom", "--compute", "f32", "--json")
        self.assertEqual(result.code, 0, result.err)
        x = result.json
        self.assertEqual(len(x["cells"]), 6)
        self.assertEqual(len(x["without"]), 2)

        def ids(text):
            return run("tokenize", MODEL, text, "--no-bos").json
        hay, needle, question = ids(self.hay.read_text()), ids(x["needle"]), ids("\n\n" + x["question"])
        whole = ids("\n\n" + x["question"] + " " + x["answer"])
        self.assertEqual(whole[:len(question)], question)
        answer = whole[len(question):]
        self.assertEqual(x["answer_tokens"], len(answer))
        prompts, cells = [], x["cells"] + x["without"]
        for c in cells:
            n = c["length"] - 1 - len(question) - len(answer)
            if "needle_at" in c:
                n -= len(needle)
                text = hay[:c["needle_at"]] + needle + hay[c["needle_at"]:n]
                if c["depth"] == 50:
                    self.assertLessEqual(c["needle_at"], n // 2)
                    self.assertGreater(c["needle_at"], n // 2 - 12)  # the end of the sentence before
                    self.assertRegex(run("detokenize", MODEL, json.dumps(hay[:c["needle_at"]])).out.strip(), r"[.!?]$")
                if c["depth"] == 100:
                    self.assertEqual(c["needle_at"], n)
            else:
                text = hay[:n]
            prompt = [1] + text + question + answer
            self.assertEqual(len(prompt), c["length"])
            prompts.append(prompt)
        for c, prompt, rows in zip(cells, prompts, logits(self, MODEL, prompts)):
            ln_p = log_softmax(rows)
            first = len(prompt) - len(answer)
            want = sum(ln_p[k - 1, prompt[k]] for k in range(first, len(prompt)))
            self.assertAlmostEqual(c["ln_p"], want, delta=TOL_LN_P)
            self.assertEqual(c["likeliest_tokens"], sum(ln_p[k - 1].argmax() == prompt[k]
                                                        for k in range(first, len(prompt))))
            self.assertAlmostEqual(c["p_per_token"], np.exp(want / len(answer)), delta=1e-3)
            self.assertEqual(c["found"], "Tom" in c["written"])
        written = run("run", MODEL, "--prompt-ids", ",".join(map(str, prompts[0][:-len(answer)])), "--temp", "0", "-n",
                      len(answer) + 8, "--compute", "f32", "--json").json
        self.assertEqual(cells[0]["written"].split()[:3], written["text"].split()[:3])

    def test_table_csv_and_picture(self):
        table, picture = self.folder / "needle.csv", self.folder / "needle.svg"
        result = run("eval", "needle", "--haystack", self.hay, "--lengths", "120,128", "--depths", "0,100", "--answer",
                     'a "b" <c>', "--csv", table, "--svg", picture, "--progress", "json")
        self.assertEqual(result.code, 0, result.err)
        self.assertIn("mean probability", result.out)
        self.assertIn('"task": "needle"', result.err)
        last = [json.loads(line)["progress"] for line in result.err.splitlines() if line.startswith("{")][-1]
        self.assertEqual(last["done"], last["total"])
        rows = list(csv.DictReader(io.StringIO(table.read_text())))
        self.assertEqual([(r["length"], r["depth_percent"]) for r in rows],
                         [(n, d) for n in ("120", "128") for d in ("0", "100", "none")])
        svg = ET.fromstring(picture.read_text())  # well-formed
        text = picture.read_text()
        for word in ("prefers-color-scheme:dark", "depth of the needle", "length of the whole prompt", "no needle",
                     "a &quot;b&quot; &lt;c&gt;"):
            self.assertIn(word, text)
        self.assertEqual(len([e for e in svg.iter() if e.tag.endswith("}g")]), 6)

    def test_what_is_wrong_is_named(self):
        hay = ["--haystack", self.hay]
        for args, code, word in (
                ([], 2, "--haystack"), (["--haystack", "/no/such/file"], 1, "No such file"),
                (hay + ["--lengths", "513"], 1, "the context holds 512"), (hay + ["--lengths", "40"], 1, "alone have"),
                (["--haystack", self.file("short", "Once.")], 1, "a longer text"),
                (["--haystack", self.file("a.xz", b"\xfd7zXZ\0abc")], 1, "xz -dk"),
                (hay + ["--depths", "101"], 1, "0 to 100"), (hay + ["--lengths", "x"], 2, "--lengths"),
                (hay + ["--answer", ""], 1, "must not be empty"), (hay + ["-c", "64"], 1, "--lengths: found 0")):
            self.fails(run("eval", "needle", *args), code, word)


if __name__ == "__main__":
    unittest.main(verbosity=1)
