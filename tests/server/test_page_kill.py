"""test_page_kill.py — what is kept through the server's sudden end: killed (-9) at random moments of answers and edits, then
started again; a damaged database, one of a newer version, a second server of the same folder. ZAMBA_TEST_KILLS: how many kills."""
import http.client
import os
import random
import sqlite3
import tempfile
import threading
import time
import unittest
from pathlib import Path

from page_server import LONG, SHORT, PageServer, with_sqlite

if __name__ == "__main__" and not with_sqlite():
    print("skipped: this build has no SQLite")
    raise SystemExit(77)

KILLS = int(os.environ.get("ZAMBA_TEST_KILLS") or 3)


class Kills(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.data = Path(self.folder.name) / "data"

    def tearDown(self):
        self.folder.cleanup()

    def check_whole(self):
        with sqlite3.connect(self.data / "history.db") as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            db.execute("INSERT INTO words(words, rank) VALUES('integrity-check', 1)")
        db.close()

    def test_killed_while_writing(self):
        rng = random.Random(int(os.environ.get("ZAMBA_TEST_SEED") or 7))
        server, typed, chat = PageServer(self.data), {}, None
        for round_ in range(KILLS):
            server.start()
            chat = chat or server.chat(title="survivor")
            made = server.answer(chat, f"Question {round_}", settings={**LONG, "seed": round_})
            typed[made["message"]["id"]] = f"Question {round_}"
            stream, seen, kill_at = server.events(made["node"]), "", time.time() + rng.uniform(0, 1.6)
            try:
                for name, data in stream:
                    if name == "text":
                        seen += data["text"]
                    if name == "end" or time.time() >= kill_at:
                        break
            finally:
                ended = name == "end"
                server.kill()
                stream.close()
            server.start()
            nodes = {n["id"]: n for n in server.tree(chat)["nodes"]}
            for id_, text in typed.items():  # all that was typed and acknowledged is there
                self.assertEqual(nodes[id_]["content"], text)
            node = nodes[made["node"]["id"]]
            if ended:
                self.assertEqual(node["content"], seen)
            else:
                self.assertIn(node["status"], ("interrupted", "done"))
            if node["status"] == "interrupted":
                self.assertTrue(seen.startswith(node["content"]) or node["content"].startswith(seen), (seen, node["content"]))
                server.json("POST", f"/page/v1/answers/{node['id']}/continue", {"settings": {"max_tokens": 3, "ignore_eos": True}})
                after = server.ended(node)
                self.assertTrue(after["content"].startswith(node["content"]))
                self.assertEqual(after["status"], "done")
            self.assertEqual(server.json("GET", "/page/v1/chats?q=survivor")["total"], 1)
            server.stop()
            self.check_whole()

    def test_killed_among_edits(self):
        """Three tabs that type, rename, delete and take in, killed in the middle: what was acknowledged is there."""
        rng = random.Random(int(os.environ.get("ZAMBA_TEST_SEED") or 8))
        server, kept, refused, lock = PageServer(self.data), {}, [], threading.Lock()
        for _ in range(KILLS):
            server.start()
            over = threading.Event()

            def tab(seed, server=server, over=over):
                mine = random.Random(seed)
                try:
                    while not over.is_set():
                        chat = server.chat(title=f"tab {seed}")["id"]
                        text = f"typed {mine.random()} " * mine.choice([1, 1, 20000])
                        node = server.json("POST", f"/page/v1/chats/{chat}/nodes", {"parent": None, "role": "user", "content": text})["id"]
                        with lock:
                            kept[chat] = (node, {text})
                        change = text + " changed"
                        with lock:
                            kept[chat] = (node, {text, change})
                        server.json("PATCH", f"/page/v1/nodes/{node}", {"content": change})
                        with lock:
                            kept[chat] = (node, {change})
                        if mine.random() < 0.3:
                            with lock:
                                kept[chat] = (node, {change, None})
                            server.json("DELETE", f"/page/v1/chats/{chat}")
                            with lock:
                                kept[chat] = (node, {None})
                except (OSError, http.client.HTTPException, ValueError):
                    pass  # killed
                except AssertionError as e:
                    refused.append(e)

            tabs = [threading.Thread(target=tab, args=(rng.random(),)) for _ in range(3)]
            for t in tabs:
                t.start()
            time.sleep(rng.uniform(0, 0.5))
            server.kill()
            over.set()
            for t in tabs:
                t.join()
            server.start()
            for chat, (node, may_be) in kept.items():
                r = server.ask("GET", f"/page/v1/nodes/{node}")
                self.assertIn(r.json["content"] if r.status == 200 else None, may_be, chat)
            server.stop()
            self.check_whole()
            self.assertEqual(refused, [])
            kept = {chat: (node, may_be) for chat, (node, may_be) in kept.items() if None not in may_be}
        self.assertTrue(kept)

    def test_a_stop_in_the_middle_of_an_answer(self):
        with PageServer(self.data, "--drain-seconds", "0") as server:
            chat = server.chat()
            made = server.answer(chat, "Once", settings=LONG)
            server.events(made["node"]).until("text")
        with PageServer(self.data) as server:
            node = server.json("GET", f"/page/v1/nodes/{made['node']['id']}")
            self.assertIn(node["status"], ("interrupted", "done"))
            self.assertTrue(node["content"])

    def test_damaged(self):
        with PageServer(self.data) as server:
            server.chat(title="before")
        for junk in (lambda b: b"no database at all" * 100, lambda b: b[:4096] + os.urandom(len(b) - 4096), lambda b: b[:len(b) // 2 + 100]):
            file = self.data / "history.db"
            whole = junk(file.read_bytes())
            file.write_bytes(whole)
            with PageServer(self.data) as server:
                news = server.json("GET", "/page/v1/bootstrap")["history"]
                self.assertEqual(news["state"], "on", news)
                self.assertIn("damaged", news["message"])
                self.assertTrue((self.data / news["moved_aside"]).exists())
                self.assertEqual((self.data / news["moved_aside"]).read_bytes()[:4096], whole[:4096])
                self.assertEqual(server.ended(server.answer(server.chat(), "Hi", settings=SHORT)["node"])["status"], "done")

    def test_of_a_newer_version(self):
        with PageServer(self.data) as server:
            chat = server.chat(title="readable")
        with sqlite3.connect(self.data / "history.db") as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        with PageServer(self.data) as server:
            news = server.json("GET", "/page/v1/bootstrap")["history"]
            self.assertEqual((news["state"], news["reason"]), ("read_only", "newer"))
            self.assertEqual(server.tree(chat)["chat"]["title"], "readable")
            for method, path, body in [("POST", "/page/v1/chats", {}), ("PATCH", f"/page/v1/chats/{chat['id']}", {"title": "x"}),
                                       ("DELETE", f"/page/v1/chats/{chat['id']}", None),
                                       ("POST", f"/page/v1/chats/{chat['id']}/answers", {"message": {"content": "x"}})]:
                r = server.ask(method, path, body)
                self.assertEqual((r.status, r.json["error"]["code"]), (409, "history_read_only"), path)

    def test_a_second_server(self):
        with PageServer(self.data) as first, PageServer(self.data) as second:
            chat = first.chat(title="of the first")
            news = second.json("GET", "/page/v1/bootstrap")["history"]
            self.assertEqual((news["state"], news["reason"], news["other"]), ("off", "locked", "http://" + first.address))
            self.assertEqual(second.json("GET", "/page/v1/chats")["chats"], [])
            second.chat(title="of the second")
            self.assertEqual([c["id"] for c in first.json("GET", "/page/v1/chats")["chats"]], [chat["id"]])


if __name__ == "__main__":
    unittest.main()
