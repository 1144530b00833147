"""Random texts that grammars allow, against Python's own json and re: every text that ends is valid under its schema,
and not all texts are alike."""

import json
import os
import re
import subprocess
import sys

BUILD = os.environ.get("ZAMBA_BUILD", "build")
TOOL = os.path.join(BUILD, "tests", "grammar_tool")
TOKENIZER = "tests/tok/fixtures/base_tokenizer.json"


def fits(schema, value, root):
    """Is the value valid? Of JSON Schema, what the cases below use."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        at = root
        for part in schema["$ref"][1:].split("/")[1:]:
            at = at[part]
        if not fits(at, value, root):
            return False
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    kinds = {"object": isinstance(value, dict), "array": isinstance(value, list), "string": isinstance(value, str),
             "number": number, "integer": number and float(value).is_integer(), "boolean": isinstance(value, bool),
             "null": value is None}
    kind = schema.get("type")
    if kind is not None and not any(kinds[k] for k in ([kind] if isinstance(kind, str) else kind)):
        return False
    same = lambda a, b: json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    if "enum" in schema and not any(same(v, value) for v in schema["enum"]):
        return False
    if "const" in schema and not same(schema["const"], value):
        return False
    if "anyOf" in schema and not any(fits(s, value, root) for s in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(s, value, root) for s in schema["oneOf"]) != 1:
        return False
    if not all(fits(s, value, root) for s in schema.get("allOf", [])):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if any(k not in value for k in schema.get("required", [])):
            return False
        if any(k in value and not fits(s, value[k], root) for k, s in known.items()):
            return False
        other = schema.get("additionalProperties", True)
        if any(k not in known and not fits(other, v, root) for k, v in value.items()):
            return False
        if len(value) < schema.get("minProperties", 0) or len(value) > schema.get("maxProperties", 1e9):
            return False
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        if not all(fits(s, v, root) for s, v in zip(first, value)):
            return False
        if not all(fits(schema.get("items", True), v, root) for v in value[len(first):]):
            return False
        if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", 1e9):
            return False
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0) or len(value) > schema.get("maxLength", 1e9):
            return False
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return False
        if "format" in schema and not re.fullmatch(FORMATS[schema["format"]], value):
            return False
    if number:
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            return False
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            return False
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            return False
    return True


FORMATS = {"date": r"\d{4}-\d\d-\d\d", "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
           "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "ipv4": r"\d{1,3}(\.\d{1,3}){3}",
           "email": r"[^@\s]+@[^@\s]+\.[a-z]+", "time": r"\d\d:\d\d:\d\d.*", "uri": r"\w[\w+.-]*://.+",
           "hostname": r"[a-z0-9.-]+", "ipv6": r"[0-9a-f:]+", "duration": r"P.+"}

S = {"type": "string", "maxLength": 8}
SCHEMAS = [
    {}, {"type": "object"}, {"type": "array", "items": {"type": "integer"}, "maxItems": 5}, {"type": "string"},
    {"type": "number"}, {"type": "integer"}, {"type": "boolean"}, {"type": "null"}, {"type": ["string", "null", "integer"]},
    {"type": "string", "minLength": 3, "maxLength": 5}, {"type": "string", "pattern": "^[a-z]{2,4}\"?\\\\?$"},
    {"type": "string", "pattern": "^.{0,3}b\\d"}, {"type": "string", "pattern": "^a|[\\t\\n]z$"}, {"enum": ["a", 1, None, 0.1, {"x": [1, "\""]}]},
    {"const": "quote \" and é"}, {"enum": ["a", 1, True], "type": "string"},
    {"type": "integer", "minimum": 7, "maximum": 131}, {"type": "integer", "minimum": -25, "maximum": 3},
    {"type": "integer", "exclusiveMinimum": -1000, "exclusiveMaximum": -998}, {"type": "integer", "minimum": 1.5, "maximum": 2.5},
    {"type": "integer", "minimum": 99}, {"type": "integer", "maximum": -1}, {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"type": "number", "minimum": -12, "exclusiveMaximum": 0},
    {"type": "number", "exclusiveMinimum": -3, "maximum": 20}, {"type": "number", "maximum": -5},
    {"type": "object", "properties": {"a": S, "b": {"type": "integer"}, "c": {"type": "boolean"}}, "required": ["b"]},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}},
    {"type": "object", "properties": {"a": S, "ab": S, "\"": S}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False},
    {"type": "object", "additionalProperties": S, "minProperties": 1, "maxProperties": 3},
    {"type": "object", "required": ["k"]}, {"type": "object", "additionalProperties": False},
    {"type": "array", "prefixItems": [S, {"type": "integer"}], "items": False},
    {"type": "array", "prefixItems": [S, {"type": "integer"}], "items": {"type": "null"}, "minItems": 1, "maxItems": 4},
    {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "boolean"}}, {"type": "array", "maxItems": 0},
    {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "boolean"}}]},
    {"type": "object", "properties": {"k": S}, "required": ["k"], "anyOf": [{"properties": {"n": {"type": "null"}}, "required": ["n"]},
                                                                         {"properties": {"m": {"type": "integer"}}}]},
    {"oneOf": [{"type": "object", "properties": {"t": {"const": "a"}, "x": S}, "required": ["t"]},
               {"type": "object", "properties": {"t": {"const": "b"}, "y": {"type": "integer"}}, "required": ["t", "y"]}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 12}]}, {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]},
    {"$defs": {"tree": {"type": "object", "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "maxItems": 2,
                        "items": {"$ref": "#/$defs/tree"}}}, "required": ["v"]}}, "$ref": "#/$defs/tree"},
    {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
    {"title": "Person", "description": "a person", "type": "object", "properties": {
        "name": {"type": "string", "title": "Name"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mail": {"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}], "default": None}},
     "required": ["name", "age"], "additionalProperties": False},
] + [{"type": "string", "format": name} for name in FORMATS]

REGEXES = [r"\d{3}-\d{4}", r"[a-z]{1,9}@[a-z]{1,9}\.(com|org)", r"(?:ja|nein)!?", r"\w{1,5}( \w{1,5}){0,3}", r"[^a-zA-Z\x00-\x20]{4}", r"\S{3}",
           r"[\u00e0-\u00ff]{2}", r"a{2,}b?", r"\D\W\t", r"[\]\-a]{3}", r"^(?P<x>a|b)$", r".{3}", r"[\w.-]{2,5}"]


def main():
    cases = [("json_schema", json.dumps(s), s) for s in SCHEMAS] + [("regex", r, r) for r in REGEXES] + [("json", "", {"type": "object"})]
    lines = "".join(json.dumps({"kind": k, "text": t, "n": 12, "seed": i + 1}) + "\n" for i, (k, t, _) in enumerate(cases))
    run = subprocess.run([TOOL, TOKENIZER], input=lines, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(cases), run.stderr
    bad = 0
    total = 0
    for (kind, text, what), answer in zip(cases, answers):
        texts = [t for t in answer.get("texts", []) if t is not None]
        total += len(texts)
        if not texts:
            print(f"{kind} {text}: no text that ended: {answer}")
            bad += 1
        for t in texts:
            try:
                ok = re.fullmatch(what, t, re.ASCII) is not None if kind == "regex" else fits(what, json.loads(t), what)
            except (ValueError, RecursionError) as why:
                ok, what = False, why
            if not ok:
                print(f"{kind} {text}: made {t!r} ({what})")
                bad += 1
    print(f"{len(cases)} grammars, {total} texts, {bad} wrong")
    return 1 if bad or total < 6 * len(cases) else 0


sys.exit(main())
