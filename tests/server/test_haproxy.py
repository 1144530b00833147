"""test_haproxy.py — HAProxy as deploy/haproxy.cfg sets it up, in front of two servers. Users hold conversations on saved
states while one server is drained, its states are handed over (deploy/hand_over.py) and it is stopped: no request is lost and
nothing is read twice. Skipped where there is no haproxy."""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from api_server import MODEL, PATIENCE, PROGRAM, ROOT

sys.path.insert(0, str(ROOT / "deploy"))
import hand_over  # noqa: E402

HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
CONTEXT = 512
USERS = 6


def ask(port, method, path, body=None, **headers):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        c.request(method, path, json.dumps(body) if body is not None else None,
                  {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}})
        r = c.getresponse()
        return r.status, r.headers, r.read()
    finally:
        c.close()


def wait_for(what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError("it did not come")
        time.sleep(0.02)


class Server:
    def __init__(self, port=0):
        self.process = subprocess.Popen([PROGRAM, "serve", MODEL, "--port", str(port), "--cache-ram", "16", "--slots", "4",
                                         "--no-history"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = re.search(r"http://[^:]+:(\d+)", self.process.stdout.readline())
        if not found:
            self.process.kill()
            raise AssertionError("no server: " + self.process.communicate()[0])
        self.port, self.told = int(found.group(1)), False

    def number(self, name):
        text = ask(self.port, "GET", "/metrics")[2].decode()
        return sum(float(v) for v in re.findall(rf"(?m)^zamba_{name}(?:{{[^}}]*}})? (\S+)$", text))

    def states(self):
        return {s["id"] for s in json.loads(ask(self.port, "GET", "/v1/states")[2])["data"]}

    def terminate(self):
        if not self.told and self.process.poll() is None:  # a second signal would end it at once
            self.process.send_signal(signal.SIGTERM)
        self.told = True

    def stop(self):
        """SIGTERM; what it said at its end."""
        self.terminate()
        out = self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode, out


class Talk(threading.Thread):
    """A user who asks again as soon as there is an answer, on the state of the answer before. Like the official clients it
    tries again after a 503, when Retry-After says (they do so max_retries times; here it is a loaded machine's number)."""

    def __init__(self, port, name):
        super().__init__()
        self.port, self.name_, self.over = port, name, threading.Event()
        self.turns, self.bad, self.again = [], [], 0

    def turn(self, ids, state):
        body = {"prompt": ids, "max_tokens": 4, "temperature": 0, "ignore_eos": True, "keep_state": True,
                "return_token_ids": True, "user": self.name_, **({"state": state} if state else {})}
        for left in range(8, -1, -1):
            status, headers, data = ask(self.port, "POST", "/v1/completions", body)
            if status != 503 or not left:
                break
            self.again += 1
            time.sleep(float(headers["Retry-After"]))
        if status != 200:
            raise AssertionError((status, data))
        return json.loads(data)

    def run(self):
        try:
            ids, state, n = [], None, 0
            while not self.over.is_set():
                n += 1
                if len(ids) + 10 > CONTEXT:
                    ids, state = [], None
                read = len(ids)
                ids = (ids or [1]) + [100 + (17 * n + i) % 900 for i in range(5)]
                r = self.turn(ids, state)
                choice = r["choices"][0]
                if r["usage"]["prompt_tokens_details"]["cached_tokens"] != read and state:
                    self.bad.append((n, read, r["usage"]))
                if state:  # whoever keeps states drops those that are behind; it may be at the other by now
                    ask(self.port, "DELETE", f"/v1/states/{state}", X_User=self.name_)
                ids, state = ids + choice["token_ids"], choice["state"]
                self.turns.append((time.monotonic(), ids, state))
        except (AssertionError, OSError, http.client.HTTPException) as e:
            self.bad.append(repr(e))


@unittest.skipUnless(HAPROXY, "no haproxy")
class Proxy(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = str(Path(self.folder.name) / "admin.sock")
        self.servers = {"a": Server(), "b": Server()}
        with http.client.socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = {**os.environ, "ZAMBA_PROXY_BIND": f"127.0.0.1:{self.port}", "ZAMBA_PROXY_SOCKET": self.socket,
               "ZAMBA_PROXY_LOG": "stderr", **{f"ZAMBA_{k.upper()}": f"127.0.0.1:{s.port}" for k, s in self.servers.items()}}
        self.log = open(Path(self.folder.name) / "log", "w+", encoding="utf-8")
        self.proxy = subprocess.Popen([HAPROXY, "-db", "-f", str(ROOT / "deploy" / "haproxy.cfg")], env=env,
                                      stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.talks = []
        wait_for(lambda: self.proxy.poll() is not None or os.path.exists(self.socket))
        self.assertIsNone(self.proxy.poll(), "haproxy ended")
        for name in self.servers:
            wait_for(lambda n=name: self.status(n).startswith("UP"))

    def tearDown(self):
        for talk in self.talks:
            talk.over.set()
        for talk in self.talks:
            talk.join(PATIENCE)
        self.proxy.terminate()
        self.proxy.wait(PATIENCE)
        for server in self.servers.values():
            code, out = server.stop()
            self.assertEqual(code, 0, out)
        self.log.close()
        self.folder.cleanup()

    def status(self, name):
        rows = hand_over.command(self.socket, "show stat").splitlines()
        head = rows[0].lstrip("# ").split(",")
        return next(r.split(",")[head.index("status")] for r in rows if r.startswith(f"zamba,{name},"))

    def home(self, user):
        """Which server a user's requests go to."""
        before = {k: s.number("requests_total") for k, s in self.servers.items()}
        status, _, data = ask(self.port, "POST", "/v1/completions", {"prompt": [1, 300], "max_tokens": 1, "user": user})
        self.assertEqual(status, 200, data)
        return next(k for k, s in self.servers.items() if s.number("requests_total") > before[k])

    def users(self, server, n):
        found = []
        for i in range(200):
            if len(found) == n:
                return found
            if self.home(f"user-{i}") == server:
                found.append(f"user-{i}")
        raise AssertionError("one server gets nearly all users")

    def test_conversations_go_on_at_the_other(self):
        a, b = self.servers["a"], self.servers["b"]
        names = self.users("a", USERS - 2) + self.users("b", 2)
        # long answers from a are under way when it is drained
        long = {"prompt": "Once upon a time", "max_tokens": 400, "seed": 1, "n": 4, "ignore_eos": True, "stream": True,
                "user": names[0]}
        whole = ask(b.port, "POST", "/v1/completions", {**long, "stream": False})
        stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        stream.request("POST", "/v1/completions", json.dumps(long), {"Content-Type": "application/json"})
        reply = stream.getresponse()
        first = reply.readline()
        self.talks = [Talk(self.port, name) for name in names]
        for talk in self.talks:
            talk.start()
        wait_for(lambda: all(len(t.turns) >= 3 or t.bad for t in self.talks))
        done = subprocess.run([sys.executable, ROOT / "deploy" / "hand_over.py", f"http://127.0.0.1:{a.port}",
                               f"127.0.0.1:{b.port}", "--proxy", self.socket, "--server", "zamba/a"],
                              capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertRegex(done.stdout, r"^\d+ states, [\d.]+ MiB; zamba/a: drain\n$")
        self.assertEqual(self.status("a"), "DRAIN")
        left = a.number("requests_total")
        wait_for(lambda: a.number("requests_running") + a.number("requests_waiting") == 0)
        moved = time.monotonic()
        code, out = a.stop()
        self.assertEqual(code, 0, out)
        wait_for(lambda: all(sum(at > moved for at, *_ in t.turns) >= 3 or t.bad for t in self.talks))
        for talk in self.talks:
            talk.over.set()
        for talk in self.talks:
            talk.join(PATIENCE)
        self.assertEqual([t.bad for t in self.talks], [[]] * USERS)
        self.assertGreater(left, 0)
        # the stream was whole before a was let go
        texts = ["", "", "", ""]
        for line in [first, *reply]:
            if line.startswith(b"data: {"):
                choice = json.loads(line[6:])["choices"][0]
                texts[choice["index"]] += choice["text"]
        self.assertEqual(texts, [c["text"] for c in json.loads(whole[2])["choices"]])
        stream.close()
        # what was said is what one server alone says that reads all of it
        for talk in self.talks[:2]:
            _, ids, _ = talk.turns[-1]
            r = json.loads(ask(b.port, "POST", "/v1/completions", {"prompt": ids[:-4], "max_tokens": 4, "temperature": 0,
                                                                   "ignore_eos": True, "return_token_ids": True})[2])
            self.assertEqual(r["choices"][0]["token_ids"], ids[-4:])
        # a comes back, its states too, and its users return to it
        old = self.talks[0].turns[-1]
        self.servers["a"] = a = Server(a.port)
        wait_for(lambda: self.status("a") == "DRAIN" and a.number("requests_total") == 0)
        self.assertEqual(hand_over_to(b, a, self.socket), 0)
        wait_for(lambda: self.status("a").startswith("UP"))
        self.assertIn(old[2], a.states())
        again = Talk(self.port, names[0]).turn(old[1] + [200, 201], old[2])
        self.assertEqual(again["usage"]["prompt_tokens_details"]["cached_tokens"], len(old[1]))
        self.assertEqual(a.number("requests_total"), 1)

    def test_a_server_that_just_goes(self):
        """SIGTERM without a word to the proxy: what is under way is finished, all else goes to the other."""
        names = self.users("a", 3)

        class Asks(Talk):
            def turn(self, ids, state):
                return super().turn(ids, None)  # states would be lost: nobody handed them over

        self.talks = [Asks(self.port, name) for name in names]
        for talk in self.talks:
            talk.start()
        wait_for(lambda: all(len(t.turns) >= 2 or t.bad for t in self.talks))
        self.servers["a"].terminate()
        moved = time.monotonic()
        wait_for(lambda: all(sum(at > moved for at, *_ in t.turns) >= 3 or t.bad for t in self.talks))
        for talk in self.talks:
            talk.over.set()
            talk.join(PATIENCE)
        lost = [b for t in self.talks for b in t.bad if isinstance(b, str)]
        self.assertEqual((lost, [t.again for t in self.talks]), ([], [0] * 3))

    def test_a_state_at_the_other_server(self):
        """Whoever asks where the state is not is sent to where it is; where it is nowhere, that is a 404."""
        user, = self.users("a", 1)
        r = json.loads(ask(self.servers["b"].port, "POST", "/v1/states", {"prompt": [1, 300, 301]})[2])
        body = {"prompt": [1, 300, 301, 302], "max_tokens": 2, "state": r["id"], "user": user}
        status, _, data = ask(self.port, "POST", "/v1/completions", body)
        self.assertEqual((status, json.loads(data)["usage"]["prompt_tokens_details"]["cached_tokens"]), (200, 3), data)
        status, _, data = ask(self.port, "POST", "/v1/completions", {**body, "state": "0" * 32})
        self.assertEqual((status, json.loads(data)["error"]["param"]), (404, "state"))
        status, _, data = ask(self.port, "POST", "/v1/completions", {**body, "model": "none"})
        self.assertEqual((status, json.loads(data)["error"]["param"]), (404, "model"))

    def test_a_client_that_leaves(self):
        """The server hears of it through the proxy, stream or not."""
        for stream in (False, True):
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            c.request("POST", "/v1/completions", json.dumps({"prompt": [1, 300], "max_tokens": 450, "ignore_eos": True, "n": 16,
                                                             "stream": stream}), {"Content-Type": "application/json"})
            wait_for(lambda: any(s.number("requests_running") for s in self.servers.values()))
            c.close()
            wait_for(lambda: not any(s.number("requests_running") for s in self.servers.values()))
        self.assertLess(sum(s.number("generated_tokens_total") for s in self.servers.values()), 2 * 16 * 450 / 2)


def hand_over_to(source, target, socket):
    return subprocess.run([sys.executable, ROOT / "deploy" / "hand_over.py", f"127.0.0.1:{source.port}",
                           f"127.0.0.1:{target.port}", "--proxy", socket, "--server", "zamba/a", "--state", "ready"],
                          timeout=PATIENCE, check=False, stdout=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    if not HAPROXY:
        print("skipped: no haproxy here (sh scripts/setup.sh ci installs it)")
        raise SystemExit(77)
    unittest.main()
