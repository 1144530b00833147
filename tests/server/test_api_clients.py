"""test_api_clients.py — the official clients against `zamba serve`: openai, ollama, litellm, and lm-eval's
local-completions, whose scores must be those of `zamba eval`. Each is skipped where it is not installed."""
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from api_server import MODEL, NAME, PATIENCE, PROGRAM, Served

PROMPT = "Once upon a time there was a king, and"
CHAT = [{"role": "user", "content": "Tell me of the king."}]


def there(name):
    return importlib.util.find_spec(name) is not None


@unittest.skipUnless(there("openai"), "no openai")
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


@unittest.skipUnless(there("ollama"), "no ollama")
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


@unittest.skipUnless(there("litellm"), "no litellm")
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


TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: " "
metric_list:
  - metric: acc
  - metric: acc_norm
"""

QUESTIONS = [("Once upon a time there was a", ["king who had three sons.", "table of contents zero nine."], 0),
             ("The little girl ran into the", ["seventeen hundred and.", "wood to find her mother."], 1),
             ("The king said to the queen,", ["\"My dear wife, what is it?\"", "bread bread bread bread."], 0),
             ("She took the apple and", ["ate it.", "it it ate and and."], 0)]


@unittest.skipUnless(there("lm_eval"), "no lm-eval")
class LmEval(Served):
    def test_local_completions(self):
        """The log-probabilities that it gets are those of the prompts read here."""
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data.jsonl"
            data.write_text("".join(json.dumps({"question": q, "choices": c, "answer": a}) + "\n" for q, c, a in QUESTIONS))
            (Path(folder) / "tales.yaml").write_text(TASK.format(name="tales", file=data))
            env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": folder,
                   "OPENAI_API_KEY": "none", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            args = f"model={NAME},base_url={self.url}/v1/completions,num_concurrent=2,tokenized_requests=True," \
                   f"tokenizer={MODEL},tokenizer_backend=huggingface,add_bos_token=True"
            done = subprocess.run([sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", args,
                                   "--tasks", "tales", "--include_path", folder, "--output_path", folder, "--log_samples"],
                                  env=env, capture_output=True, text=True, timeout=600)
            self.assertEqual(done.returncode, 0, done.stderr[-3000:])
            samples = [json.loads(line) for p in Path(folder).rglob("samples_tales_*.jsonl") for line in p.read_text().splitlines()]
        self.assertEqual(len(samples), len(QUESTIONS))
        for s in samples:
            question, choices, _ = QUESTIONS[s["doc_id"]]
            n = len(self.post("/tokenize", prompt=question).json["tokens"])
            for choice, got in zip(choices, s["filtered_resps"]):
                ids = self.post("/tokenize", prompt=f"{question} {choice}").json["tokens"]
                lp = self.post("/v1/completions", prompt=ids, echo=True, logprobs=1, max_tokens=0).json["choices"][0]
                want = sum(lp["logprobs"]["token_logprobs"][n:])
                got = got[0] if isinstance(got, list) else float(re.match(r"\(?'?\[?(-[\d.e+-]+)", got).group(1))
                self.assertAlmostEqual(float(got), want, places=3)


if __name__ == "__main__":
    unittest.main()
