"""openapi_hooks.py — what schemathesis cannot make up by itself: names of models that are served, ids that the vocabulary
has, texts in the languages of grammars, the file of a state. Only cases that are to be valid are touched; those that are to be
refused stay as they are. test_openapi.py sets the environment."""
import json
import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

NAME, VOCABULARY = os.environ["ZAMBA_TEST_NAME"], int(os.environ["ZAMBA_TEST_VOCABULARY"])
STATE = Path(os.environ["ZAMBA_TEST_STATE"]).read_bytes()

schemathesis.openapi.media_type("application/octet-stream", st.just(STATE))


# What the document says in words only: several ways to bind an answer, and fields that mean nothing without another.
BOUND = ("response_format", "grammar", "regex", "json_schema", "guided_grammar", "guided_regex", "guided_json")
TEXTS = {"model": NAME, "grammar": 'root ::= "a" | "b"', "guided_grammar": 'root ::= "a"+', "regex": "[a-c]{1,5}",
         "guided_regex": "a|b", "pattern": "[0-9]+"}
IDS = ("prompt", "tokens", "input", "context")
READ = (*IDS, "content", "text", "system", "role", "name", "arguments")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


@schemathesis.hook
def before_call(context, case, kwargs):
    meta = case.meta
    if meta is None or meta.generation.mode != schemathesis.GenerationMode.POSITIVE:
        return
    if isinstance(case.body, dict):
        case.body = mended(case.body)
        agree(case.body)
        if case.path.endswith("/completions"):  # absent: until the context is full; here time is bounded
            case.body["max_tokens"] = 4 if not isinstance(case.body.get("max_tokens"), int) else case.body["max_tokens"]
        elif case.path in ("/api/chat", "/api/generate"):
            case.body["options"] = {**(case.body.get("options") or {}), "num_predict": 4}
    if case.path.startswith("/v1/models") and case.path_parameters:
        case.path_parameters["id"] = NAME
    if case.query and "model" in case.query:
        case.query["model"] = NAME


def mended(value, key=""):
    """The same without what JSON of 64-bit numbers and texts cannot say, and with words that mean something here."""
    if isinstance(value, dict):
        if key in ("schema", "json_schema", "guided_json", "format") and not ("schema" in value and key == "json_schema"):
            return SCHEMA
        if key == "logit_bias":
            return {str(int(k) % VOCABULARY): v for k, v in value.items()}
        return {k: mended(v, k) for k, v in value.items() if "\0" not in k}
    if isinstance(value, list):  # what is read has to fit the context
        return [mended(v, key) for v in (value[:40] if key in IDS else value[:3])]
    if isinstance(value, str):
        return TEXTS[key] if value and key in TEXTS else value[:40] if key in READ else value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if key in IDS:
            return int(value) % VOCABULARY
        return value if isinstance(value, float) or abs(value) < 2**63 else 0
    return value


def agree(body):
    for field in [f for f in BOUND if body.get(f) not in (None, "")][1:]:
        del body[field]
    kind = body.get("response_format")
    if isinstance(kind, dict):
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": SCHEMA}} if "json_schema" in kind else {
            "type": "json_object"}
    if body.get("top_logprobs"):
        body["logprobs"] = True
    if body.get("stream_options") is not None:
        body["stream"] = True
    if body.get("echo"):
        body["stream"] = False
        body.pop("stream_options", None)
    if body.get("add_special_tokens") is not True and "prompt" in body:  # then an empty text has no token at all
        body["add_special_tokens"] = True
    for field in ("tools", "tool_choice", "dimensions"):  # the model has no place for tools, and one width
        body.pop(field, None)
    for field in ("max_tokens", "max_completion_tokens", "n"):
        if isinstance(body.get(field), (int, float)) and not 0 <= body[field] <= 4:
            body[field] = 4
    if body.get("best_of") is not None:
        body["best_of"] = body.get("n") or 1
    options = body.get("options")
    if isinstance(options, dict):
        options.pop("num_ctx", None)


@schemathesis.deserializer("application/x-ndjson")
def lines(context, response):
    return [json.loads(line) for line in response.content.splitlines()]
