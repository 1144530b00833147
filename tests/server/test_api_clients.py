"""test_api_clients.py — the official clients against `zamba serve`: openai for Python and npm, ollama, litellm, and
lm-eval's local-completions, whose scores must be those of `zamba eval` and of transformers. Skipped where they are not
installed: scripts/clients.sh does that."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from api_server import MODEL, NAME, PATIENCE, PROGRAM, ROOT, Served
from clients_here import CLIENTS, NODE, run_there

sys.path.insert(0, str(ROOT / "reference"))
import eval_oracle  # noqa: E402

if __name__ == "__main__":
    run_there("openai", "ollama", "litellm", "lm_eval")

PROMPT = "Once upon a time there was a king, and"
CHAT = [{"role": "user", "content": "Tell me of the king."}]


class OpenAI(Served):
    def setUp(self):
        import openai
        self.openai = openai
        self.client = openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    def tearDown(self):
        self.client.close()

    def test_models(self):
        self.assertEqual([m.id for m in self.client.models.list()], [NAME])
        self.assertEqual(self.client.models.retrieve(NAME).id, NAME)
        with self.assertRaises(self.openai.NotFoundError):
            self.client.models.retrieve("gpt-4")

    def test_chat(self):
        r = self.client.chat.completions.create(model=NAME, messages=CHAT, max_tokens=8, seed=1, n=2, logprobs=True,
                                                top_logprobs=3)
        self.assertEqual([c.index for c in r.choices], [0, 1])
        self.assertEqual(len(r.choices[0].logprobs.content[0].top_logprobs), 3)
        self.assertEqual(r.usage.completion_tokens, 16)
        again = self.client.chat.completions.create(model=NAME, messages=CHAT, max_tokens=8, seed=1)
        self.assertEqual(again.choices[0].message.content, r.choices[0].message.content)
        self.assertGreater(again.usage.prompt_tokens_details.cached_tokens, 0)

    def test_chat_stream(self):
        whole = self.client.chat.completions.create(model=NAME, messages=CHAT, max_tokens=8, seed=1)
        for more in ({}, {"return_progress": True}):
            text, usage = "", None
            for chunk in self.client.chat.completions.create(model=NAME, messages=CHAT, max_tokens=8, seed=1, stream=True,
                                                             stream_options={"include_usage": True}, extra_body=more):
                usage = chunk.usage or usage
                text += "".join(c.delta.content or "" for c in chunk.choices)
            self.assertEqual(text, whole.choices[0].message.content)
            self.assertEqual(usage.completion_tokens, 8)
        with self.client.chat.completions.stream(model=NAME, messages=CHAT, max_tokens=8, seed=1) as stream:
            self.assertEqual("".join(e.delta for e in stream if e.type == "content.delta"), text)

    def test_completions(self):
        r = self.client.completions.create(model=NAME, prompt=[PROMPT, "The queen"], max_tokens=4, temperature=0,
                                           logprobs=2, echo=True)
        self.assertTrue(r.choices[0].text.startswith(PROMPT))
        self.assertIsNone(r.choices[0].logprobs.token_logprobs[0])
        text = "".join(c.choices[0].text for c in self.client.completions.create(
            model=NAME, prompt=PROMPT, max_tokens=4, temperature=0, stream=True))
        self.assertEqual(PROMPT + text, r.choices[0].text)

    def test_embeddings(self):
        r = self.client.embeddings.create(model=NAME, input=["a king", "a queen"])  # base64 on the wire
        f = self.client.embeddings.create(model=NAME, input="a king", encoding_format="float")
        self.assertEqual(len(r.data), 2)
        self.assertAlmostEqual(r.data[0].embedding[0], f.data[0].embedding[0], places=5)

    def test_schema(self):
        schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
                  "additionalProperties": False}
        r = self.client.chat.completions.create(model=NAME, messages=CHAT, max_tokens=60, temperature=0, response_format={
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}})
        self.assertIn(json.loads(r.choices[0].message.content)["ok"], (True, False))

    def test_errors(self):
        with self.assertRaises(self.openai.BadRequestError) as e:
            self.client.chat.completions.create(model=NAME, messages=CHAT, temperature=-3)
        self.assertEqual(e.exception.body["param"], "temperature")
        with self.assertRaises(self.openai.NotFoundError):
            self.client.chat.completions.create(model="gpt-4", messages=CHAT)


class Ollama(Served):
    def setUp(self):
        import ollama
        self.ollama = ollama
        self.client = ollama.Client(host=self.url, timeout=PATIENCE)

    def test_all(self):
        options = {"num_predict": 6, "seed": 3}
        self.assertEqual(self.client.list().models[0].model, NAME)
        self.assertIn("completion", self.client.show(NAME).capabilities)
        self.assertEqual(self.client.ps().models[0].model, NAME)
        r = self.client.chat(model=NAME, messages=CHAT, options=options)
        text = "".join(p.message.content for p in self.client.chat(model=NAME, messages=CHAT, options=options, stream=True))
        self.assertEqual(text, r.message.content)
        self.assertEqual((r.done_reason, r.eval_count), ("length", 6))
        g = self.client.generate(model=NAME, prompt="Once", options=options)
        parts = list(self.client.generate(model=NAME, prompt="Once", options=options, stream=True))
        self.assertEqual("".join(p.response for p in parts), g.response)
        self.assertEqual(list(parts[-1].context), list(g.context))
        self.assertEqual(len(self.client.embed(model=NAME, input=["a", "b"]).embeddings), 2)
        self.assertGreater(len(self.client.embeddings(model=NAME, prompt="a").embedding), 8)
        with self.assertRaises(self.ollama.ResponseError) as e:
            self.client.chat(model="none", messages=CHAT)
        self.assertEqual(e.exception.status_code, 404)


class LiteLLM(Served):
    def test_all(self):
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm
        litellm.suppress_debug_info = True
        at = {"api_base": self.url + "/v1", "api_key": "none", "timeout": PATIENCE}
        r = litellm.completion(model="openai/" + NAME, messages=CHAT, max_tokens=6, seed=1, **at)
        text = "".join(c.choices[0].delta.content or "" for c in litellm.completion(
            model="openai/" + NAME, messages=CHAT, max_tokens=6, seed=1, stream=True, **at))
        self.assertEqual(text, r.choices[0].message.content)
        r = litellm.text_completion(model="text-completion-openai/" + NAME, prompt=PROMPT, max_tokens=4, temperature=0, **at)
        self.assertTrue(r.choices[0].text)
        r = litellm.completion(model="ollama_chat/" + NAME, messages=CHAT, max_tokens=6, api_base=self.url)
        self.assertTrue(r.choices[0].message.content)
        with self.assertRaises(litellm.BadRequestError):
            litellm.completion(model="openai/" + NAME, messages=CHAT, n=-5, num_retries=0, **at)


class Npm(Served):
    def test_openai(self):
        self.assertTrue(NODE.exists() and (CLIENTS / "node_modules" / "openai").exists(), "sh scripts/clients.sh --install")
        done = subprocess.run([NODE, ROOT / "tests" / "server" / "clients" / "openai.mjs", self.url, NAME], cwd=CLIENTS,
                              capture_output=True, text=True, timeout=600)
        self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr[-3000:])


# The rows of the tests of `zamba eval`, and real ones; the task files are the harness' own.
TASKS = ("arc_easy", "hellaswag", "piqa", "winogrande", "openbookqa", "boolq")
ROWS = ROOT / "tests" / "cli" / "fixtures" / "eval"
REAL = ROOT / "tests" / "server" / "fixtures" / "eval" / "openbookqa.jsonl"
# Two orders of f32 summation over a hundred tokens; sums are some -20 to -150.
TOL_LN_P = 1e-4


class LmEval(Served):
    options = ("--compute", "f32")

    def harness(self, folder, tasks):
        """{name: (loglikelihoods by row, scores)} of local-completions; tasks: {name: (task, its rows)}."""
        import lm_eval
        home = Path(lm_eval.__file__).parent / "tasks"
        for name, (task, rows) in tasks.items():
            data = folder / f"{name}.jsonl"
            data.write_text("".join(json.dumps(eval_oracle.native(task, json.loads(row))) + "\n"
                                    for row in rows.read_text().splitlines()))
            (folder / f"{name}.yaml").write_text(
                f"include: {home / eval_oracle.TASKS[task]}\ntask: {name}\ntag: null\ndataset_path: json\ndataset_name: null\n"
                f"dataset_kwargs:\n  data_files:\n    validation: {data}\n"
                "training_split: null\nvalidation_split: validation\ntest_split: null\nfewshot_split: null\n")
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf"),
               "OPENAI_API_KEY": "none", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        args = f"model={NAME},base_url={self.url}/v1/completions,num_concurrent=4,tokenized_requests=True," \
               f"tokenizer={MODEL},tokenizer_backend=huggingface,add_bos_token=True,max_length=512"
        done = subprocess.run([sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", args,
                               "--tasks", ",".join(tasks), "--include_path", folder, "--output_path", folder / "out",
                               "--log_samples"], env=env, capture_output=True, text=True, timeout=900)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        scores = json.loads(next((folder / "out").rglob("results_*.json")).read_text())["results"]
        found = {}
        for name in tasks:
            path, = (folder / "out").rglob(f"samples_{name}_*.jsonl")
            rows = {s["doc_id"]: [float(r[0][0]) for r in s["resps"]] for s in map(json.loads, path.read_text().splitlines())}
            found[name] = rows, {k.replace(",none", ""): v for k, v in scores[name].items() if k.startswith("acc")}
        return found

    def own(self, folder, task, rows):
        """The same of `zamba eval`."""
        out = folder / "own.jsonl"
        done = subprocess.run([PROGRAM, "eval", task, MODEL, "--data", rows, "--compute", "f32", "--samples", out, "--json"],
                              capture_output=True, text=True, timeout=900)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {s["row"]: s["loglikelihoods"] for s in map(json.loads, out.read_text().splitlines())}
        return rows, {k: v for k, v in json.loads(done.stdout)["results"][task].items() if k.startswith("acc")}

    def close(self, have, want, where):
        self.assertEqual(set(have), set(want), where)
        for row, values in want.items():
            self.assertEqual(len(have[row]), len(values), (where, row))
            for a, b in zip(have[row], values):
                self.assertAlmostEqual(a, b, delta=TOL_LN_P, msg=f"{where}, row {row}")

    def test_scores_are_those_of_zamba_eval_and_of_transformers(self):
        transformers = {}  # reference/eval_oracle.py made them
        for s in map(json.loads, (ROWS / "expected.jsonl").read_text().splitlines()):
            transformers.setdefault(s["task"], {})[s["row"]] = s["loglikelihoods"]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            tasks = {f"{t}_rows": (t, ROWS / f"{t}.jsonl") for t in TASKS} | {"openbookqa_real": ("openbookqa", REAL)}
            found = self.harness(folder, tasks)
            for name, (task, file) in tasks.items():
                rows, scores = found[name]
                own_rows, own_scores = self.own(folder, task, file)
                self.close(rows, own_rows, name)
                if file != REAL:
                    self.close(rows, transformers[task], f"{name}, transformers")
                self.assertEqual(set(scores), set(own_scores), name)
                for key, value in own_scores.items():
                    self.assertAlmostEqual(scores[key], value, places=9, msg=f"{name}, {key}")
            self.assertEqual(len(found["openbookqa_real"][0]), 24)


if __name__ == "__main__":
    unittest.main()
