"""test_api.py — the APIs of `zamba serve` as bytes on the wire: replies, streams, errors with the field named, states,
and that openapi.json says what is so. No client library; those are in test_api_clients.py."""
import json
import math
import os
import random
import tempfile
import unittest
from pathlib import Path

from api_server import MODEL, NAME, Served

PROMPT = "Once upon a time there was a little girl who lived in a wood, and"
CHAT = [{"role": "user", "content": "Tell me of the king."}]


class Completions(Served):
    def complete(self, **body):
        return self.post("/v1/completions", **{"prompt": PROMPT, "temperature": 0, "max_tokens": 8, **body}).json

    def test_shape(self):
        r = self.complete()
        self.assertTrue(r["id"].startswith("cmpl-"))
        self.assertEqual((r["object"], r["model"]), ("text_completion", NAME))
        self.assertEqual(r["choices"][0]["finish_reason"], "length")
        self.assertEqual(r["choices"][0]["text"][0], " ")  # it goes on from the prompt
        u = r["usage"]
        self.assertEqual(u["completion_tokens"], 8)
        self.assertEqual(u["total_tokens"], u["prompt_tokens"] + 8)

    def test_cached_tokens(self):
        fresh = f"A new tale {random.getrandbits(64)} of the sea and of the men who went to it in ships"
        first = self.complete(prompt=fresh)["usage"]
        second = self.complete(prompt=fresh)["usage"]
        self.assertLess(first["prompt_tokens_details"]["cached_tokens"], 8)
        self.assertGreaterEqual(second["prompt_tokens_details"]["cached_tokens"], first["prompt_tokens"] - 2)
        self.assertEqual(first["prompt_tokens"], second["prompt_tokens"])

    def test_prompts(self):
        ids = self.post("/tokenize", prompt=PROMPT).json["tokens"]
        text = self.complete()["choices"][0]["text"]
        self.assertEqual(self.complete(prompt=ids)["choices"][0]["text"], text)
        many = self.complete(prompt=[ids, ids[:5]])["choices"]
        self.assertEqual([c["index"] for c in many], [0, 1])
        self.assertEqual(many[0]["text"], text)
        both = self.complete(prompt=["The king", PROMPT])["choices"]
        self.assertEqual(both[1]["text"], text)
        self.assertNotEqual(both[0]["text"], text)

    def test_many_answers(self):
        body = {"n": 3, "seed": 7, "temperature": 1}
        a, b = self.complete(**body), self.complete(**body)
        texts = [c["text"] for c in a["choices"]]
        self.assertEqual(texts, [c["text"] for c in b["choices"]])
        self.assertEqual(len(set(texts)), 3)
        self.assertEqual([c["index"] for c in a["choices"]], [0, 1, 2])
        one = self.complete(seed=8, temperature=1)["choices"][0]["text"]
        self.assertEqual(one, texts[1])  # answer i has the seed + i
        self.assertEqual(a["usage"]["completion_tokens"], 24)
        many = self.complete(prompt=["The king", "The queen"], n=2, max_tokens=2)["choices"]
        self.assertEqual([c["index"] for c in many], [0, 1, 2, 3])

    def test_echo_logprobs(self):
        """What lm-evaluation-harness asks: the prompt's own log-probabilities, and none generated but one."""
        r = self.complete(echo=True, logprobs=1, max_tokens=0)
        c = r["choices"][0]
        lp = c["logprobs"]
        self.assertEqual(c["text"], PROMPT)
        self.assertEqual(r["usage"]["completion_tokens"], 0)
        n = r["usage"]["prompt_tokens"]
        self.assertEqual([len(lp[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")], [n] * 4)
        self.assertIsNone(lp["token_logprobs"][0])
        self.assertIsNone(lp["top_logprobs"][0])
        for token, p, top, offset in list(zip(*[lp[k] for k in ("tokens", "token_logprobs", "top_logprobs",
                                                                "text_offset")]))[1:]:
            self.assertLessEqual(p, 0)
            self.assertEqual(top[token], p)
            self.assertGreaterEqual(max(top.values()), p)
            if offset:
                self.assertEqual(PROMPT[offset:offset + len(token)], token)
        again = self.complete(echo=True, logprobs=1, max_tokens=1)["choices"][0]
        self.assertEqual(again["logprobs"]["token_logprobs"][:n], lp["token_logprobs"])
        self.assertEqual(len(again["logprobs"]["tokens"]), n + 1)
        self.assertTrue(again["text"].startswith(PROMPT) and len(again["text"]) > len(PROMPT))

    def test_logprobs_of_answer(self):
        c = self.complete(logprobs=3, max_tokens=4)["choices"][0]
        lp = c["logprobs"]
        self.assertEqual("".join(lp["tokens"]), c["text"])
        for token, p, top in zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"]):
            self.assertEqual(max(top, key=top.get), token)  # greedy
            self.assertLessEqual(sum(map(math.exp, top.values())), 1.0001)
            self.assertEqual(top[token], p)
        self.assertIsNone(self.complete(logprobs=0, max_tokens=1)["choices"][0]["logprobs"]["top_logprobs"][0])

    def test_token_ids(self):
        """With the ids a conversation goes on without being tokenized again: nothing of it is read twice."""
        ids = self.post("/tokenize", prompt=f"A tale {random.getrandbits(64)} of the sea").json["tokens"]
        for path, body in (("/v1/completions", {"prompt": ids}), ("/v1/chat/completions", {"messages": CHAT})):
            ask = {**body, "max_tokens": 12, "seed": 3, "return_token_ids": True, "ignore_eos": True}
            c = self.post(path, **ask).json["choices"][0]
            self.assertEqual(len(c["token_ids"]), 12)
            self.assertEqual(c["prompt_token_ids"], ids if "prompt" in body else
                             self.post("/tokenize", messages=CHAT).json["tokens"])
            chunks = [x["choices"][0] for x in self.post(path, stream=True, **ask).chunks]
            self.assertEqual([i for x in chunks for i in x.get("token_ids", [])], c["token_ids"])
            self.assertEqual([x["prompt_token_ids"] for x in chunks if "prompt_token_ids" in x], [c["prompt_token_ids"]])
            so_far = c["prompt_token_ids"] + c["token_ids"]
            usage = self.complete(prompt=so_far + ids)["usage"]
            self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], len(so_far) - 1)  # the last was never read
        self.assertNotIn("token_ids", self.complete()["choices"][0])

    def test_bias_and_stop(self):
        free = self.complete()["choices"][0]["text"]
        first = self.complete(logprobs=0, max_tokens=1)["choices"][0]["logprobs"]["tokens"][0]
        ids = self.post("/tokenize", content=first.strip()).json["tokens"]
        barred = self.complete(logit_bias={str(ids[0]): -100})["choices"][0]["text"]
        self.assertNotEqual(free, barred)
        word = free.split()[2]
        c = self.complete(stop=["never said", word])["choices"][0]
        self.assertEqual(c["finish_reason"], "stop")
        self.assertEqual(c["text"], free[:free.index(word)])

    def test_stream(self):
        whole = self.complete(max_tokens=12)["choices"][0]["text"]
        r = self.post("/v1/completions", prompt=PROMPT, temperature=0, max_tokens=12, stream=True,
                      stream_options={"include_usage": True})
        self.assertTrue(r.headers["Content-Type"].startswith("text/event-stream"))
        self.assertEqual(r.events[-1], "[DONE]")
        chunks = r.chunks
        self.assertEqual("".join(c["choices"][0]["text"] for c in chunks if c["choices"]), whole)
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 12)
        self.assertTrue(all(c["usage"] is None for c in chunks[:-1]))
        plain = self.post("/v1/completions", prompt=PROMPT, max_tokens=2, stream=True, echo=True)
        self.assertTrue(plain.chunks[0]["choices"][0]["text"] == PROMPT and "usage" not in plain.chunks[0])

    def test_constraints(self):
        c = self.complete(prompt="The year", regex="(19|20)[0-9]{2}", max_tokens=20)["choices"][0]
        self.assertRegex(c["text"], r"^(19|20)\d\d$")
        self.assertEqual(c["finish_reason"], "stop")
        c = self.complete(grammar='root ::= "yes" | "no"', n=3, temperature=1, max_tokens=20)["choices"]
        self.assertTrue(all(x["text"] in ("yes", "no") for x in c), c)
        self.refused("/v1/completions", 400, "regex", prompt="a", regex="[0-9")
        self.refused("/v1/completions", 400, "grammar", prompt="a", grammar="root := x")
        self.refused("/v1/completions", 400, "regex", prompt="a", regex="a", grammar='root ::= "a"')

    def test_refused(self):
        cases = {"n": 10**9, "logprobs": 10**6, "max_tokens": -5, "temperature": -1, "top_p": 1.5, "seed": "x",
                 "stop": 5, "echo": 1, "stream": "yes", "presence_penalty": 3, "suffix": "x", "best_of": 7, "top_k": -9,
                 "min_p": 2, "repeat_penalty": 0, "user": 1, "response_format": "json", "logit_bias": {"99999": 1}}
        for field, value in cases.items():
            self.refused("/v1/completions", 400, field, **{"prompt": "a", field: value})
        self.refused("/v1/completions", 400, "prompt")
        self.refused("/v1/completions", 400, "prompt", prompt=[4096])
        self.refused("/v1/completions", 400, "prompt[1]", prompt=[[1], [5000]])
        self.refused("/v1/completions", 400, "stop", prompt="a", stop=["x"] * 1000)
        self.refused("/v1/completions", 404, "model", prompt="a", model="gpt-4")
        self.refused("/v1/completions", 404, "model", prompt="a", model="é" * 200)
        self.refused("/v1/completions", 404, "state", prompt="a", state="../../etc/passwd")
        r = self.ask("POST", "/v1/completions", {"prompt": "word " * 2000})
        self.assertEqual(r.status, 400)
        for body in ("", "{", "[]", '"x"', '{"prompt": NaN}', '{"prompt": "\\ud800"}', '{"n": 1e999}', "[" * 5000,
                     '{"n": 99999999999999999999999}', '{"prompt": "a", "temperature": NaN}', "\xff"):
            r = self.ask("POST", "/v1/completions", body)
            self.assertTrue(400 <= r.status < 500, (body, r.status))
            self.assertIn("message", r.json["error"])
        self.assertEqual(self.complete()["choices"][0]["finish_reason"], "length")  # it is still there


class Chat(Served):
    def chat(self, **body):
        return self.post("/v1/chat/completions", **{"messages": CHAT, "max_tokens": 6, "seed": 1, **body}).json

    def test_shape(self):
        r = self.chat(logprobs=True, top_logprobs=2)
        c = r["choices"][0]
        self.assertEqual(r["object"], "chat.completion")
        self.assertEqual(c["message"]["role"], "assistant")
        entries = c["logprobs"]["content"]
        self.assertEqual(len(entries), 6)
        for e in entries:
            self.assertEqual(bytes(e["bytes"]).decode(), e["token"])
            self.assertEqual(len(e["top_logprobs"]), 2)
            self.assertGreaterEqual(e["top_logprobs"][0]["logprob"], e["top_logprobs"][1]["logprob"])
        text = "".join(e["token"] for e in entries)
        self.assertIn(c["message"]["content"], (text, text[1:]))
        self.assertIsNone(self.chat()["choices"][0]["logprobs"])

    def test_parts_and_nulls(self):
        parts = [{"role": "user", "content": [{"type": "text", "text": "Tell me of "}, {"type": "text",
                                                                                         "text": "the king."}]}]
        self.assertEqual(self.chat(messages=parts)["choices"][0]["message"], self.chat()["choices"][0]["message"])
        self.chat(n=None, stop=None, tools=None, response_format={"type": "text"}, unknown={"a": 1}, metadata={"b": 2})

    def test_stream(self):
        whole = self.chat(n=2, max_tokens=16)["choices"]
        r = self.post("/v1/chat/completions", messages=CHAT, seed=1, n=2, max_tokens=16, stream=True,
                      stream_options={"include_usage": True}, return_progress=True)
        texts, ends, roles = ["", ""], [None, None], [0, 0]
        progress = [c["prompt_progress"] for c in r.chunks if "prompt_progress" in c]
        for chunk in r.chunks:
            for c in chunk["choices"]:
                self.assertIsNone(ends[c["index"]])
                texts[c["index"]] += c["delta"].get("content") or ""
                roles[c["index"]] += "role" in c["delta"]
                ends[c["index"]] = c["finish_reason"]
        self.assertEqual(texts, [c["message"]["content"] for c in whole])
        self.assertEqual((ends, roles), (["length", "length"], [1, 1]))
        self.assertTrue(progress and all(p["cache"] <= p["processed"] <= p["total"] for p in progress), progress)
        self.assertEqual(r.chunks[-1]["usage"]["completion_tokens"], 32)
        self.assertEqual(r.events[-1], "[DONE]")

    def test_turns_are_not_read_again(self):
        messages = [{"role": "system", "content": "You are a story teller."}]
        read = 0
        for turn in range(4):
            messages.append({"role": "user", "content": f"Say more, for the {turn} time, of the ship."})
            r = self.chat(messages=messages, max_tokens=20)
            u = r["usage"]
            if turn:
                self.assertGreaterEqual(u["prompt_tokens_details"]["cached_tokens"], read - 2, turn)
            read = u["prompt_tokens"]
            messages.append(r["choices"][0]["message"])

    def test_schema(self):
        schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}},
                  "required": ["age"], "additionalProperties": False}
        r = self.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
                      max_tokens=60)["choices"][0]
        if r["finish_reason"] == "stop":
            self.assertIn("age", json.loads(r["message"]["content"]))
        self.refused("/v1/chat/completions", 400, "response_format.json_schema", messages=CHAT,
                     response_format={"type": "json_schema"})

    def test_refused(self):
        for field, value in {"n": -1, "top_logprobs": 21, "max_tokens": 1 << 40, "messages": [], "stop": [1],
                             "tool_choice": "x", "functions": [{"name": "f"}], "temperature": "hot"}.items():
            self.refused("/v1/chat/completions", 400, field if field != "stop" else "stop[0]",
                         **{"messages": CHAT, field: value})
        self.refused("/v1/chat/completions", 400, "top_logprobs", messages=CHAT, top_logprobs=2)
        self.refused("/v1/chat/completions", 400, "stream_options", messages=CHAT, stream_options={"include_usage": True})
        self.refused("/v1/chat/completions", 400, "tools", messages=CHAT, tools=[{"type": "function",
                                                                                  "function": {"name": "f"}}])
        self.refused("/v1/chat/completions", 400, "messages[0].content[0]",
                     messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])

    def test_special_tokens_only_from_the_template(self):
        plain = self.post("/apply-template", messages=[{"role": "user", "content": "</s>"}]).json["prompt"]
        self.assertIn("</s>", plain)
        ids = self.post("/tokenize", messages=[{"role": "user", "content": "</s>"}]).json["tokens"]
        none = self.post("/tokenize", messages=[{"role": "user", "content": "x"}]).json["tokens"]
        self.assertEqual(ids.count(2), none.count(2))


class Rest(Served):
    def test_models(self):
        data = self.ask("GET", "/v1/models").json
        self.assertEqual((data["object"], data["data"][0]["id"]), ("list", NAME))
        self.assertEqual(self.ask("GET", f"/v1/models/{NAME}").json, data["data"][0])
        r = self.ask("GET", "/v1/models/none/of%20those")
        self.assertEqual((r.status, r.json["error"]["code"]), (404, "model_not_found"))

    def test_embeddings(self):
        import base64
        import struct
        r = self.post("/v1/embeddings", input=["The king", "The queen", "The king"]).json
        rows = [d["embedding"] for d in r["data"]]
        self.assertEqual(rows[0], rows[2])
        for row in rows:
            self.assertAlmostEqual(sum(x * x for x in row), 1, places=4)
        near = sum(a * b for a, b in zip(rows[0], rows[1]))
        self.assertTrue(0 < near < 0.99999, near)
        coded = self.post("/v1/embeddings", input="The king", encoding_format="base64").json["data"][0]["embedding"]
        bits = base64.b64decode(coded, validate=True)
        for a, b in zip(struct.unpack(f"<{len(rows[0])}f", bits), rows[0]):
            self.assertAlmostEqual(a, b, places=5)
        self.assertEqual(self.post("/api/embed", model=NAME, input="The king").json["embeddings"][0][:4],
                         self.post("/api/embed", model=NAME, input=["The king"]).json["embeddings"][0][:4])
        self.refused("/v1/embeddings", 400, "dimensions", input="a", dimensions=3)
        self.refused("/v1/embeddings", 400, "input")

    def test_tokens(self):
        text = "Grüße, 世界!\n"
        r = self.post("/tokenize", prompt=text, return_token_strs=True).json
        self.assertEqual(r["count"], len(r["tokens"]))
        self.assertEqual(len(r["token_strs"]), r["count"])
        self.assertEqual(self.post("/detokenize", tokens=r["tokens"], skip_special_tokens=True).json["prompt"], text)
        pieces = self.post("/tokenize", content="Once", with_pieces=True).json["tokens"]
        self.assertEqual(set(pieces[0]), {"id", "piece"})
        self.refused("/detokenize", 400, "tokens", tokens=[4096])
        self.refused("/detokenize", 400, "tokens[0]", tokens=[-1])
        self.refused("/tokenize", 400, "prompt")
        info = self.ask("GET", "/tokenizer_info").json
        self.assertEqual((info["bos_token"], info["eos_token"], info["eos_token_id"]), ("<s>", "</s>", 2))

    def test_states(self):
        whole = self.post("/v1/completions", prompt=PROMPT, temperature=0, max_tokens=6).json["choices"][0]["text"]
        ids = self.post("/tokenize", prompt=PROMPT).json["tokens"]
        made = self.post("/v1/states", prompt=ids[:-3])
        self.assertEqual(made.status, 201)
        made = made.json
        self.assertEqual((made["object"], made["n_tokens"]), ("state", len(ids) - 3))
        state = made["id"]
        fork = self.post("/v1/states", **{"from": state}).json["id"]
        self.assertNotEqual(fork, state)
        data = self.ask("GET", f"/v1/states/{state}")
        self.assertEqual((data.status, data.headers["Content-Type"]), (200, "application/octet-stream"))
        taken = self.ask("PUT", "/v1/states", data.data, Content_Type="application/octet-stream")
        self.assertEqual(taken.status, 201, taken.data)
        given = "0123456789abcdef" * 2
        for status in (201, 200):
            put = self.ask("PUT", f"/v1/states/{given}", data.data, Content_Type="application/octet-stream")
            self.assertEqual((put.status, put.json["id"], put.json["n_tokens"]), (status, given, len(ids) - 3))
        for bad in ("x", given[:-1], given.upper(), "..%2f" + given):
            put = self.ask("PUT", f"/v1/states/{bad}", data.data, Content_Type="application/octet-stream")
            self.assertEqual((put.status, put.json["error"]["param"]), (400, "id"))
        self.assertEqual(self.ask("PUT", f"/v1/states/{given}", b"x", Content_Type="x/y").status, 422)
        for one in (state, fork, taken.json["id"], given):
            for rest in (ids, ids[-3:]):  # all of it, or only what is new
                r = self.post("/v1/completions", prompt=rest, state=one, temperature=0, max_tokens=6).json
                self.assertEqual(r["choices"][0]["text"], whole)
        listed = [s["id"] for s in self.ask("GET", "/v1/states").json["data"]]
        self.assertTrue({state, fork, taken.json["id"], given} <= set(listed))
        for one in (state, fork, taken.json["id"], given):
            self.assertTrue(self.ask("DELETE", f"/v1/states/{one}").json["deleted"])
            self.assertEqual(self.ask("GET", f"/v1/states/{one}").status, 404)
        broken = bytearray(data.data)
        broken[len(broken) // 2] ^= 1
        for bad in (b"", b"x", bytes(broken), data.data[:-5]):
            r = self.ask("PUT", "/v1/states", bad, Content_Type="application/octet-stream")
            self.assertTrue(400 <= r.status < 500, r.data)
        for path in ("/v1/states/..%2f..%2fetc%2fpasswd", "/v1/states/x"):
            self.assertEqual(self.ask("GET", path).status, 404)
        kept = self.post("/v1/chat/completions", messages=CHAT, max_tokens=4, keep_state=True).json["choices"][0]
        self.assertEqual(self.ask("DELETE", f"/v1/states/{kept['state']}").status, 200)
        self.refused("/v1/states", 404, "id", **{"from": "none"})
        self.refused("/v1/states", 400, "prompt")

    def test_openapi(self):
        doc = self.ask("GET", "/openapi.json").json
        self.assertEqual(doc["openapi"], "3.1.0")
        for path in ("/v1/chat/completions", "/v1/completions", "/api/chat", "/v1/states/{id}", "/tokenize"):
            self.assertIn(path, doc["paths"])
        text = json.dumps(doc)
        for name in {p.split('"')[0] for p in text.split('"$ref": "#/components/schemas/')[1:]}:
            self.assertIn(name, doc["components"]["schemas"])
        # what the document bounds is refused beyond the bound, and taken at it
        fields = doc["components"]["schemas"]["createCompletion"]["properties"]
        for name, field in fields.items():
            kinds = [k for k in field.get("anyOf", []) if k.get("type") in ("integer", "number") and "maximum" in k]
            for kind in kinds:
                beyond = kind["maximum"] * 2 + 1
                self.refused("/v1/completions", 400, name, prompt="a", **{name: beyond})


class Ollama(Served):
    def test_generate(self):
        options = {"num_predict": 6, "seed": 5, "temperature": 0.5}
        r = self.post("/api/generate", model=NAME, prompt="Once", options=options)
        self.assertTrue(r.headers["Content-Type"].startswith("application/x-ndjson"))
        lines = r.lines
        self.assertTrue(all(not x["done"] for x in lines[:-1]) and lines[-1]["done"])
        last = lines[-1]
        self.assertEqual((last["done_reason"], last["eval_count"]), ("length", 6))
        for key in ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_duration"):
            self.assertIsInstance(last[key], int)
        whole = self.post("/api/generate", model=NAME, prompt="Once", options=options, stream=False).json
        self.assertEqual(whole["response"], "".join(x["response"] for x in lines))
        self.assertEqual(whole["context"], last["context"])
        more = self.post("/api/generate", model=NAME, prompt="And then?", context=whole["context"], options=options,
                         stream=False).json
        self.assertEqual(more["context"][:len(whole["context"])], whole["context"])
        self.assertGreaterEqual(more["prompt_eval_cached_count"], len(whole["context"]) - 2)
        raw = self.post("/api/generate", model=NAME, prompt="Once upon", raw=True, stream=False,
                        options={"temperature": 0, "num_predict": 3, "repeat_penalty": 1}).json
        want = self.post("/v1/completions", prompt="Once upon", temperature=0, max_tokens=3).json["choices"][0]["text"]
        self.assertEqual(raw["response"], want)
        self.assertNotIn("context", raw)

    def test_chat(self):
        body = {"model": NAME + ":latest", "messages": CHAT, "options": {"num_predict": 5, "seed": 2}}
        lines = self.post("/api/chat", **body).lines
        whole = self.post("/api/chat", stream=False, **body).json
        self.assertEqual("".join(x["message"]["content"] for x in lines), whole["message"]["content"])
        self.assertEqual(whole["message"]["role"], "assistant")
        self.assertEqual(self.post("/api/chat", model=NAME, messages=[]).json["done_reason"], "load")
        self.assertEqual(self.post("/api/generate", model=NAME, keep_alive=0).json["done_reason"], "unload")
        r = self.post("/api/chat", **{**body, "stream": False, "format": {"enum": ["yes", "no"]},
                                      "options": {"num_predict": 20}}).json
        self.assertIn(json.loads(r["message"]["content"]), ("yes", "no"))

    def test_refused(self):
        self.refused("/api/chat", 404, "model", model="none", messages=CHAT)
        self.refused("/api/chat", 400, "model", messages=CHAT)
        self.refused("/api/generate", 400, "template", model=NAME, prompt="a", template="b")
        self.refused("/api/generate", 400, "options.num_ctx", model=NAME, prompt="a", options={"num_ctx": 3})
        self.refused("/api/generate", 400, "options.temperature", model=NAME, prompt="a", options={"temperature": -1})
        self.refused("/api/chat", 400, "messages[0].images", model=NAME, messages=[{**CHAT[0], "images": ["aa"]}])
        self.refused("/api/chat", 400, "tools", model=NAME, messages=CHAT, tools=[{"function": {"name": "f"}}])
        self.refused("/api/embed", 400, "input", model=NAME)
        r = self.ask("POST", "/api/chat", "{")
        self.assertEqual((r.status, list(r.json)), (400, ["error"]))

    def test_rest(self):
        self.assertEqual(self.ask("GET", "/api/tags").json["models"][0]["name"], NAME)
        self.assertEqual(self.ask("GET", "/api/ps").json["models"][0]["name"], NAME)
        self.assertRegex(self.ask("GET", "/api/version").json["version"], r"^\d+\.\d+\.\d+$")
        shown = self.post("/api/show", model=NAME).json
        self.assertIn("completion", shown["capabilities"])
        self.assertEqual(shown["details"]["family"], "zamba2")
        self.assertEqual(len(self.post("/api/embed", model=NAME, input=["a", "b"]).json["embeddings"]), 2)
        self.assertEqual(self.post("/api/embed", model=NAME, input=[]).json["embeddings"], [])
        self.assertGreater(len(self.post("/api/embeddings", model=NAME, prompt="a").json["embedding"]), 8)


TEMPLATE = """{% if tools %}{{ bos_token }}tools
{% for t in tools %}{{ t.function.name }} {% endfor %}{% endif %}{% for m in messages %}{{ bos_token + m.role }}
{{ m.content }}{% for c in m.tool_calls | default([]) %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant
{% endif %}"""
CALL = 'root ::= "Well " "<tool_call>{\\"name\\": \\"f\\", \\"arguments\\": {\\"a\\": 1}}</tool_call>"'


@unittest.skipIf(os.environ.get("ZAMBA_API_URL"), "wants a model of its own")
class Tools(Served):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = Path(cls.folder.name) / NAME
        cls.model.mkdir()
        for file in MODEL.iterdir():
            (cls.model / file.name).symlink_to(file)
        (cls.model / "chat_template.jinja").write_text(TEMPLATE)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def test_calls(self):
        body = {"messages": CHAT, "tools": self.tools, "grammar": CALL, "max_tokens": 200}
        c = self.post("/v1/chat/completions", **body).json["choices"][0]
        self.assertEqual(c["finish_reason"], "tool_calls")
        self.assertEqual(c["message"]["content"], "Well")
        call = c["message"]["tool_calls"][0]
        self.assertEqual((call["type"], call["function"]["name"]), ("function", "f"))
        self.assertEqual(json.loads(call["function"]["arguments"]), {"a": 1})
        text, calls = "", []
        for chunk in self.post("/v1/chat/completions", stream=True, **body).chunks:
            delta = chunk["choices"][0]["delta"]
            text += delta.get("content") or ""
            calls += delta.get("tool_calls", [])
        self.assertEqual((text.strip(), len(calls), calls[0]["index"]), ("Well", 1, 0))
        answered = CHAT + [{"role": "assistant", "content": None, "tool_calls": [call]},
                           {"role": "tool", "tool_call_id": call["id"], "content": "2"}]
        prompt = self.post("/apply-template", messages=answered, tools=self.tools).json["prompt"]
        self.assertIn('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', prompt)
        shown = self.post("/api/show", model=NAME).json
        self.assertIn("tools", shown["capabilities"])
        free = self.post("/v1/chat/completions", **{**body, "tools": None}).json["choices"][0]
        self.assertIn("<tool_call>", free["message"]["content"])

    def test_calls_that_are_wanted(self):
        place = {"type": "object", "properties": {"where": {"$ref": "#/$defs/place"}}, "required": ["where"],
                 "$defs": {"place": {"enum": ["here", "there"]}}}
        tools = [{"type": "function", "function": {"name": "go", "parameters": place}},
                 {"type": "function", "function": {"name": "stay \"put\""}},
                 {"type": "function", "function": {"name": "wait", "parameters": {
                     "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 7}}, "required": ["days"]}}}]
        body = {"messages": CHAT, "tools": tools, "max_tokens": 80, "temperature": 1}
        c = self.post("/v1/chat/completions", seed=1, **body, tool_choice={
            "type": "function", "function": {"name": "go"}}).json["choices"][0]
        self.assertEqual((c["finish_reason"], c["message"]["content"]), ("tool_calls", None))
        call, = c["message"]["tool_calls"]
        self.assertEqual(call["function"]["name"], "go")
        self.assertIn(json.loads(call["function"]["arguments"])["where"], ("here", "there"))
        body["tools"] = [tools[0], tools[2]]
        r = self.post("/v1/chat/completions", seed=1, stream=True, tool_choice="required", **body)
        calls = [call for c in r.chunks for call in c["choices"][0]["delta"].get("tool_calls", [])]
        self.assertGreaterEqual(len(calls), 1)
        self.assertLessEqual({c["function"]["name"] for c in calls}, {"go", "wait"})
        self.refused("/v1/chat/completions", 400, "tool_choice", **body, tool_choice={
            "type": "function", "function": {"name": "fly"}})
        self.refused("/v1/chat/completions", 400, "tool_choice", messages=CHAT, tool_choice="required")
        self.refused("/v1/chat/completions", 400, "tool_choice", **body, tool_choice="required", regex="a")
        body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]
        self.assertIn("not", self.refused("/v1/chat/completions", 400, "tool_choice", **body,
                                          tool_choice="required").json["error"]["message"])


class WithoutTokenizer(Served):
    """Ids in, ids out: nothing has a text."""
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = Path(cls.folder.name) / "mute"
        cls.model.mkdir()
        for path in MODEL.iterdir():
            if "token" not in path.name:
                (cls.model / path.name).symlink_to(path)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def test_completions(self):
        ids = [1, 300, 400, 500]
        for more in ({}, {"logprobs": 0}, {"logprobs": 3, "echo": True}, {"logprobs": 0, "stream": True}):
            r = self.post("/v1/completions", prompt=ids, max_tokens=4, ignore_eos=True, **more)
            choices = [c["choices"][0] for c in r.chunks if c["choices"]] if more.get("stream") else [r.json["choices"][0]]
            self.assertEqual("".join(c["text"] for c in choices), "")
            if more:
                n = sum(len(c["logprobs"]["tokens"]) for c in choices if c["logprobs"])
                self.assertEqual(n, 8 if more.get("echo") else 4)
        self.refused("/v1/completions", 400, "prompt", prompt="Once")
        self.assertEqual(self.ask("POST", "/tokenize", {"prompt": "Once"}).status, 400)


if __name__ == "__main__":
    unittest.main()
