"""test_page_trouble.py — the server where its data folder is no good: a full disk while an answer is written and at the
start, folders and files that may not be written, somebody else's database, none at all. It starts, says in plain words what
was found, and goes on; what was typed before is there."""
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from api_server import PATIENCE, PROGRAM
from page_server import LONG, SHORT, PageServer, with_sqlite

if __name__ == "__main__" and not with_sqlite():
    print("skipped: this build has no SQLite")
    raise SystemExit(77)

ROOT_USER = os.getuid() == 0
NOBODY = 65534


def as_nobody():
    """How a program is started that may not write everywhere; None: it cannot be."""
    if not ROOT_USER:
        return {}
    how = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        done = subprocess.run([PROGRAM, "--version"], capture_output=True, timeout=PATIENCE, **how)
    except (PermissionError, OSError):
        return None
    return how if done.returncode == 0 else None


class Trouble(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name) / "data"

    def news(self, server):
        return server.json("GET", "/page/v1/bootstrap")["history"]

    def check_talks(self, server):
        """Whatever became of the history: a chat works."""
        chat = server.chat(title="now")
        node = server.ended(server.answer(chat, "Hi", settings=SHORT)["node"])
        self.assertEqual(node["status"], "done", node)
        self.assertEqual(len(server.tree(chat)["nodes"]), 2)

    def check_off(self, server, *words):
        news = self.news(server)
        self.assertEqual((news["state"], news["reason"]), ("off", "failed"), news)
        for word in (*words, "--data"):
            self.assertIn(word, news["message"])
        self.check_talks(server)
        server.stop()
        self.assertIn(news["message"] + "; chats are not kept", server.said)

    def test_not_a_folder(self):
        self.data.write_text("a file")
        with PageServer(self.data) as server:
            self.check_off(server, str(self.data), "Not a directory")
        self.assertEqual(self.data.read_text(), "a file")

    def test_a_folder_for_a_file(self):
        (self.data / "history.db").mkdir(parents=True)
        with PageServer(self.data) as server:
            self.check_off(server, "history.db", "a folder, wanted a file")

    def test_somebody_elses(self):
        self.data.mkdir()
        with sqlite3.connect(self.data / "history.db") as db:
            db.execute("CREATE TABLE bookmarks(url)")
        db.close()
        before = (self.data / "history.db").read_bytes()
        with PageServer(self.data) as server:
            self.check_off(server, "history.db", "another program's database")
        self.assertEqual((self.data / "history.db").read_bytes(), before)

    def test_may_not_be_written(self):
        how = as_nobody()
        if how is None:
            self.skipTest("nobody may not run the program here")
        with PageServer(self.data) as server:
            chat = server.chat(title="readable")
        file, outside = self.data / "history.db", self.data.parent
        if ROOT_USER:
            for path in (outside, self.data, *self.data.iterdir()):
                os.chown(path, NOBODY, NOBODY)
        file.chmod(stat.S_IRUSR)
        server = PageServer(self.data)
        server.how = how
        with server:
            news = self.news(server)
            self.assertEqual((news["state"], news["reason"]), ("read_only", "failed"), news)
            self.assertIn("history.db cannot be written", news["message"])
            self.assertEqual(server.tree(chat)["chat"]["title"], "readable")
            r = server.ask("POST", "/page/v1/chats", {})
            self.assertEqual((r.status, r.json["error"]["code"]), (409, "history_read_only"))
        file.chmod(0)
        with server:
            self.check_off(server, "history.db", "unable to open", "Permission denied")
        file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        (self.data / "history.lock").unlink()
        self.data.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with server:
            self.check_off(server, "history.lock", "Permission denied")
        self.data.chmod(stat.S_IRWXU)
        with server:
            self.assertEqual(self.news(server)["state"], "on")
            self.assertEqual(server.tree(chat)["chat"]["title"], "readable")

    # ---- no room ----

    def check_full_while_it_runs(self, server, fill, free):
        """An answer under way, and what is typed, while there is no room; then there is some again."""
        chat = server.chat(title="full")
        server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", {"parent": None, "role": "user", "content": "before"})
        made = server.answer(chat, "Once", settings={**LONG, "max_tokens": 60})
        fill()
        whole = server.ended(made["node"])
        self.assertEqual(whole["status"], "done", whole)
        self.assertTrue(whole["content"])
        large = "typed " * 200000
        body = {"parent": made["node"]["id"], "role": "user", "content": large}
        r = server.ask("POST", f"/page/v1/chats/{chat['id']}/nodes", body)
        self.assertEqual((r.status, r.json["error"]["code"]), (507, "history_full"), r.data)
        self.assertIn("full", r.json["error"]["message"])
        self.assertEqual(server.tree(chat)["chat"]["title"], "full")
        self.assertEqual(server.ask("GET", "/health").status, 200)
        self.assertEqual(server.ask("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 3}).status, 200)
        free()
        self.assertEqual(server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", body)["content"], large)
        deadline = time.time() + PATIENCE
        while server.json("GET", "/page/v1/answers")["answers"] and time.time() < deadline:
            time.sleep(0.05)
        time.sleep(2.5)  # what could not be kept is tried again
        server.kill()  # and kept: nothing is left to be written at the end
        server.start()
        nodes = {n["id"]: n for n in server.tree(chat)["nodes"]}
        self.assertEqual(nodes[whole["id"]]["content"], whole["content"])
        self.assertEqual(nodes[whole["id"]]["status"], "done")
        return chat

    def test_no_room_by_a_limit(self):
        server = PageServer(self.data)

        def limit(n):
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))

        with server:
            self.check_full_while_it_runs(server, lambda: limit(4096), lambda: limit(resource.RLIM_INFINITY))

    def test_no_room_on_a_small_disk(self):
        disk = self.data.parent / "disk"
        disk.mkdir()
        if not ROOT_USER or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "zamba-test", disk], capture_output=True).returncode:
            self.skipTest("no small disk can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk])

        def fill():
            with open(disk / "fill", "wb", buffering=0) as f:
                try:
                    while f.write(b"x" * 4096):
                        pass
                except OSError:
                    pass

        server = PageServer(disk / "data")
        with server:
            chat = self.check_full_while_it_runs(server, fill, (disk / "fill").unlink)
        # from the start: what there is can be read, and written when there is room
        fill()
        with server:
            news = self.news(server)
            self.assertEqual(news["state"], "on", news)
            self.assertIn("full", news["message"])
            self.assertEqual(server.tree(chat)["chat"]["title"], "full")
            r = server.ask("POST", "/page/v1/chats", {"title": "x" * 900, "system": "y" * 500000})
            self.assertEqual((r.status, r.json["error"]["code"]), (507, "history_full"))
            (disk / "fill").unlink()
            self.check_talks(server)
        shutil.rmtree(disk / "data")
        fill()
        with server:
            news = self.news(server)
            self.assertEqual((news["state"], news["reason"]), ("off", "failed"), news)
            self.check_talks(server)


if __name__ == "__main__":
    unittest.main()
