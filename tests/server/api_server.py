"""api_server.py — a server of the starter model for the tests of its APIs, and requests to it with the standard library.
ZAMBA_API_URL names one that is there already."""
import http.client
import json
import os
import re
import subprocess
import unittest
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "models" / "starter-zamba2"
PROGRAM = os.environ.get("ZAMBA_PROGRAM") or str(ROOT / "build" / "release" / "zamba")
NAME = "starter-zamba2"
PATIENCE = 300 if os.environ.get("ZAMBA_SANITIZE") else 60


class Reply:
    def __init__(self, response):
        self.status, self.headers, self.data = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def events(self):
        """The data of server-sent events; comments as None."""
        out = []
        for block in self.data.decode().split("\n\n"):
            for line in block.splitlines():
                if line.startswith("data: "):
                    out.append(line[6:])
                elif line.startswith(":"):
                    out.append(None)
        return out

    @property
    def chunks(self):
        return [json.loads(e) for e in self.events if e not in (None, "[DONE]")]

    @property
    def lines(self):
        return [json.loads(line) for line in self.data.splitlines() if line.strip()]


class Served(unittest.TestCase):
    """One server for all tests of a class."""
    options = ()
    model = MODEL

    @classmethod
    def setUpClass(cls):
        cls.process = None
        cls.url = os.environ.get("ZAMBA_API_URL")
        if not cls.url:
            cls.process = subprocess.Popen([PROGRAM, "serve", str(cls.model), "--port", "0", *cls.options],
                                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                           text=True)
            said = []
            for line in cls.process.stdout:
                said.append(line)
                found = re.search(r"http://[\w.\[\]:]+:\d+", line)
                if found:
                    cls.url = found.group(0)
                    break
            if not cls.url:
                cls.process.kill()
                cls.process.wait()
                raise AssertionError("no server: " + "".join(said))
        cls.address = urllib.parse.urlsplit(cls.url).netloc

    @classmethod
    def tearDownClass(cls):
        if cls.process:
            cls.process.terminate()
            left, _ = cls.process.communicate(timeout=PATIENCE)
            assert cls.process.returncode == 0, (cls.process.returncode, left)

    def ask(self, method, path, body=None, **headers):
        c = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        if isinstance(body, (dict, list)):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        elif isinstance(body, str):
            body, headers = body.encode(), {"Content-Type": "application/json", **headers}
        try:
            c.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            return Reply(c.getresponse())
        finally:
            c.close()

    def post(self, path, **body):
        r = self.ask("POST", path, body)
        self.assertIn(r.status, (200, 201), r.data)
        return r

    def refused(self, path, status, field, **body):
        """The reply is an error in the path's shape, with the field named."""
        r = self.ask("POST", path, body)
        self.assertEqual(r.status, status, (body, r.data))
        if path.startswith("/api/"):
            self.assertEqual(list(r.json), ["error"])
            self.assertIn(field or "", r.json["error"])
        else:
            self.assertEqual(set(r.json["error"]), {"message", "type", "param", "code"})
            self.assertEqual(r.json["error"]["param"], field, r.data)
        return r
