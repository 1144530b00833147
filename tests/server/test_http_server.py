"""test_http_server.py — HTTP around the server: odd, hostile, slow and vanishing clients against toy routes (http_tool.c),
with descriptors and open work counted before and after."""
import contextlib
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time
import unittest
from pathlib import Path

BUILD = Path(os.environ.get("ZAMBA_BUILD") or Path(__file__).resolve().parent.parent.parent / "build" / "release")
TOOL = Path(os.environ.get("ZAMBA_HTTP_TOOL") or BUILD / "tests" / "http_tool")
PATIENCE = 20


class Server:
    def __init__(self, *options):
        self.process = subprocess.Popen([TOOL, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        self.error = line if line.startswith("error") else None
        self.port = 0 if self.error else int(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        code = self.process.wait(timeout=PATIENCE)
        last, log = self.process.stdout.read(), self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        if not self.error:
            assert code == 0, (code, last, log)
            assert last.endswith("toys 0\n"), last
        self.log = log

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def connect(self, timeout=PATIENCE):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, data, timeout=PATIENCE):
        """All that comes back until the server closes."""
        with self.connect(timeout) as s:
            s.sendall(data)
            return receive(s)

    def ask(self, method, path, body=None, headers=()):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            c.request(method, path, body, dict(headers))
            r = c.getresponse()
            data = r.read()
            return r.status, r, data
        finally:
            c.close()

    def get(self, path, **headers):
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def json(self, path, text, type="application/json", **headers):
        status, r, data = self.ask("POST", path, text if isinstance(text, bytes) else text.encode(),
                                   {"Content-Type": type, **headers})
        return status, json.loads(data)

    def counts(self):
        return json.loads(self.get("/v1/counts")[2])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settle(self, toys=0):
        """Wait until no work is left; fails if some is."""
        end = time.time() + PATIENCE
        while time.time() < end:
            if self.counts()["toys"] == toys:
                return
            time.sleep(0.02)
        raise AssertionError(self.counts())


def receive(s):
    pieces = []
    try:
        while not pieces or pieces[-1]:
            pieces.append(s.recv(1 << 20))
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def vanish(s):
    """Close with a reset, as a killed machine's router would say."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def status_of(reply):
    found = re.match(rb"HTTP/1\.[01] (\d+)", reply)
    return int(found.group(1)) if found else 0


class Whole(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("body=100000").__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def test_routes_and_arguments(self):
        s = self.server
        for path, arg in (("/v1/echo/a", "a"), ("/v1/echo/a%20b", "a b"), ("/v1/echo/a%2Fb", "a/b"),
                          ("/v1/deep/a/b/c", "a/b/c"), ("/v1/ech%6F/x", "x"), ("/v1/echo/%C3%A9", "é"), ("/v1/echo/a/", "a")):
            status, _, data = s.get(path)
            self.assertEqual((status, json.loads(data)["arg"]), (200, arg), path)
        status, _, data = s.get("/v1/echo/a?x=1&q=a+b%26c&q=2")
        self.assertEqual(json.loads(data)["q"], "a b&c")
        status, r, data = s.ask("HEAD", "/v1/echo/a")
        self.assertEqual((status, data), (200, b""))
        self.assertRegex(r.getheader("X-Request-Id"), "^req-[0-9a-f]{24}$")
        self.assertEqual(json.loads(s.ask("DELETE", "/v1/echo/a")[2])["method"], "DELETE")

    def test_errors_have_the_shape_of_their_api(self):
        s = self.server
        status, _, data = s.get("/v1/none")
        self.assertEqual((status, set(json.loads(data)["error"])), (404, {"message", "type", "param", "code"}))
        status, _, data = s.get("/api/none")
        self.assertEqual((status, type(json.loads(data)["error"])), (404, str))
        status, r, data = s.ask("POST", "/v1/echo/a", b"")
        self.assertEqual((status, sorted(r.getheader("Allow").split(", "))), (405, ["DELETE", "GET", "HEAD"]))
        for path in ("/v1/echo/%zz", "/v1/echo/%", "/v1/echo/%0a", "/v1/echo/%00", "/v1/echo/%ff", "/v1/echo/%c0%af"):
            self.assertEqual(s.get(path)[0], 400, path)
        self.assertEqual(s.get("/v1/echo/..")[0], 200)  # an id like any other
        self.assertEqual(s.get("/v1/forgets")[0], 500)
        self.assertEqual(s.get("/v1/fails")[0], 501)
        status, r, data = s.get("/v1/fails?after=3")
        self.assertEqual((status, r.getheader("Retry-After"), json.loads(data)["error"]["param"]), (429, "2", "n"))

    def test_json(self):
        s = self.server
        for text in ('{"a": [1, 2.5, "\\u00e9\\ud83d\\ude00", null, true]}', "[]", '"x"', "3", '"a\\u0000b"'):
            self.assertEqual(s.json("/v1/json", text), (200, json.loads(text)), text)
        deep = "[" * 64 + "]" * 64
        self.assertEqual(s.json("/v1/json", deep)[0], 200)
        for text in ("", "{", '{"a": 1, "a": 2}', '"\\ud800"', '"\\udc00x"', b'"\xff"', b'"\xed\xa0\x80"', "NaN", "Infinity",
                     "1e999", "9" * 30, "{'a': 1}", "[1,]", '{"a": 1} x', "\x00", '"\x01"', '{"a\\u0000": 1}', "[" * 65 + "]" * 65,
                     "[" * 50000, '{"a":' * 15000, '"' + "\\" * 9):
            status, body = s.json("/v1/json", text)
            self.assertEqual(status, 400, text[:40])
            self.assertRegex(body["error"]["message"], r"byte \d+")
            self.assertEqual(type(s.json("/api/json", text)[1]["error"]), str)
        status, body = s.json("/v1/json", '{\n "a": x}')
        self.assertIn("line 2", body["error"]["message"])

    def test_types_and_lengths_of_bodies(self):
        s = self.server
        for kind in ("application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"):
            self.assertEqual(s.json("/v1/json", "1", kind)[0], 200, kind)
        for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""):
            self.assertEqual(s.json("/v1/json", "1", kind)[0], 415, kind)
        self.assertEqual(s.json("/api/json", "1", "application/x-www-form-urlencoded")[0], 200)
        self.assertEqual(status_of(s.raw(b"POST /v1/json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")), 411)
        self.assertEqual(s.json("/v1/json", '"' + "x" * 99998 + '"')[0], 200)
        self.assertEqual(s.json("/v1/json", '"' + "x" * 99999 + '"')[0], 413)
        big = b"PUT /v1/bytes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n"
        self.assertIn(status_of(s.raw(big)), (400, 413))
        big = b"PUT /v1/bytes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
        self.assertEqual(status_of(s.raw(big)), 413)
        self.assertEqual(json.loads(s.ask("PUT", "/v1/bytes", b"x" * (4 << 20))[2])["n"], 4 << 20)
        self.assertEqual(s.ask("PUT", "/v1/bytes", b"x" * ((4 << 20) + 1))[0], 413)

    def test_chunked_bodies(self):
        s = self.server
        head = b"POST /v1/json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        self.assertTrue(s.raw(head + b"1\r\n[\r\n2\r\n1]\r\n0\r\n\r\n").endswith(b"[1]"))
        reply = s.raw(head + b"fffff\r\n" + b"x" * 0xfffff + b"\r\n0\r\n\r\n")
        self.assertEqual(status_of(reply), 413)
        with s.connect() as c:  # without an end
            c.sendall(head)
            try:
                for _ in range(400):
                    c.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                self.fail("the server took 25 MB")
            except OSError:
                pass
        for bad in (b"-1\r\n", b"zz\r\n", b"ffffffffffffffffff\r\n"):
            self.assertIn(status_of(s.raw(head + bad + b"x\r\n")), (0, 400, 413), bad)

    def test_malformed_requests_do_no_harm(self):
        s = self.server
        for data in (b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00\xff\x00\r\n\r\n", b"GET /v1/echo/a HTTP/1.1\r\n\r\n",
                     b"GET  /  HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
                     b"GET " + b"/" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                     b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                     b"POST /v1/json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3x\r\n\r\n",
                     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                     b"GET http://localhost HTTP/1.0\r\n\r\n", b"A" * 200 + b" / HTTP/1.0\r\n\r\n"):
            with s.connect() as c:
                with contextlib.suppress(OSError):  # refused and closed before all was said
                    c.sendall(data)
                    c.shutdown(socket.SHUT_WR)
                reply = receive(c)
            self.assertNotIn(status_of(reply), (200, 500), data[:40])
        self.assertEqual(s.get("/livez")[0], 200)

    def test_headers_have_a_limit(self):
        s = self.server
        head = b"GET /v1/echo/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        reply = s.raw(head + b"X-A: " + b"x" * 20000 + b"\r\n\r\n")
        self.assertEqual(status_of(reply), 431)
        self.assertIn(b'"error"', reply)
        self.assertEqual(status_of(s.raw(head + b"".join(b"X-%d: y\r\n" % i for i in range(3000)) + b"\r\n")), 431)
        with s.connect() as c:
            try:
                c.sendall(head)
                for i in range(200):
                    c.sendall(b"X-%d: " % i + b"y" * 4000 + b"\r\n")
            except OSError:
                pass
            self.assertIn(status_of(receive(c)), (0, 431))

    def test_hosts(self):
        s = self.server
        for host in ("localhost", "LocalHost:80", "127.0.0.1:8080", "[::1]:1", "127.1.2.3", "localhost."):
            self.assertEqual(s.get("/v1/echo/a", Host=host)[0], 200, host)
        for host in ("evil.example", "localhost.evil.example", "192.168.0.1", "localhost:80@evil", "127.0.0.1.evil", "[::1", ""):
            self.assertIn(s.get("/v1/echo/a", Host=host)[0], (400, 403), host)

    def test_origins(self):
        s = self.server
        here = f"http://127.0.0.1:{s.port}"
        self.assertEqual(s.get("/v1/echo/a", Origin=here)[0], 200)
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", here + ".evil", "file://"):
            status, r, _ = s.get("/v1/echo/a", Origin=origin)
            self.assertEqual((status, r.getheader("Access-Control-Allow-Origin")), (403, None), origin)
        self.assertEqual(s.json("/v1/json", "1", Origin="http://evil.example")[0], 403)
        self.assertEqual(s.ask("OPTIONS", "/v1/json", headers={"Origin": "http://evil.example",
                                                              "Access-Control-Request-Method": "POST"})[0], 403)

    def test_keep_alive_and_pipelining(self):
        s = self.server
        one = b"GET /v1/echo/%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /v1/echo/9 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        reply = s.raw(b"".join(one % i for i in range(9)) + last)
        self.assertEqual(re.findall(rb'"arg":"(\d)"', reply), [b"%d" % i for i in range(10)])
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=PATIENCE)
        for _ in range(50):
            c.request("POST", "/v1/json", b"[1]", {"Content-Type": "application/json"})
            self.assertEqual(c.getresponse().read(), b"[1]")
        c.close()

    def test_streams(self):
        s = self.server
        status, r, data = s.get("/v1/stream?n=5&size=3")
        self.assertEqual((status, r.getheader("Content-Type")), (200, "text/event-stream"))
        self.assertEqual(data, b"data: xxx\n\n" * 5 + b"data: [DONE]\n\n")
        self.assertEqual(s.get("/v1/late?n=3")[2], b"late")
        self.assertEqual(s.ask("HEAD", "/v1/stream?n=1")[2], b"")
        old = s.raw(b"GET /v1/stream?n=2&size=1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        self.assertTrue(old.endswith(b"data: x\n\ndata: x\n\ndata: [DONE]\n\n"))
        s.settle()

    def test_large_stream_with_back_pressure(self):
        s = self.server
        with s.connect() as c:
            c.sendall(b"GET /v1/stream?n=60&size=1000000 HTTP/1.0\r\n\r\n")
            time.sleep(1)
            rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{s.process.pid}/status").read_text()).group(1))
            n = len(receive(c))
        self.assertGreater(n, 60 * 1000000)
        if not os.environ.get("ZAMBA_SANITIZE"):
            self.assertLess(rss, 60000)
        s.settle()


class Gone(unittest.TestCase):
    def test_clients_that_leave_at_every_stage(self):
        body = b'{"a": 1}'
        post = b"POST /v1/stream?n=-1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n" + body
        with Server() as s:
            before = s.descriptors() + 1  # the counts are asked for over a connection
            for leave in (socket.socket.close, vanish):
                for cut in list(range(0, len(post), 7)) + [len(post) - 1]:
                    c = s.connect()
                    c.sendall(post[:cut])
                    leave(c)
                for path in (b"/v1/stream?n=-1", b"/v1/late?n=-1", b"/v1/stream?n=1000000&size=5"):
                    for seconds in (0, 0.01, 0.1):
                        c = s.connect()
                        c.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        time.sleep(seconds)
                        leave(c)
                for _ in range(5):
                    c = s.connect()
                    c.sendall(post)
                    if leave is vanish:
                        self.assertIn(b"200", c.recv(100))
                    leave(c)
            s.settle()
            end = time.time() + PATIENCE
            while s.descriptors() > before and time.time() < end:
                time.sleep(0.05)
            self.assertLessEqual(s.descriptors(), before)
            self.assertEqual(s.get("/v1/echo/a")[0], 200)

    def test_a_client_that_leaves_is_closed_while_others_stay(self):
        with Server() as s, contextlib.ExitStack() as stack:
            for _ in range(8):  # older ones, idle, with each of the server's threads
                c = stack.enter_context(s.connect())
                c.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                self.assertIn(b"200", c.recv(1000))
            before = s.descriptors()
            for leave in (socket.socket.close, vanish):
                held = [s.connect() for _ in range(20)]
                for i, c in enumerate(held):
                    c.sendall(b"GET /v1/%s?n=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"stream", b"late")[i % 2])
                for c in held[::2]:
                    self.assertIn(b"200", c.recv(100))
                for c in held:
                    leave(c)
                end = time.time() + 5
                while s.descriptors() > before and time.time() < end:
                    time.sleep(0.05)
                self.assertEqual(s.descriptors(), before)

    def test_a_client_that_leaves_stops_its_work_soon(self):
        with Server() as s:
            c = s.connect()
            c.sendall(b"GET /v1/late?n=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            s.settle(1)
            c.close()
            start = time.time()
            s.settle(0)
            self.assertLess(time.time() - start, 2)

    def test_a_reader_that_stops_is_dropped(self):
        with Server("write_s=1", "buffer=100000") as s:
            c = s.connect()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.sendall(b"GET /v1/stream?n=1000000&size=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            s.settle(1)
            s.settle(0)
            c.close()

    def test_slow_requests(self):
        with Server("header_s=0.3", "body_s=0.3", "idle_s=0.3") as s:
            start = time.time()
            for data in (b"", b"GET /v1/echo/a HT", b"GET /v1/echo/a HTTP/1.1\r\nHost: loc"):
                reply = s.raw(data)
                self.assertIn(status_of(reply), (408,), data)
            with s.connect() as c:  # a byte now and then does not help
                c.sendall(b"GET /v1/echo/a HTTP/1.1\r\n")
                try:
                    for _ in range(100):
                        c.sendall(b"X-A: b\r\n")
                        time.sleep(0.1)
                    self.fail("still there after 10 s")
                except OSError:
                    pass
            reply = s.raw(b"POST /api/json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            self.assertEqual((status_of(reply), type(json.loads(reply.split(b"\r\n\r\n")[1])["error"])), (408, str))
            reply = s.raw(b"GET /v1/echo/a HTTP/1.1\r\nHost: localhost\r\n\r\n")  # kept alive, then idle
            self.assertEqual(status_of(reply), 200)
            self.assertLess(time.time() - start, 15)

    def test_many_streams_at_once(self):
        n = 300
        with Server() as s:
            s.get("/livez")
            before = s.descriptors()
            clients = [s.connect() for _ in range(n)]
            for c in clients:
                c.sendall(b"GET /v1/stream?n=20&size=50 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            threads = len(os.listdir(f"/proc/{s.process.pid}/task"))
            self.assertLess(threads, 20)
            for c in clients:
                reply = receive(c)
                self.assertEqual(reply.count(b"data: " + b"x" * 50), 20)
                self.assertIn(b"[DONE]", reply)
                c.close()
            s.settle()
            time.sleep(0.2)
            self.assertLessEqual(s.descriptors(), before)


class Access(unittest.TestCase):
    def test_keys(self):
        with Server("key=alpha", "key=beta-beta", "log=1") as s:
            for headers in ({"Authorization": "Bearer alpha"}, {"Authorization": "bearer   alpha"}, {"api-key": "alpha"},
                            {"X-Api-Key": "alpha"}):
                status, _, data = s.ask("GET", "/v1/echo/a", headers=headers)
                self.assertEqual((status, json.loads(data)["key"]), (200, "alpha"), headers)
            for headers in ({}, {"Authorization": "Bearer alph"}, {"Authorization": "Bearer alphab"}, {"Authorization": "alpha"},
                            {"Authorization": "Basic alpha"}, {"Authorization": "Bearer "}, {"api-key": ""}):
                for path in ("/v1/echo/a", "/v1/none", "/version"):
                    status, r, data = s.ask("GET", path, headers=headers)
                    self.assertEqual((status, r.getheader("WWW-Authenticate")), (401, "Bearer"), (path, headers))
            self.assertEqual(s.json("/api/json", "1")[0], 401)
            for path in ("/livez", "/readyz", "/health"):
                self.assertEqual(s.get(path)[0], 200)
        self.assertNotIn("Bearer", s.log)
        self.assertIn("127.0.0.1 alpha GET /v1/echo/a 200", s.log)

    def test_beyond_loopback_a_key_is_needed(self):
        with Server("host=0.0.0.0") as s:
            self.assertIn("--api-key", s.error)
        with Server("host=0.0.0.0", "anonymous=1") as s:
            self.assertEqual(s.get("/v1/echo/a")[0], 200)
            self.assertEqual(s.get("/v1/echo/a", Host="10.1.2.3")[0], 200)
            self.assertEqual(s.get("/v1/echo/a", Host="evil.example")[0], 403)
        with Server("host=0.0.0.0", "key=k", "allow=api.example") as s:
            self.assertEqual(s.get("/v1/echo/a", Host="api.example", Authorization="Bearer k")[0], 200)

    def test_named_origins_get_cors(self):
        with Server("origin=https://app.example", "key=k") as s:
            asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST",
                     "Access-Control-Request-Headers": "authorization,content-type"}
            status, r, _ = s.ask("OPTIONS", "/v1/json", headers=asked)
            self.assertEqual((status, r.getheader("Access-Control-Allow-Origin")), (204, "https://app.example"))
            status, r, _ = s.get("/v1/echo/a", Origin="https://app.example", Authorization="Bearer k")
            self.assertEqual((status, r.getheader("Access-Control-Allow-Origin")), (200, "https://app.example"))
            self.assertEqual(s.get("/v1/echo/a", Origin="https://other.example", Authorization="Bearer k")[0], 403)

    def test_requests_of_a_minute(self):
        with Server("rate=50", "key=a", "key=b") as s:
            seen = [s.get("/v1/echo/a", Authorization="Bearer a")[0] for _ in range(7)]
            self.assertEqual((seen[:5], seen[-1]), ([200] * 5, 429))
            status, r, _ = s.get("/v1/echo/a", Authorization="Bearer a")
            self.assertGreaterEqual(int(r.getheader("Retry-After")), 1)
            self.assertEqual(s.get("/v1/echo/a", Authorization="Bearer b")[0], 200)
            self.assertEqual(s.get("/livez")[0], 200)

    def test_connections_have_a_limit(self):
        with Server("per_address=4") as s:
            held = [s.connect() for _ in range(10)]
            time.sleep(0.3)
            for c in held:
                c.settimeout(0.2)
            closed = 0
            for c in held:
                try:
                    closed += c.recv(1) == b""
                except ConnectionResetError:
                    closed += 1
                except OSError:
                    pass
                c.close()
            self.assertEqual(closed, 6)

    def test_beyond_the_limit_of_connections_they_wait(self):
        ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with Server("connections=3") as s, contextlib.ExitStack() as stack:
            held = [stack.enter_context(s.connect()) for _ in range(6)]
            for c in held:
                c.sendall(ask)
            for i, c in enumerate(held):  # in their order: each that leaves lets the next one in
                self.assertIn(b"200", c.recv(1000))
                if i + 3 < len(held):
                    held[i + 3].settimeout(0.2)
                    with self.assertRaises(TimeoutError):
                        held[i + 3].recv(1000)
                    held[i + 3].settimeout(PATIENCE)
                c.close()
            self.assertEqual(s.get("/livez")[0], 200)


class Ends(unittest.TestCase):
    def test_closing_while_connections_come(self):
        for _ in range(5):
            with Server() as s:
                port, over = s.port, threading.Event()

                def knock():
                    while not over.is_set():
                        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as c:
                            c.sendall(b"GET /v1/echo/a HTTP/1.1\r\nHost: localhost\r\n\r\n")

                threads = [threading.Thread(target=knock) for _ in range(4)]
                for t in threads:
                    t.start()
                time.sleep(0.05)
            over.set()  # the server has ended, with 0
            for t in threads:
                t.join()

    def test_drain_lets_answers_finish(self):
        with Server() as s:
            kept = s.connect()
            kept.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn(b"200", kept.recv(1000))
            c = s.connect()
            c.sendall(b"GET /v1/stream?n=100&size=5 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            self.assertIn(b"200", c.recv(1000))
            s.say("drain")
            time.sleep(0.1)
            with self.assertRaises(OSError):
                s.connect(1)
            kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(status_of(kept.recv(1000)), 503)
            kept.close()
            self.assertIn(b"[DONE]", receive(c))
            c.close()
            self.assertEqual(s.process.stdout.readline(), "1\n")

    def test_close_ends_what_is_under_way(self):
        with Server() as s:
            held = []
            for path in (b"/v1/stream?n=-1", b"/v1/late?n=-1", b"/v1/stream?n=1000000&size=1000") * 10:
                c = s.connect()
                c.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                held.append(c)
            held.append(s.connect())
            held[-1].sendall(b"POST /v1/json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n[")
            s.settle(30)
        for c in held:
            c.close()

    def test_noise(self):
        """Many threads, everything at once; nothing may be left."""
        def client(seed):
            import random
            r = random.Random(seed)
            for _ in range(25):
                try:
                    with s.connect() as c:
                        path = r.choice(["/v1/stream?n=5", "/v1/late?n=2", "/v1/echo/a", "/v1/stream?n=-1", "/v1/none", "/v1/fails"])
                        c.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()[:r.choice([9, 999])])
                        c.settimeout(r.choice([0.001, 0.01, 0.1]))
                        c.recv(r.choice([1, 1000]))
                        if r.random() < 0.5:
                            vanish(c)
                except OSError:
                    pass
        with Server() as s:
            threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            s.settle()


if __name__ == "__main__":
    unittest.main()
