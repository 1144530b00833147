"""page_server.py — a server with the page's data folder of its own, that can be killed and started again, and requests to it
with the standard library: JSON, and streams of events that are read piece by piece."""
import http.client
import json
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from api_server import MODEL, PATIENCE, PROGRAM, Reply


class Stream:
    """Server-sent events of one request: (name, data) one after the other."""

    def __init__(self, address, path, headers):
        self.connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers

    def __iter__(self):
        return self

    def __next__(self):
        name, data = None, []
        while True:
            line = self.response.readline()
            if not line:
                self.close()
                raise StopIteration
            line = line.decode().rstrip("\r\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data.append(line[6:])
            elif not line and data:
                return name, json.loads("\n".join(data))

    def until(self, wanted):
        for name, data in self:
            if name == wanted:
                return data
        raise AssertionError(f"the stream ended without {wanted}")

    def close(self):
        self.response.close()
        self.connection.close()


class PageServer:
    def __init__(self, data=None, *options, model=MODEL, models=()):
        self.command = [PROGRAM, "serve", str(model), *map(str, models), "--port", "0", "--cache-ram", "64",
                        *(["--data", str(data)] if data else []), *map(str, options)]
        self.process = None
        self.headers = {}
        self.how = {}  # it is started: words of subprocess.Popen

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, **self.how)
        line = self.process.stdout.readline()
        found = re.search(r"http://([\w.\[\]:]+:\d+)", line)
        if not found:
            self.process.kill()
            raise AssertionError("no server: " + line + self.process.communicate()[1])
        self.address = found.group(1)
        return self

    def kill(self):
        """As at a power cut: nothing is said before."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        self.process = None

    def stop(self):
        self.process.terminate()
        self.said = self.process.communicate(timeout=PATIENCE)[1]
        code, self.process = self.process.returncode, None
        assert code == 0, (code, self.said)

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, kind, *_):
        if self.process is not None:
            if kind:
                self.kill()
            else:
                self.stop()

    def ask(self, method, path, body=None, **headers):
        c = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        headers = {**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            headers = {"Content-Type": "application/json", **headers}
            body = body.encode()
        try:
            c.request(method, path, body, headers)
            return Reply(c.getresponse())
        finally:
            c.close()

    def json(self, method, path, body=None, status=(200, 201, 202), **headers):
        r = self.ask(method, path, body, **headers)
        if r.status not in ((status,) if isinstance(status, int) else status):
            raise AssertionError(f"{method} {path}: {r.status} {r.data[:2000]}")
        return r.json

    def stream(self, path):
        return Stream(self.address, path, self.headers)

    # ---- what most tests do ----

    def chat(self, **fields):
        return self.json("POST", "/page/v1/chats", fields)

    def answer(self, chat, content=None, parent=None, **fields):
        body = {"parent": parent, **fields}
        if content is not None:
            body["message"] = {"content": content}
        return self.json("POST", f"/page/v1/chats/{chat['id']}/answers", body)

    def events(self, node, start=0):
        return self.stream(f"/page/v1/answers/{node['id']}/events?from={start}")

    def ended(self, node):
        with_stream = self.events(node)
        try:
            return with_stream.until("end")["node"]
        finally:
            with_stream.close()

    def tree(self, chat):
        return self.json("GET", f"/page/v1/chats/{chat['id']}")


class PageCase(unittest.TestCase):
    """One server for all tests of a class; what needs its own starts it."""
    options = ()
    history = True

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = PageServer(Path(cls.folder.name) / "data" if cls.history else None, *cls.options).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.cleanup()


SHORT = {"max_tokens": 24, "temperature": 0}
LONG = {"max_tokens": 400, "temperature": 1, "ignore_eos": True, "seed": 5}


def with_sqlite():
    """Does this program keep chats?"""
    with tempfile.TemporaryDirectory() as folder, PageServer(folder) as s:
        return s.json("GET", "/page/v1/bootstrap")["features"]["chats"]
