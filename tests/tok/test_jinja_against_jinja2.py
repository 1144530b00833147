#!/usr/bin/env python3
"""Compare the template interpreter with jinja2, set up as transformers sets it up.

    test_jinja_against_jinja2.py [--check]           jinja2, the fixture and TOOL agree on every case (the test)
    test_jinja_against_jinja2.py --write             write tests/tok/fixtures/jinja/cases.json from jinja2
    test_jinja_against_jinja2.py --random N [--seed S]   N random templates, jinja2 against TOOL

TOOL is jinja_tool of the build folder ($ZAMBA_BUILD), or --tool PATH. Exit code 77: nothing to compare with.
"""
import argparse
import copy
import datetime
import json
import os
import random
import subprocess
import sys
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

import jinja_cases
import jinja_chats

FIXTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "jinja", "cases.json")
VARS = {"bos_token": "<s>", "eos_token": "</s>"}


class Raised(jinja2.exceptions.TemplateError):
    pass


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

    def _body(self, caller):
        return caller()


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError("underscore")


def environment():
    def raise_exception(message):
        raise Raised(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.now().strftime(f)
    env.globals["dict"] = Dict()
    env.globals["namespace"] = Namespace
    return env


ENV = environment()


def expected(template, context):
    """{"text": ...}, {"raised": message} or {"error": what jinja2 says}."""
    try:
        return {"text": ENV.from_string(template).render(**copy.deepcopy(dict(VARS, **context)))}
    except Raised as e:
        return {"raised": str(e)}
    except Exception as e:  # whatever Python raises is an error of the template
        return {"error": type(e).__name__}


def all_cases():
    for i, e in enumerate(jinja_cases.EXPR):
        yield "expr-%d" % i, "{{ " + e + " }}", "values"
    for name, template in jinja_cases.BODY:
        yield name, template, "values"
    for name, template in jinja_chats.TEMPLATES.items():
        for chat in jinja_chats.CONVERSATIONS:
            yield "%s-%s" % (name, chat), template, chat


def fixture():
    contexts = dict(jinja_chats.CONVERSATIONS, values=jinja_cases.CHAT)
    cases = []
    for name, template, context in all_cases():
        case = {"name": name, "template": template, "context": context}
        want = expected(template, contexts[context])
        case.update({"error": True} if "error" in want else want)  # the name of the error depends on Python
        cases.append(case)
    return {"vars": VARS, "contexts": contexts, "cases": cases}


def dump(data):
    """One case per line."""
    lines = ["{", ' "vars": %s,' % json.dumps(data["vars"]), ' "contexts": {']
    lines.append(",\n".join("  %s: %s" % (json.dumps(k), json.dumps(v)) for k, v in data["contexts"].items()))
    lines += [" },", ' "cases": [']
    lines.append(",\n".join("  " + json.dumps(c) for c in data["cases"]))
    return "\n".join(lines) + "\n ]\n}\n"


def run_tool(tool, requests):
    data = "".join(json.dumps(r) + "\n" for r in requests)
    out = subprocess.run([tool], input=data.encode(), stdout=subprocess.PIPE, check=True).stdout.decode()
    return [json.loads(line) for line in out.split("\n") if line]


def differs(want, got):
    if "text" in want:
        return got.get("text") != want["text"]
    if "raised" in want:
        return got.get("error") != "E_ARG" or not got["message"].endswith(want["raised"])
    return got.get("error") not in ("E_FORMAT", "E_UNSUPPORTED")


def show(template, want, got):
    print("template: %r\n  jinja2: %s\n  here:   %s" % (template, json.dumps(want), json.dumps({k: v for k, v in got.items() if k != "trusted"})))


def check(tool):
    made = fixture()
    bad = 0
    with open(FIXTURE, encoding="utf-8") as f:
        kept = json.load(f)
    if json.loads(json.dumps(made)) != kept:
        for a, b in zip(made["cases"], kept["cases"]):
            if a != b:
                print("the fixture has %r, jinja2 %s gives %r" % (b, jinja2.__version__, a))
                break
        print("%s is not what jinja2 gives: run this script without --check" % FIXTURE)
        bad += 1
    requests = [{"template": c["template"], "context": made["contexts"][c["context"]], "vars": VARS} for c in made["cases"]]
    for case, got in zip(made["cases"], run_tool(tool, requests)):
        if differs(case, got):
            bad += 1
            show(case["template"], {k: case[k] for k in case if k in ("text", "raised", "error")}, got)
    print("%d cases, %d differ" % (len(requests), bad))
    return bad == 0


WORKING = []


def random_template(rng):
    """Pieces of the table put together: mostly valid, sometimes not."""
    if not WORKING:
        WORKING.extend(e for e in jinja_cases.EXPR if "text" in expected("{{ " + e + " }}", jinja_cases.CHAT))

    def expression(depth=0):
        pick = rng.random()
        e = rng.choice(WORKING if rng.random() < 0.99 else jinja_cases.EXPR)
        if depth > 2 or pick < 0.4:
            return "(" + e + ")" if rng.random() < 0.7 else e
        if pick < 0.55:
            return "%s %s %s" % (expression(depth + 1), rng.choice(["+", "-", "*", "//", "/", "%", "~", "==", "<", "in", "and", "or", "is sameas", "not in"]), expression(depth + 1))
        if pick < 0.75:
            f = rng.choice(["upper", "lower", "title", "capitalize", "trim", "length", "list", "string", "tojson", "first", "last", "join(',')", "sort", "reverse", "int", "float", "default('x')", "unique|list", "map('string')|list", "replace('a','<')", "indent", "wordcount", "abs", "round", "max", "min", "sum", "items|list", "dictsort", "batch(2)|list", "select|list", "e", "safe"])
            return "(%s)|%s" % (expression(depth + 1), f)
        if pick < 0.85:
            return "(%s)%s" % (expression(depth + 1), rng.choice(["[0]", "[-1]", "[1:]", "[::-1]", ".x", ".strip()", ".split()", ".items()", "['a']", ".upper()", "[:2]"]))
        if pick < 0.93:
            return "(%s) is %s" % (expression(depth + 1), rng.choice(["string", "number", "mapping", "sequence", "iterable", "defined", "none", "odd", "upper", "lower", "true", "boolean"]))
        return "[%s, %s]" % (expression(depth + 1), expression(depth + 1))

    def block(depth=0):
        pick = rng.random()
        space = lambda: rng.choice(["", "", " ", "\n", "  \n ", "\n\n"])
        sign = lambda: rng.choice(["", "", "", "-", "+"])
        if depth > 2 or pick < 0.3:
            return space() + "{{%s %s %s}}" % (rng.choice(["", "-"]), expression(1), rng.choice(["", "-"])) + space()
        if pick < 0.45:
            return space() + "{%%%s if %s %s%%}%s{%%%s else %s%%}%s{%%%s endif %s%%}" % (sign(), expression(1), sign(), block(depth + 1), sign(), sign(), block(depth + 1), sign(), sign()) + space()
        if pick < 0.6:
            return space() + "{%%%s for i in %s %s%%}%s{{ i }}{{ loop.index }}{{ loop.last }}%s{%%%s endfor %s%%}" % (sign(), rng.choice(["nums", "words", "d", "people", "s", "messages", expression(1)]), sign(), space(), block(depth + 1), sign(), sign()) + space()
        if pick < 0.7:
            return "{%% set v = %s %%}%s{{ v }}" % (expression(1), space())
        if pick < 0.8:
            return rng.choice(jinja_cases.BODY)[1]
        if pick < 0.85:
            return "{%%%s filter %s %s%%}%s{%% endfilter %%}" % (sign(), rng.choice(["upper", "trim", "indent", "title", "e"]), sign(), block(depth + 1))
        if pick < 0.9:
            return "%s{#%s x %s#}%s" % (space(), sign(), sign(), space())
        return block(depth + 1) + space() + block(depth + 1)

    return "".join(block() for _ in range(rng.randint(1, 3)))


def against_random(tool, n, seed):
    rng = random.Random(seed)
    templates = [random_template(rng) for _ in range(n)]
    got = run_tool(tool, [{"template": t, "context": jinja_cases.CHAT, "vars": VARS} for t in templates])
    bad = unsupported = texts = 0
    for t, g in zip(templates, got):
        want = expected(t, jinja_cases.CHAT)
        if "text" in want and (" at 0x" in want["text"].lower() or " object>" in g.get("text", "").lower()):
            continue  # addresses
        if "cannot be sliced" in g.get("message", "") or want.get("error") == "NameError":
            continue  # jinja2 folds constants: a slice of a number is undefined then, and -inf a name
        texts += "text" in want
        if g.get("error") == "E_UNSUPPORTED":
            unsupported += 1
        elif differs(want, g):
            bad += 1
            show(t, want, g)
    print("%d random templates, %d of them with text, %d unsupported, %d differ" % (n, texts, unsupported, bad))
    return bad == 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tool", default=os.path.join(os.environ.get("ZAMBA_BUILD", "build/release"), "tests", "jinja_tool"))
    p.add_argument("--check", action="store_true")
    p.add_argument("--write", action="store_true")
    p.add_argument("--random", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    warnings.simplefilter("ignore")  # what Python says of the code that jinja2 makes
    if a.write:
        with open(FIXTURE, "w", encoding="utf-8") as f:
            f.write(dump(fixture()))
        return 0
    if not os.access(a.tool, os.X_OK):
        print("%s is not there: build the tests first" % a.tool)
        return 77
    if a.random:
        return 0 if against_random(a.tool, a.random, a.seed) else 1
    return 0 if check(a.tool) and against_random(a.tool, 300, a.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
