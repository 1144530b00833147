"""test_page_without_sqlite.py — a program that was built without SQLite: the page is there and says in plain words that there are
no chats; everything else works."""
import subprocess
import tempfile
import unittest

from api_server import NAME
from page_server import PageCase, with_sqlite

if __name__ == "__main__" and with_sqlite():
    print("skipped: this build has SQLite")
    raise SystemExit(77)

WORDS = "built without SQLite"
PATHS = ["chats", "chats/0123456789abcdef01234567", "chats/0123456789abcdef01234567/nodes", "folders", "presets/x", "nodes/x/tokens",
         "answers", "answers/x/events"]


class WithoutSqlite(PageCase):
    def test_it_is_told(self):
        told = self.server.json("GET", "/page/v1/bootstrap")
        self.assertEqual((told["history"]["state"], told["history"]["reason"]), ("off", "not_built"))
        self.assertIn(WORDS, told["history"]["message"])
        self.assertEqual([told["features"][k] for k in ("chats", "search", "states")], [False] * 3)
        asked = [(method, path) for path in PATHS for method in ("GET", "POST", "PATCH", "DELETE")]
        for method, path in [*asked, ("GET", "export"), ("POST", "import")]:
            r = self.server.ask(method, f"/page/v1/{path}", {} if method in ("POST", "PATCH") else None)
            self.assertEqual((r.status, r.json["error"]["code"]), (503, "history_off"), (method, path))
            self.assertIn(WORDS, r.json["error"]["message"])
            self.assertNotIn("Retry-After", r.headers)  # it will not get better

    def test_all_else_works(self):
        for path in ("/", "/c/0123456789abcdef01234567", "/dashboard"):
            self.assertIn(b"<script", self.server.ask("GET", path).data, path)
        self.assertEqual(self.server.json("GET", "/page/v1/models")["models"][0]["name"], NAME)
        self.assertEqual(self.server.json("GET", "/page/v1/model")["name"], NAME)
        self.assertEqual(self.server.json("GET", "/page/v1/live")["models"][0]["name"], NAME)
        self.assertEqual(self.server.json("GET", "/page/v1/runs")["runs"], [])
        stream = self.server.stream("/page/v1/events")
        self.assertEqual(next(stream)[0], "hello")
        stream.close()
        made = self.server.json("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 3, "temperature": 0})
        self.assertTrue(made["choices"][0]["text"])

    def test_it_is_said(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [*self.server.command, "--data", folder]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
                p.stdout.readline()
                p.terminate()
                self.assertIn(WORDS, p.communicate(timeout=60)[1])
                self.assertEqual(p.returncode, 0)


if __name__ == "__main__":
    unittest.main()
