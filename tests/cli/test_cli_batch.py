#!/usr/bin/env python3
"""test_cli_batch.py — `zamba batch`: answers in the input's order, errors in their lines, parts, and going on where a run
that was killed has stopped."""
import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, PROGRAM, ROOT, TIMEOUT, Case, environment, run  # noqa: E402


def request(custom_id, url="/v1/completions", method="POST", **body):
    return {"custom_id": custom_id, "method": method, "url": url, "body": body}


def story(i, n=12):
    return request(f"story-{i}", prompt=f"Once upon a time {i}", max_tokens=n, seed=i, temperature=0.7)


def answers(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def text(line):
    return line["response"]["body"]["choices"][0]["text"]


class Batch(Case):
    def setUp(self):
        super().setUp()
        if "no server" in run("batch", self.file("empty", "")).err:
            self.skipTest("built without the server's code")

    def write(self, requests, name="in.jsonl"):
        return self.file(name, "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests))

    def batch(self, requests, *options, name="out.jsonl"):
        out = self.folder / name
        result = run("batch", self.write(requests), MODEL, "-o", out, *options)
        return result, answers(out) if out.exists() else []

    def test_routes(self):
        result, got = self.batch([
            story(1), request("chat", "/v1/chat/completions", messages=[{"role": "user", "content": "Hello"}], max_tokens=4),
            request("vector", "/v1/embeddings", input=["one", "two"])], "--json")
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual([line["custom_id"] for line in got], ["story-1", "chat", "vector"])
        for line in got:
            self.assertEqual(set(line), {"id", "custom_id", "response", "error"})
            self.assertIsNone(line["error"])
            self.assertEqual(line["response"]["status_code"], 200)
            self.assertTrue(line["id"].startswith("batch_req-"))
        self.assertEqual(got[1]["response"]["body"]["choices"][0]["message"]["role"], "assistant")
        self.assertEqual(len(got[2]["response"]["body"]["data"]), 2)
        usage = [line["response"]["body"]["usage"] for line in got]
        summary = result.json
        self.assertEqual(summary["prompt_tokens"], sum(u["prompt_tokens"] for u in usage))
        self.assertEqual(summary["completion_tokens"], sum(u.get("completion_tokens", 0) for u in usage))
        self.assertEqual((summary["requests"], summary["answered"], summary["errors"]), (3, 3, 0))

    def test_same_as_run(self):
        _, got = self.batch([request("a", prompt="The little fox", max_tokens=20, temperature=0)])
        self.assertEqual(text(got[0]), run("run", MODEL, "-p", "The little fox", "--temp", "0", "-n", "20").out.rstrip("\n"))

    def test_order(self):
        """Long answers before short ones: each stands where it was asked, and is what it is alone."""
        requests = [story(i, 60 if i % 5 == 0 else 2 + i % 3) for i in range(60)]
        result, got = self.batch(requests, "--slots", "4")
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual([line["custom_id"] for line in got], [r["custom_id"] for r in requests])
        _, alone = self.batch(requests[10:12], "--slots", "1", name="alone.jsonl")
        self.assertEqual([text(line) for line in alone], [text(line) for line in got[10:12]])

    def test_errors(self):
        result, got = self.batch([
            story(0), "", "{bad", "[1]", story(0), request("", prompt="x"), request("get", method="GET"),
            request("url", "/v1/models"), {**request("body"), "body": 3}, request("stream", prompt="x", stream=True),
            request("model", model="another", prompt="x"), request("range", prompt="x", temperature=-1),
            request("none"), story(1)])
        self.assertEqual(result.code, 1)
        self.assertIn("11 of 13 requests have errors", result.err)
        self.assertEqual([line["error"] and line["error"]["code"] for line in got],
                         [None, "invalid_json_line", "invalid_request", "duplicate_custom_id", "invalid_custom_id",
                          "invalid_method", "invalid_url", "invalid_body", "invalid_body", None, None, None, None])
        self.assertEqual([line["error"]["line"] for line in got if line["error"]], [3, 4, 5, 6, 7, 8, 9, 10])
        self.assertEqual([line["response"] and line["response"]["status_code"] for line in got[9:]], [404, 400, 400, 200])
        self.assertEqual(got[9]["response"]["body"]["error"]["code"], "model_not_found")
        self.assertEqual(got[10]["response"]["body"]["error"]["param"], "temperature")

    def test_alias(self):
        result, got = self.batch([request("a", model="gpt-4o-mini", prompt="Once", max_tokens=2)], "--alias", "gpt-4o-mini")
        self.assertEqual((result.code, got[0]["response"]["body"]["model"]), (0, "gpt-4o-mini"))

    def test_goes_on(self):
        requests = [story(i) for i in range(12)] + ["{bad", story(12)]
        _, whole = self.batch(requests, name="whole.jsonl")
        lines = (self.folder / "whole.jsonl").read_text().splitlines(keepends=True)
        for kept, tail in ((5, ""), (5, lines[5][:40]), (5, lines[5][:-1]), (13, '{"id'), (0, "x"), (14, "")):
            self.file("out.jsonl", "".join(lines[:kept]) + tail)
            result, got = self.batch(requests, "--json")
            self.assertEqual((result.json["kept"], result.json["answered"], result.json["errors"]), (kept, 14 - kept, 1))
            self.assertEqual(got[:kept], whole[:kept])
            self.assertEqual([text(a) for a in got if a["response"]], [text(a) for a in whole if a["response"]])

    def test_killed(self):
        requests = [story(i, 20) for i in range(80)]
        out = self.folder / "out.jsonl"
        command = [PROGRAM, "batch", str(self.write(requests)), str(MODEL), "-o", str(out), "--slots", "2", "--progress", "none"]
        for lines in (3, 8):
            child = subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            limit = time.time() + TIMEOUT
            while time.time() < limit and (not out.exists() or out.read_bytes().count(b"\n") < lines):
                time.sleep(0.005)
            os.kill(child.pid, signal.SIGKILL)
            self.assertEqual(child.wait(), -signal.SIGKILL, "it was over before it could be killed")
        result, got = self.batch(requests, "--slots", "16", "--json")
        self.assertEqual(result.code, 0, result.err)
        self.assertGreaterEqual(result.json["kept"], 8)
        self.assertEqual([line["custom_id"] for line in got], [r["custom_id"] for r in requests])
        _, again = self.batch(requests[:9], name="again.jsonl")
        self.assertEqual([text(line) for line in again], [text(line) for line in got[:9]])

    def test_interrupted(self):
        requests = [story(i, 40) for i in range(300)]
        out = self.folder / "out.jsonl"
        child = subprocess.Popen([PROGRAM, "batch", str(self.write(requests)), str(MODEL), "-o", str(out), "--slots", "2"],
                                 env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        limit = time.time() + TIMEOUT
        while time.time() < limit and (not out.exists() or out.read_bytes().count(b"\n") < 2):
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=TIMEOUT)
        self.assertEqual(child.returncode, 1)
        self.assertIn("the same command goes on there", err.decode())
        self.assertTrue(out.read_bytes().endswith(b"\n"))
        self.assertLess(len(answers(out)), 300)

    def test_parts(self):
        requests = [story(i, 3) for i in range(11)]
        path, got = self.write(requests), []
        for i in range(1, 5):
            out = self.folder / f"part{i}.jsonl"
            result = run("batch", path, MODEL, "-o", out, "--part", f"{i}/4")
            self.assertEqual(result.code, 0, result.err)
            got += answers(out)
        self.assertEqual([line["custom_id"] for line in got], [r["custom_id"] for r in requests])
        self.fails(run("batch", path, MODEL, "-o", self.folder / "x", "--part", "5/4"), 2, "--part 5/4")
        self.fails(run("batch", "-", MODEL, "--part", "1/4"), 1, "standard input")

    def test_slurm(self):
        """The array of deploy/: two tasks, each with its part; the second is stopped and queued again."""
        requests = [story(i, 20) for i in range(80)]
        path, out = self.write(requests), self.folder / "out.jsonl"
        self.file("scontrol", '#!/bin/sh\necho "$@" >"$0.said"\n').chmod(0o755)
        script = ["bash", str(ROOT / "deploy" / "zamba-batch.slurm"), str(path), str(out), str(MODEL), "--slots", "2"]

        def task(number):
            env = environment(ZAMBA=PROGRAM, SLURM_ARRAY_TASK_MIN="1", SLURM_ARRAY_TASK_MAX="2", SLURM_ARRAY_TASK_COUNT="2",
                              SLURM_ARRAY_TASK_ID=number, SLURM_ARRAY_JOB_ID="77", SLURM_CPUS_PER_TASK="1",
                              PATH=f"{self.folder}:{os.environ['PATH']}")
            return subprocess.Popen(script, env=env, cwd=ROOT, stdout=subprocess.DEVNULL)

        self.assertEqual(task(1).wait(TIMEOUT), 0)
        mine, limit = self.folder / "out.jsonl.00002-of-00002", time.time() + TIMEOUT
        child = task(2)
        while time.time() < limit and (not mine.exists() or mine.read_bytes().count(b"\n") < 2):
            time.sleep(0.005)
        child.send_signal(signal.SIGUSR1)
        self.assertEqual(child.wait(TIMEOUT), 0)
        self.assertLess(len(answers(mine)), 40)
        self.assertEqual((self.folder / "scontrol.said").read_text(), "requeue 77_2\n")
        self.assertEqual(task(2).wait(TIMEOUT), 0)
        got = answers(self.folder / "out.jsonl.00001-of-00002") + answers(mine)
        self.assertEqual([line["custom_id"] for line in got], [r["custom_id"] for r in requests])

    def test_pipes(self):
        result = run("batch", "-", MODEL, stdin=json.dumps(story(1)) + "\n" + json.dumps(story(2)))
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual([line["custom_id"] for line in result.lines], ["story-1", "story-2"])

    def test_refused(self):
        path, out = self.write([story(0), story(1)]), self.folder / "out.jsonl"
        self.fails(run("batch"), 2, "file of requests")
        self.fails(run("batch", path, MODEL, "--json"), 2, "-o FILE")
        self.fails(run("batch", self.folder / "none.jsonl", MODEL), 1, "none.jsonl")
        self.fails(run("batch", self.folder, MODEL), 1, "folder")
        self.fails(run("batch", path, MODEL, "-o", path), 1, "input too")
        for content, words in (("hello\n", ["no answer of a batch"]),
                               ('{"custom_id": "other"}\n', ["other", "story-0"]),
                               ('{"custom_id": "story-0"}\n{"custom_id": "story-1"}\n{"custom_id": "x"}\n', ["more answers"])):
            out.write_text(content)
            self.fails(run("batch", path, MODEL, "-o", out), 1, "--force", *words)
            self.assertEqual(out.read_text(), content)  # untouched
        self.assertEqual(run("batch", path, MODEL, "-o", out, "--force").code, 0)
        self.assertEqual(len(answers(out)), 2)
        if os.path.exists("/dev/full"):
            with open("/dev/full", "w") as full:
                self.assertEqual(run("batch", path, MODEL, stdout=full).code, 1)

    def test_locked(self):
        import fcntl
        path, out = self.write([story(0)]), self.folder / "out.jsonl"
        with open(out, "a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.fails(run("batch", path, MODEL, "-o", out), 1, "another process")


if __name__ == "__main__":
    unittest.main()
