#!/usr/bin/env python3
"""test_cli_serve.py — `zamba serve` as a program: its ready line, keys, refusals, signals. ZAMBA_PROGRAM names the program;
what it answers is tested in tests/server."""
import http.client
import json
import os
import re
import signal
import subprocess
import time
import unittest

from program import MODEL, PROGRAM, ROOT, TIMEOUT, Case, environment, run

if "no server" in run("serve", "--port", "0", "--host", "0.0.0.0").err:
    print("skipped: this build has no server")
    raise SystemExit(77)


class Serve:
    def __init__(self, *args):
        self.process = subprocess.Popen([PROGRAM, "serve", MODEL, "--port", "0", "--cache-ram", "16", *map(str, args)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=ROOT, text=True)
        self.ready = self.process.stdout.readline()
        self.port = int(re.search(r"http://[^:]+:(\d+)", self.ready).group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.code = self.process.wait(timeout=TIMEOUT)
        self.err = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()

    def open(self, method, path, body=None, **headers):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        c.request(method, path, json.dumps(body) if body is not None else None,
                  {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}})
        return c, c.getresponse()

    def ask(self, *args, **headers):
        c, r = self.open(*args, **headers)
        data = r.read()
        c.close()
        return r.status, data


ENDLESS = {"prompt": "Once", "max_tokens": 450, "ignore_eos": True, "stream": True}


class Program(Case):
    def test_ready_answers_and_ends(self):
        with Serve("--verbose") as s:
            self.assertRegex(s.ready, r"^listening on http://127\.0\.0\.1:\d+\n$")
            for path in ("/livez", "/readyz", "/health", "/version", "/props", "/v1/models", "/api/tags"):
                self.assertEqual(s.ask("GET", path)[0], 200, path)
            self.assertEqual(json.loads(s.ask("GET", "/props")[1])["model_alias"], MODEL.name)
            status, data = s.ask("POST", "/v1/completions", {"prompt": "A secret word", "max_tokens": 3})
            self.assertEqual(status, 200, data)
            text = s.ask("GET", "/metrics")[1].decode()
            self.assertIn(f'zamba_generated_tokens_total{{model="{MODEL.name}"}} 3\n', text)
            self.check_metrics(text)
        self.assertEqual(s.code, 0, s.err)
        self.assertIn("POST /v1/completions 200", s.err)
        self.assertNotIn("secret", s.err)

    def check_metrics(self, text):
        typed, seen = {}, set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.assertNotIn(name, typed)
                typed[name] = kind
            elif not line.startswith("#"):
                found = re.fullmatch(r'(zamba_\w+)(\{\w+="[^"]*"(?:,\w+="[^"]*")*\})? [-+0-9.e]+', line)
                self.assertTrue(found, line)
                self.assertNotIn(line.rsplit(" ", 1)[0], seen)
                seen.add(line.rsplit(" ", 1)[0])
                base = re.sub("_(bucket|sum|count)$", "", found.group(1))
                self.assertTrue(found.group(1) in typed or typed.get(base) == "histogram", line)

    def test_json_alias_and_keys_from_a_file(self):
        keys = self.file("keys", "# two\nanna  k1-secret\n\nk2-secret\n")
        os.chmod(keys, 0o600)
        with Serve("--json", "--alias", "m", "--api-key-file", keys, "--api-key", "k3", "--verbose") as s:
            told = json.loads(s.ready)
            self.assertEqual((told["model"], told["listening"], told["pid"]),
                             ("m", f"http://127.0.0.1:{told['port']}", s.process.pid))
            self.assertEqual(s.ask("GET", "/v1/models")[0], 401)
            self.assertEqual(s.ask("GET", "/metrics")[0], 401)
            self.assertEqual(s.ask("GET", "/health")[0], 200)
            for key in ("k1-secret", "k2-secret", "k3"):
                self.assertEqual(s.ask("GET", "/v1/models", Authorization="Bearer " + key)[0], 200)
        self.assertEqual(s.code, 0, s.err)
        self.assertIn("anna GET /v1/models", s.err)
        self.assertNotIn("secret", s.err)

    def test_refusals(self):
        bad = self.file("bad", "a b c\n")
        empty = self.file("empty", "# none\n")
        for args, word in ((["--host", "0.0.0.0"], "--api-key"), (["--api-key-file", bad], "line 1"),
                           (["--api-key-file", empty], "no key"), (["--api-key-file", self.folder / "none"], "No such file"),
                           (["--api-key", ""], "empty"), (["--api-key", "a", "--api-key", "a"], "same"),
                           (["--host", "no.such.host.invalid"], "no.such.host.invalid")):
            r = run("serve", MODEL, "--port", 0, *args)
            self.assertEqual((r.code, r.out), (1, ""), args)
            self.assertIn(word, r.err)
        with Serve() as s:
            r = run("serve", MODEL, "--port", s.port)
            self.assertEqual(r.code, 1)
            self.assertIn("in use", r.err)
        for args in (["--port", "70000"], ["--slots", "0"], ["--timeout", "-1"]):
            self.assertEqual(run("serve", MODEL, *args).code, 2)

    def test_drain(self):
        with Serve() as s:
            c, r = s.open("POST", "/v1/completions", ENDLESS)
            self.assertTrue(r.read(20))
            s.process.send_signal(signal.SIGTERM)
            rest = r.read()
            self.assertIn(b"[DONE]", rest)
            c.close()
            s.process.wait(timeout=TIMEOUT)
        self.assertEqual(s.code, 0, s.err)

    def test_a_drain_has_an_end(self):
        with Serve("--drain-seconds", "0") as s:
            c, r = s.open("POST", "/v1/completions", dict(ENDLESS, n=8))
            s.process.send_signal(signal.SIGINT)
            start = time.time()
            code = s.process.wait(timeout=TIMEOUT)
            self.assertEqual(code, 0)
            c.close()

    def test_a_second_signal_ends_at_once(self):
        with Serve("--drain-seconds", "1000", "--slots", "1", "--timeout", "0") as s:
            held = [s.open("POST", "/v1/completions", dict(ENDLESS, n=8))[0] for _ in range(4)]
            s.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            s.process.send_signal(signal.SIGINT)
            s.process.wait(timeout=TIMEOUT)
            for c in held:
                c.close()
        self.assertEqual(s.code, 128 + signal.SIGINT)


if __name__ == "__main__":
    unittest.main()
