"""test_models.py — several models in one server: loaded when asked for, unloaded when idle or when another one needs the
room, and none of that while somebody uses them. Tiny models of random weights without a tokenizer, and the starter model."""
import concurrent.futures
import json
import os
import shutil
import tempfile
import threading
import time
import unittest
from pathlib import Path

from api_server import MODEL, NAME, PATIENCE, ROOT, Served

TINY = ("zamba2-1.2b-tiny", "zamba1-tiny", "zamba2-2.7b-tiny")
A, B, C = TINY
FIXTURES = ROOT / "tests" / "golden" / "fixtures"
SMALL = ("--cache-ram", "1", "--ctx-size", "256", "--slots", "2", "--threads", "2")
IDS = [1, 2, 3, 4, 5]


class Several(Served):
    models = TINY
    served = ()
    more = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="zamba-models-"))
        for name in cls.models:
            (cls.folder / name).mkdir()
            for f in ("config.json", "model.safetensors"):
                shutil.copy(FIXTURES / name / f, cls.folder / name / f)
        (cls.folder / "broken").mkdir()
        (cls.folder / "broken" / "config.json").write_text("{")
        (cls.folder / "notes.txt").write_text("no model")
        cls.model = cls.served[0] if cls.served else "--models-dir=" + str(cls.folder)
        cls.options = (*cls.served[1:], *(["--models-dir", str(cls.folder)] if cls.served else []), *SMALL, *cls.more)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    def complete(self, model, **body):
        r = self.ask("POST", "/v1/completions", {"model": model, "prompt": IDS, "max_tokens": 4, "temperature": 0,
                                                 "return_token_ids": True, "ignore_eos": True, **body})
        self.assertEqual(r.status, 200, r.data)
        return r.json["choices"][0]["token_ids"]

    def loaded(self):
        return {m["name"]: m for m in self.ask("GET", "/api/ps").json["models"]}

    def until(self, what, *wanted):
        end = time.monotonic() + PATIENCE
        while what() != set(wanted):
            self.assertLess(time.monotonic(), end, (what(), wanted))
            time.sleep(0.02)

    def until_loaded(self, *wanted):
        self.until(lambda: set(self.loaded()), *wanted)


class OnDemand(Several):
    more = ("--keep-alive", "1h")

    def setUp(self):
        for name in self.loaded():
            self.post("/api/generate", model=name, keep_alive=0)
        self.until_loaded()

    def test_listed_and_loaded_when_asked_for(self):
        self.assertEqual([m["id"] for m in self.ask("GET", "/v1/models").json["data"]], sorted((*TINY, "broken")))
        self.assertEqual(self.ask("GET", "/readyz").status, 200)
        self.assertEqual(self.loaded(), {})
        first = {m: self.complete(m) for m in TINY}
        self.assertEqual(set(self.loaded()), set(TINY))
        self.assertEqual(len({tuple(x) for x in first.values()}), 3)
        for m, entry in self.loaded().items():
            self.assertGreater(entry["size"], (FIXTURES / m / "model.safetensors").stat().st_size // 2)
            self.assertGreater(entry["expires_at"], time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 3000)))
        for m in TINY:  # the same answer after a load as before
            self.post("/api/generate", model=m, keep_alive=0)
        self.until_loaded()
        self.assertEqual({m: self.complete(m) for m in TINY}, first)

    def test_told_of(self):
        self.complete(B)
        self.assertTrue(self.ask("GET", f"/v1/models/{B}").json["loaded"])
        self.assertFalse(self.ask("GET", f"/v1/models/{C}").json["loaded"])
        self.assertEqual(self.ask("GET", f"/props?model={B}").json["models"][0]["family"], "zamba")
        self.assertEqual([m["id"] for m in self.ask("GET", f"/props?model={B}").json["models"]], [B])
        self.assertEqual(self.ask("GET", "/props?model=nobody").status, 404)
        self.assertEqual(self.post("/api/show", model=A).json["details"]["family"], "zamba2")
        self.assertIn(A, self.loaded())
        text = self.ask("GET", "/metrics").data.decode()
        for line in (f'zamba_model_loaded{{model="{B}"}} 1', f'zamba_model_loaded{{model="{C}"}} 0'):
            self.assertIn(line + "\n", text)

    def test_metrics_count_on_through_loads(self):
        def generated():
            key = f'zamba_generated_tokens_total{{model="{A}"}} '
            return next(int(line[len(key):]) for line in self.ask("GET", "/metrics").data.decode().splitlines()
                        if line.startswith(key))
        before = generated()
        self.complete(A)
        self.post("/api/generate", model=A, keep_alive=0)
        self.until_loaded()
        self.assertEqual(generated(), before + 4)
        self.complete(A)
        self.assertEqual(generated(), before + 8)

    def test_ollamas_idioms(self):
        r = self.post("/api/generate", model=A).json
        self.assertEqual((r["done"], r["done_reason"], r["response"]), (True, "load", ""))
        self.assertEqual(set(self.loaded()), {A})
        r = self.post("/api/chat", model=B + ":latest", messages=[], keep_alive="10m").json
        self.assertEqual((r["done_reason"], r["message"]["content"]), ("load", ""))
        ends = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 700))
        self.assertLess(self.loaded()[B]["expires_at"], ends)
        self.assertGreater(self.loaded()[A]["expires_at"], ends)
        self.assertEqual(self.post("/api/generate", model=A, prompt="", keep_alive=0).json["done_reason"], "unload")
        self.until_loaded(B)
        self.post("/api/generate", model=B, keep_alive=-1)
        self.assertEqual(self.loaded()[B]["expires_at"][:5], "9999-")
        self.post("/api/generate", model=B, keep_alive="50ms")
        self.until_loaded()
        self.post("/api/generate", model=B, keep_alive="0s")
        self.assertEqual(self.loaded(), {})
        for bad in ("soon", "5 m", "-", "1h1", "1e3s", "9" * 40, [], "1m\0"):
            self.refused("/api/generate", 400, "keep_alive", model=A, keep_alive=bad)

    def test_a_load_that_fails_leaves_others_alone(self):
        self.complete(A)
        r = self.refused("/v1/completions", 500, "model", model="broken", prompt=IDS)
        self.assertEqual(r.json["error"]["code"], "model_not_loaded")
        self.assertNotIn(str(self.folder), r.json["error"]["message"])
        r = self.refused("/api/generate", 500, "broken", model="broken")
        self.refused("/tokenize", 500, "model", model="broken", prompt="x")
        self.assertEqual(set(self.loaded()), {A})
        (self.folder / "broken" / "config.json").write_bytes((FIXTURES / A / "config.json").read_bytes())
        shutil.copy(FIXTURES / A / "model.safetensors", self.folder / "broken")
        self.assertEqual(self.complete("broken"), self.complete(A))  # mended meanwhile
        self.post("/api/generate", model="broken", keep_alive=0)
        (self.folder / "broken" / "config.json").write_text("{")

    def test_not_while_it_is_used(self):
        whole = self.complete(A, max_tokens=200)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            long = [pool.submit(self.complete, A, max_tokens=200) for _ in range(3)]
            while not all(f.done() for f in long):
                self.post("/api/generate", model=A, keep_alive=0)
            for f in long:
                self.assertEqual(f.result(), whole)
        self.post("/api/generate", model=A, keep_alive=0)
        self.until_loaded()

    def test_saved_states_in_memory_stay(self):
        state = self.post("/v1/states", model=A, prompt=IDS).json["id"]
        try:
            self.post("/api/generate", model=A, keep_alive=0)
            time.sleep(0.2)
            self.assertEqual(set(self.loaded()), {A})
            self.assertEqual(self.ask("POST", f"/v1/states/{state}/fork").status, 201)
        finally:
            for s in self.ask("GET", "/v1/states").json["data"]:
                self.assertEqual(s["model"], A)
                self.ask("DELETE", "/v1/states/" + s["id"])
        self.post("/api/generate", model=A, keep_alive=0)
        self.until_loaded()


class IdleAndFolder(Several):
    """An idle model goes by itself; its saved states are in a folder and are known all the while."""
    served = (str(MODEL),)

    @classmethod
    def setUpClass(cls):
        cls.states = tempfile.mkdtemp(prefix="zamba-states-")
        cls.more = ("--keep-alive", "300ms", "--states-folder", cls.states)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.states)

    def test_idle_models_go(self):
        self.complete(A)
        self.until_loaded()
        self.post("/api/generate", model=B, keep_alive="1h")
        self.complete(NAME)
        self.until_loaded(B)
        self.post("/api/generate", model=B, keep_alive=0)
        self.until_loaded()

    def test_the_first_is_the_default(self):
        self.assertEqual(self.ask("GET", "/v1/models").json["data"][0]["id"], NAME)
        r = self.post("/v1/completions", prompt="Once upon a time", max_tokens=2).json
        self.assertEqual(r["model"], NAME)
        self.assertEqual(self.ask("GET", "/readyz").status, 200)

    def test_states_outlive_their_model(self):
        state = self.post("/v1/states", model=B, prompt=IDS).json["id"]
        self.until_loaded()
        self.assertIn((state, B), [(s["id"], s["model"]) for s in self.ask("GET", "/v1/states").json["data"]])
        self.assertEqual(self.loaded(), {})
        data = self.ask("GET", "/v1/states/" + state)  # loads it
        self.assertEqual(data.status, 200)
        self.assertEqual(self.ask("PUT", f"/v1/states/{state}?model={A}", data.data).status, 409)
        self.assertEqual(self.ask("PUT", f"/v1/states?model={A}", data.data).status, 422)
        self.until_loaded()
        alone = self.complete(B, prompt=IDS + [7, 8])
        self.assertEqual(self.complete(B, prompt=IDS + [7, 8], state=state), alone)
        self.assertEqual(self.ask("DELETE", "/v1/states/" + state).status, 200)
        self.assertEqual(self.ask("GET", "/v1/states/" + state).status, 404)


class Budget(Several):
    """Room for one of the models at a time."""
    more = ("--max-memory", "8", "--keep-alive", "-1", "--load-timeout", "60", "--queue", "4")

    def test_the_least_used_makes_room(self):
        answers = {m: self.complete(m) for m in TINY}
        now = self.loaded()
        self.assertEqual(set(now), {C})
        self.assertLessEqual(now[C]["size"], 8 << 20)
        for _ in range(2):
            for m in TINY:
                self.assertEqual(self.complete(m), answers[m])

    def test_everybody_gets_a_turn(self):
        alone = {m: self.complete(m, max_tokens=60) for m in TINY}
        most = []

        def watch(stop):
            while not stop.is_set():
                most.append(sum(m["size"] for m in self.loaded().values()))
        stop = threading.Event()
        watcher = threading.Thread(target=watch, args=(stop,))
        watcher.start()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            jobs = [(m, pool.submit(self.complete, m, max_tokens=60)) for _ in range(5) for m in TINY]
            for m, job in jobs:
                self.assertEqual(job.result(), alone[m])
        stop.set()
        watcher.join()
        self.assertLessEqual(max(most), 8 << 20)

    def test_a_stream_hears_that_it_waits(self):
        used, other = A, B
        with self.streaming(used) as (c, r):
            r.readline()
            line = json.dumps({"model": other, "prompt": IDS, "max_tokens": 1, "stream": True, "return_progress": True})
            with self.streaming(other, line) as (_, waiting):
                waits = json.loads(waiting.readline()[6:])
                self.assertEqual(waits["load_progress"]["model"], other)
                self.assertIn(used, self.loaded())
                self.assertNotIn(other, self.loaded())
                c.close()  # the one in use goes, and so the other comes
                r.close()
                rest = waiting.read()
        self.assertIn(b"[DONE]", rest)
        self.assertIn(b"finish_reason", rest)

    def test_the_queue_for_models_has_an_end(self):
        with self.streaming(A) as (_, r):
            r.readline()
            ask = json.dumps({"model": B, "prompt": IDS, "stream": True, "return_progress": True})
            held = [self.streaming(B, ask) for _ in range(6)]
            for c in held:
                self.assertIn(b"load_progress", c.__enter__()[1].readline())
            late = self.ask("POST", "/v1/completions", {"model": B, "prompt": IDS})
            self.assertEqual(late.status, 429, late.data)
            self.assertIn("retry-after", {k.lower() for k in late.headers.keys()})
            for c in held:
                c.__exit__()
        end = time.monotonic() + PATIENCE  # nothing is left of those who went
        while self.ask("POST", "/v1/completions", {"model": B, "prompt": IDS}).status != 200:
            self.assertLess(time.monotonic(), end)

    class Stream:
        def __init__(self, address, body):
            import http.client
            self.c = http.client.HTTPConnection(address, timeout=PATIENCE)
            self.c.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            self.r = None

        def __enter__(self):
            self.r = self.c.getresponse()
            return self.c, self.r

        def __exit__(self, *_):
            if self.r:
                self.r.close()
            self.c.close()

    def streaming(self, model, body=None):
        return self.Stream(self.address, body or json.dumps(
            {"model": model, "prompt": IDS, "max_tokens": 250, "stream": True, "n": 64, "temperature": 1,
             "ignore_eos": True}))


class TooSmall(Several):
    more = ("--max-memory", "2")

    def test_what_cannot_fit_says_so(self):
        r = self.refused("/v1/completions", 503, "model", model=A, prompt=IDS)
        self.assertEqual(r.json["error"]["code"], "model_has_no_room")
        self.assertRegex(r.json["error"]["message"], r"needs [0-9.]+ MiB .* 2\.0 MiB")
        self.refused("/api/generate", 503, "MiB", model=A)
        self.assertEqual(self.loaded(), {})


if __name__ == "__main__":
    if os.environ.get("ZAMBA_API_URL"):
        print("skipped: this is about servers that are started here")
        raise SystemExit(77)
    unittest.main()
