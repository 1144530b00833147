"""test_page_server.py — the page's side of the server against the starter model: its files and their headers, chats, the tree,
answers that go on without anybody watching, search, two tabs, states, runs. How it comes through kills is test_page_kill.py."""
import gzip
import http.client
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from api_server import MODEL, NAME, PROGRAM
from page_server import LONG, SHORT, PageCase, PageServer, with_sqlite

if __name__ == "__main__" and not with_sqlite():
    print("skipped: this build has no SQLite")
    raise SystemExit(77)

POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; "
          "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
VIEWS = ["/", "/c/0123456789abcdef01234567", "/c/x/tree", "/compare/x", "/notebook", "/notebook/x", "/history", "/models", "/model",
         "/model/Org/Name", "/dashboard", "/training", "/training/run", "/charts", "/settings", "/help"]


def units(text):
    return len(text.encode("utf-16-le")) // 2


class Files(PageCase):
    def test_every_view_is_the_page_under_its_policy(self):
        first = self.server.ask("GET", "/")
        for path in VIEWS:
            r = self.server.ask("GET", path)
            self.assertEqual((r.status, r.data), (200, first.data), path)
            self.assertEqual(r.headers["Content-Security-Policy"], POLICY)
            self.assertEqual(r.headers["Content-Type"], "text/html; charset=utf-8")
            self.assertEqual(r.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(r.headers["Referrer-Policy"], "no-referrer")
            self.assertEqual(r.headers["Cache-Control"], "no-cache")
        self.assertEqual(self.server.json("GET", "/page/v1/bootstrap")["build"], first.headers["ETag"].strip('"'))

    def test_gzip_is_the_same_and_tags_count(self):
        paths = ["/", *re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css|svg))"', self.server.ask("GET", "/").data.decode())]
        for path in paths:
            plain = self.server.ask("GET", path)
            packed = self.server.ask("GET", path, Accept_Encoding="br, gzip;q=0.8")
            self.assertEqual(plain.status, 200, path)
            self.assertIsNone(plain.headers["Content-Encoding"])
            if packed.headers["Content-Encoding"] == "gzip":
                self.assertEqual(gzip.decompress(packed.data), plain.data, path)
                self.assertEqual(packed.headers["Vary"], "Accept-Encoding")
                self.assertNotEqual(packed.headers["ETag"], plain.headers["ETag"])
            self.assertIsNone(self.server.ask("GET", path, Accept_Encoding="gzip;q=0").headers["Content-Encoding"])
            for tag in (plain.headers["ETag"], packed.headers["ETag"], "W/" + plain.headers["ETag"], '"x", ' + plain.headers["ETag"]):
                again = self.server.ask("GET", path, If_None_Match=tag)
                self.assertEqual((again.status, again.data), (304, b""), (path, tag))
            self.assertEqual(self.server.ask("GET", path, If_None_Match='"other"').status, 200)
            if path.startswith("/assets/"):
                self.assertEqual(plain.headers["Cache-Control"], "public, max-age=31536000, immutable")

    def test_every_reply_has_a_policy(self):
        for method, path, status in [("GET", "/nothing", 404), ("GET", "/page/v1/bootstrap", 200), ("GET", "/v1/models", 200),
                                     ("GET", "/page/v1/chats/" + "0" * 24, 404), ("POST", "/", 405), ("GET", "/assets/../x", 404),
                                     ("GET", "/assets/%2e%2e/x", 404), ("GET", "/%00", 400), ("GET", "/page/v1/artifacts/x", 404)]:
            r = self.server.ask(method, path)
            self.assertEqual(r.status, status, path)
            self.assertIn("default-src 'none'", r.headers["Content-Security-Policy"])
            self.assertEqual(r.headers["X-Content-Type-Options"], "nosniff")

    def test_host_and_origin_count_here_too(self):
        self.assertEqual(self.server.ask("GET", "/", Host="evil.example").status, 403)
        self.assertEqual(self.server.ask("POST", "/page/v1/chats", {}, Origin="https://evil.example").status, 403)


class Keys(PageCase):
    options = ("--api-key", "secret-one", "--api-key", "secret-two")

    def tearDown(self):
        self.server.headers = {}

    def test_the_page_needs_none_its_data_does(self):
        self.assertEqual(self.server.ask("GET", "/").status, 200)
        b = self.server.json("GET", "/page/v1/bootstrap")
        self.assertEqual((b["needs_key"], b["authorized"]), (True, False))
        self.assertNotIn("models", b)
        for path in ("/page/v1/chats", "/page/v1/events", "/page/v1/live", "/page/v1/runs", "/page/v1/export"):
            self.assertEqual(self.server.ask("GET", path).status, 401, path)
        self.server.headers = {"Authorization": "Bearer secret-one"}
        self.assertTrue(self.server.json("GET", "/page/v1/bootstrap")["authorized"])

    def test_chats_are_the_keys_own(self):
        self.server.headers = {"Authorization": "Bearer secret-one"}
        chat = self.server.chat(title="mine")
        made = self.server.answer(chat, "Hello", settings=LONG)
        folder = self.server.json("POST", "/page/v1/folders", {"name": "mine"})
        self.server.headers = {"Authorization": "Bearer secret-two"}
        node = made["node"]["id"]
        for method, path, body in [("GET", f"/page/v1/chats/{chat['id']}", None), ("DELETE", f"/page/v1/chats/{chat['id']}", None),
                                   ("PATCH", f"/page/v1/chats/{chat['id']}", {"title": "x"}), ("GET", f"/page/v1/nodes/{node}", None),
                                   ("POST", f"/page/v1/chats/{chat['id']}/answers", {}), ("GET", f"/page/v1/nodes/{node}/tokens", None),
                                   ("GET", f"/page/v1/answers/{node}/events", None), ("POST", f"/page/v1/answers/{node}/stop", None),
                                   ("DELETE", f"/page/v1/nodes/{node}", None), ("DELETE", f"/page/v1/folders/{folder['id']}", None),
                                   ("GET", f"/page/v1/chats/{chat['id']}/export", None), ("POST", f"/page/v1/nodes/{node}/state", None),
                                   ("POST", f"/page/v1/answers/{node}/continue", {}), ("GET", f"/page/v1/nodes/{node}/prompt", None),
                                   ("PATCH", f"/page/v1/nodes/{node}", {"content": "x"}), ("GET", f"/page/v1/chats/{chat['id']}/states", None)]:
            self.assertEqual(self.server.ask(method, path, body).status, 404, (method, path))
        self.assertEqual(self.server.json("GET", "/page/v1/chats")["chats"], [])
        self.assertEqual(self.server.json("GET", "/page/v1/answers")["answers"], [])
        self.assertEqual(self.server.json("GET", "/page/v1/export")["chats"], [])
        self.assertEqual(self.server.json("DELETE", "/page/v1/chats?confirm=all")["count"], 0)
        self.server.headers = {"Authorization": "Bearer secret-one"}
        self.assertEqual(len(self.server.json("GET", "/page/v1/chats")["chats"]), 1)


class Chats(PageCase):
    def test_made_changed_listed_deleted(self):
        chat = self.server.chat(title="Foxes", system="Be short.", settings={"temperature": 0.5})
        self.assertEqual(chat["revision"], 1)
        same = self.server.ask("POST", "/page/v1/chats", {"id": chat["id"], "title": "other"})
        self.assertEqual((same.status, same.json["title"]), (200, "Foxes"))
        path = f"/page/v1/chats/{chat['id']}"
        changed = self.server.json("PATCH", path, {"revision": 1, "title": "Wolves", "pinned": True})
        self.assertEqual((changed["title"], changed["pinned"], changed["revision"], changed["system"]), ("Wolves", True, 2, "Be short."))
        late = self.server.ask("PATCH", path, {"revision": 1, "title": "Bears"})
        self.assertEqual((late.status, late.json["error"]["code"], late.json["current"]["title"]), (409, "revision_conflict", "Wolves"))
        for bad in ({"settings": {"temperature": 9}}, {"settings": {"unknown": 1}}, {"title": 5}, {"folder": "0" * 23}):
            self.assertEqual(self.server.ask("PATCH", path, bad).status, 400, bad)
        self.assertEqual(self.server.ask("PATCH", path, {"folder": "0" * 24}).status, 404)
        folder = self.server.json("POST", "/page/v1/folders", {"name": "Animals"})
        self.server.json("PATCH", path, {"folder": folder["id"]})
        self.assertEqual([c["id"] for c in self.server.json("GET", f"/page/v1/chats?folder={folder['id']}")["chats"]], [chat["id"]])
        self.server.json("DELETE", f"/page/v1/folders/{folder['id']}")
        self.assertIsNone(self.server.tree(chat)["chat"]["folder"])
        self.server.json("DELETE", path)
        self.assertEqual(self.server.ask("GET", path).json["error"]["code"], "chat_not_found")

    def test_pages_of_the_list(self):
        made = {self.server.chat(title=f"page {i}", pinned=i == 3)["id"] for i in range(12)}
        seen, after, first = [], "", None
        while True:
            page = self.server.json("GET", f"/page/v1/chats?limit=5{after}")
            seen += [c["id"] for c in page["chats"]]
            first = first or page["chats"][0]
            if not page["next"]:
                break
            after = "&after=" + page["next"]
        self.assertEqual(len(seen), len(set(seen)))
        self.assertTrue(made <= set(seen))
        self.assertTrue(first["pinned"])
        self.assertEqual(page["total"], len(seen))
        self.assertEqual(self.server.ask("GET", "/page/v1/chats?after=nonsense").status, 400)

    def test_presets(self):
        p = self.server.json("POST", "/page/v1/presets", {"name": "Calm", "system": "s", "settings": {"temperature": 0}})
        path = f"/page/v1/presets/{p['id']}"
        self.assertEqual(self.server.json("PATCH", path, {"name": "Calmer", "revision": 1})["settings"], {"temperature": 0})
        self.assertEqual(self.server.ask("PATCH", path, {"name": "x", "revision": 1}).status, 409)
        self.assertIn("Calmer", [x["name"] for x in self.server.json("GET", "/page/v1/presets")["presets"]])
        self.server.json("DELETE", path)
        self.assertEqual(self.server.ask("DELETE", path).status, 404)

    def test_search(self):
        chat = self.server.chat(title="Über den Wolken")
        post = f"/page/v1/chats/{chat['id']}/nodes"
        first = self.server.json("POST", post, {"role": "user", "content": "The quick brown fóx 😀 jumps\nover 100% lazy_dogs"})
        self.server.json("POST", post, {"role": "assistant", "content": "狐狸跳过懒狗", "parent": first["id"]})

        def found(q):
            reply = self.server.json("GET", "/page/v1/chats?q=" + "".join(f"%{b:02x}" for b in q.encode()))
            return [c for c in reply["chats"] if c["id"] == chat["id"]]

        for q in ("quick", "QUICK fox", "jum", '"brown fox"', "lazy dogs", "wolken", "跳过", "100%", "quick jum"):
            self.assertTrue(found(q), q)
        for q in ("quack", '"fox brown"', "quick turtle", '"', "'; DROP TABLE chats; --", "NEAR(", "a AND", "*", "fox*)", "text:"):
            found(q)  # whatever comes, it is an answer
        self.assertFalse(found("quack"))
        self.assertFalse(found('"fox brown"'))
        self.assertFalse(found("quick turtle"))
        hit = found("jumps")[0]["hits"][0]
        (a, b), = hit["marks"]
        text = hit["snippet"].encode("utf-16-le")
        self.assertEqual(text[2 * a:2 * b].decode("utf-16-le"), "jumps")
        hit = found("跳过")[0]["hits"][0]
        (a, b), = hit["marks"]
        self.assertEqual(hit["snippet"][a:b], "跳过")
        self.server.json("PATCH", f"/page/v1/nodes/{first['id']}", {"content": "Something else"})
        self.assertFalse(found("quick"))
        self.assertTrue(found("something"))
        self.assertEqual(self.server.ask("GET", "/page/v1/chats?q=" + "x" * 500).status, 400)

    def test_deleted_for_good(self):
        chat = self.server.chat(title="zebrasecret title")
        post = f"/page/v1/chats/{chat['id']}/nodes"
        for i in range(40):
            self.server.json("POST", post, {"role": "user", "content": f"zebrasecret {i} " + "filler words here " * 40})
        data = Path(self.folder.name) / "data"
        self.assertTrue(any(b"zebrasecret" in f.read_bytes() for f in data.iterdir()))
        self.server.json("DELETE", f"/page/v1/chats/{chat['id']}")
        for f in data.iterdir():
            self.assertNotIn(b"zebrasecret", f.read_bytes(), f)

    def test_out_and_in_again(self):
        chat = self.server.chat(title='A "title" / with <signs>', system="sys")
        a = self.server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", {"role": "user", "content": "one", "meta": {"files": ["x.py"]}})
        for text in ("two", "two again"):
            self.server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", {"role": "assistant", "content": text, "parent": a["id"]})
        r = self.server.ask("GET", f"/page/v1/chats/{chat['id']}/export?format=json")
        self.assertRegex(r.headers["Content-Disposition"], r'^attachment; filename="[\w.-]+\.json"$')
        self.assertIn("default-src 'none'", r.headers["Content-Security-Policy"])
        text = self.server.ask("GET", f"/page/v1/chats/{chat['id']}/export?format=markdown").data.decode()
        self.assertIn("two again", text)
        self.assertNotIn("two\n", text)
        again = self.server.json("POST", "/page/v1/import", r.json)
        self.assertEqual(again["renamed"], 1)
        tree = self.server.tree(again["chats"][0])
        self.assertEqual(sorted(n["content"] for n in tree["nodes"]), ["one", "two", "two again"])
        self.assertEqual(tree["nodes"][0]["meta"], {"files": ["x.py"]})
        self.assertEqual(tree["nodes"][1]["parent"], tree["nodes"][0]["id"])
        self.server.json("DELETE", f"/page/v1/chats/{chat['id']}")
        self.assertEqual(self.server.json("POST", "/page/v1/import", r.json)["renamed"], 0)
        whole = self.server.json("GET", "/page/v1/export")
        self.assertGreaterEqual(len(whole["chats"]), 2)
        for bad in ([], {"format": "other"}, {"format": "zamba-chats", "version": 99, "chats": []},
                    {"format": "zamba-chats", "version": 1, "chats": [{"tree": [{"id": "a", "role": "user", "content": "", "parent": "b"}]}]},
                    {"format": "zamba-chats", "version": 1, "chats": [{"tree": [{"id": "a", "role": "boss", "content": ""}]}]},
                    {"format": "zamba-chats", "version": 1, "chats": [{}]}, {"format": "zamba-chats", "version": 1, "chats": [5]}):
            self.assertEqual(self.server.ask("POST", "/page/v1/import", bad).status, 422, bad)


class Answers(PageCase):
    def test_an_answer_is_streamed_and_kept(self):
        chat = self.server.chat()
        made = self.server.answer(chat, "Once upon a time", settings=SHORT)
        self.assertEqual(made["node"]["status"], "streaming")
        events = list(self.server.events(made["node"]))
        names = [name for name, _ in events]
        self.assertEqual((names[0], names[-1]), ("state", "end"))
        text = "".join(data["text"] for name, data in events if name == "text")
        node = events[-1][1]["node"]
        self.assertEqual(node["content"], text)
        self.assertEqual((node["status"], node["model"]), ("done", NAME))
        self.assertGreater(node["usage"]["generated"], 0)
        self.assertGreater(node["usage"]["tokens_per_second"], 0)
        self.assertGreater(node["usage"]["ttft_s"], 0)
        self.assertEqual(self.server.json("GET", f"/page/v1/nodes/{node['id']}"), node)
        # the same as the API of OpenAI gives
        other = self.server.json("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Once upon a time"}], **SHORT,
                                                                  "min_p": 0.05, "top_p": 0.95, "top_k": 40, "repeat_last_n": 64})
        self.assertEqual(other["choices"][0]["message"]["content"], text)

    def test_a_stream_goes_on_from_any_place(self):
        chat = self.server.chat()
        made = self.server.answer(chat, "Tell me of 😀", settings={**LONG, "logprobs": True, "top_logprobs": 2})
        first = self.server.events(made["node"])
        got = ""
        for name, data in first:
            if name == "text":
                self.assertEqual(data["at"], units(got))
                got += data["text"]
                if len(got) > 60:
                    break
        first.close()  # the tab is gone; the answer goes on
        rest = list(self.server.events(made["node"], units(got)))
        self.assertEqual(rest[0][1]["from"], units(got))
        got += "".join(data["text"] for name, data in rest if name == "text")
        node = rest[-1][1]["node"]
        self.assertEqual(node["content"], got)
        tokens = self.server.json("GET", f"/page/v1/nodes/{node['id']}/tokens")["tokens"]
        self.assertEqual(len(tokens), node["usage"]["generated"])
        at = 0
        for t in tokens:
            self.assertEqual(t["at"], at)
            at += t["n"]
            self.assertEqual(len(t["top"]), 2)
            self.assertLessEqual(t["logprob"], 0)
        self.assertEqual(at, units(got))
        # once more when all is over, from places in it and beyond
        for start in (0, 1, 33, units(got), units(got) + 100):
            events = list(self.server.events(made["node"], start))
            begin = min(start, units(got))
            self.assertEqual(events[0][1]["from"], begin)
            text = "".join(data["text"] for name, data in events if name == "text")
            self.assertEqual(text, got.encode("utf-16-le")[2 * begin:].decode("utf-16-le"))
        self.assertEqual(self.server.ask("GET", f"/page/v1/answers/{node['id']}/events?from=x").status, 400)

    def test_stop_then_continue_without_reading_again(self):
        chat = self.server.chat()
        made = self.server.answer(chat, "Once upon a time there was a king", settings=LONG)
        stream = self.server.events(made["node"])
        stream.until("text")
        node = self.server.json("POST", f"/page/v1/answers/{made['node']['id']}/stop")
        self.assertIn((node["status"], node["finish"]), (("stopped", "cancelled"), ("done", "length")))
        self.assertEqual(stream.until("end")["node"]["content"], node["content"])
        twice = self.server.ask("POST", f"/page/v1/answers/{node['id']}/stop")
        self.assertEqual((twice.status, twice.json["error"]["code"]), (409, "answer_not_under_way"))
        again = self.server.json("POST", f"/page/v1/answers/{node['id']}/continue", {"settings": {"max_tokens": 12, "ignore_eos": True}})
        self.assertEqual(again["status"], "streaming")
        after = self.server.ended(node)
        self.assertTrue(after["content"].startswith(node["content"]))
        self.assertGreater(len(after["content"]), len(node["content"]))
        self.assertLessEqual(after["usage"]["prompt"] - after["usage"]["cached"], 2)

    def test_branches_and_what_is_not_read_again(self):
        chat = self.server.chat()
        a = self.server.answer(chat, "Once upon a time there was a little fox who lived in the wood", settings=SHORT)
        one = self.server.ended(a["node"])
        b = self.server.answer(chat, parent=a["message"]["id"], settings={**SHORT, "temperature": 1, "seed": 3})
        two = self.server.ended(b["node"])
        self.assertEqual(two["parent"], one["parent"])
        self.assertLessEqual(two["usage"]["prompt"] - two["usage"]["cached"], 2)
        for node in (one, two):  # going on behind either branch
            c = self.server.answer(chat, "And then?", parent=node["id"], settings=SHORT)
            after = self.server.ended(c["node"])
            self.assertGreaterEqual(after["usage"]["cached"], node["usage"]["prompt"] + node["usage"]["generated"] - 1)
        states = self.server.json("GET", f"/page/v1/chats/{chat['id']}/states")
        for node in (one, two, a["message"]):
            self.assertEqual(states["nodes"][node["id"]]["kept"], "memory")
            self.assertGreater(states["nodes"][node["id"]]["bytes"], 0)
        tree = self.server.tree(chat)
        self.assertEqual(len(tree["nodes"]), 7)
        gone = self.server.json("DELETE", f"/page/v1/nodes/{one['id']}")
        self.assertEqual(len(gone["deleted"]), 3)
        self.assertEqual(len(self.server.tree(chat)["nodes"]), 4)

    def test_edited_answers_go_on_too(self):
        chat = self.server.chat()
        a = self.server.answer(chat, "Once", settings=SHORT)
        one = self.server.ended(a["node"])
        edited = self.server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", {"role": "assistant", "parent": one["parent"],
                                                                                "content": "The dragon said: ", "copy": one["id"]})
        self.assertEqual(edited["model"], NAME)
        self.server.json("POST", f"/page/v1/answers/{edited['id']}/continue", {"settings": SHORT})
        self.assertTrue(self.server.ended(edited)["content"].startswith("The dragon said: "))

    def test_notebook_with_alternatives(self):
        chat = self.server.chat(kind="notebook")
        root = self.server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", {"role": "text", "content": "Once upon a time"})
        wanted = {**SHORT, "logprobs": True, "top_logprobs": 5}
        made = self.server.answer(chat, parent=root["id"], settings=wanted)
        node = self.server.ended(made["node"])
        other = self.server.json("POST", "/v1/completions", {"prompt": "Once upon a time", **SHORT})
        self.assertEqual(node["content"], other["choices"][0]["text"])
        tokens = self.server.json("GET", f"/page/v1/nodes/{node['id']}/tokens")["tokens"]
        where = next(i for i, t in enumerate(tokens) if i > 2 and t["n"] == len(t["text"]))
        taken = tokens[where]["top"][1]["text"]
        text = node["content"][:tokens[where]["at"]] + taken
        branch = self.server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", {"role": "assistant", "content": text,
                                                                                "parent": root["id"], "copy": node["id"]})
        self.assertTrue(branch["has_tokens"])
        self.server.json("POST", f"/page/v1/answers/{branch['id']}/continue", {"settings": wanted})
        after = self.server.ended(branch)
        self.assertTrue(after["content"].startswith(text))
        kept = self.server.json("GET", f"/page/v1/nodes/{branch['id']}/tokens")["tokens"]
        self.assertEqual(kept[:where], tokens[:where])

    def test_state_to_a_file_and_into_another_server(self):
        chat = self.server.chat()
        a = self.server.answer(chat, "Once upon a time there was a princess", settings=SHORT)
        one = self.server.ended(a["node"])
        made = self.server.json("POST", f"/page/v1/nodes/{one['id']}/state")
        self.assertGreater(made["bytes"], 0)
        self.assertEqual(self.server.json("GET", f"/page/v1/nodes/{one['id']}")["state"], {"id": made["id"]})
        data = self.server.ask("GET", f"/v1/states/{made['id']}").data
        file = self.server.json("GET", f"/page/v1/chats/{chat['id']}/export")
        with tempfile.TemporaryDirectory() as folder, PageServer(folder) as other:
            state = other.json("PUT", f"/v1/states?model={NAME}", data)
            there = other.json("POST", "/page/v1/import", file)["chats"][0]
            there = other.json("PATCH", f"/page/v1/chats/{there['id']}", {"state": state["id"]})
            after = other.ended(other.answer(there, "Go on!", parent=there["leaf"], settings=SHORT)["node"])
            self.assertEqual(after["status"], "done", after)
            self.assertGreaterEqual(after["usage"]["cached"], made["tokens"])
        self.server.json("DELETE", f"/v1/states/{made['id']}")

    def test_what_cannot_be_is_said(self):
        chat = self.server.chat()
        path = f"/page/v1/chats/{chat['id']}/answers"
        for body, status in [({"parent": "0" * 24}, 404), ({"message": {"content": 5}}, 400), ({"settings": {"top_k": "x"}}, 400),
                             ({"model": "none such"}, 404), ({"message": {"content": "x", "role": "boss"}}, 400), ([], 400),
                             ({"message": {"content": "x"}, "settings": {"grammar": "root ::= ("}}, 201)]:
            r = self.server.ask("POST", path, body)
            self.assertEqual(r.status, status, (body, r.data))
        node = self.server.ended(r.json["node"])
        self.assertEqual((node["status"], node["error"]["message"] != ""), ("error", True))
        long = self.server.ended(self.server.answer(chat, "word " * 3000, settings=SHORT)["node"])
        self.assertEqual((long["status"], long["error"]["code"]), ("error", "context_length_exceeded"))
        self.assertEqual(self.server.tree(chat)["nodes"][-2]["content"], "word " * 3000)
        for path in ("/page/v1/answers/" + "0" * 24 + "/events", "/page/v1/nodes/zz", "/page/v1/chats/..%2f", "/page/v1/nodes/" + "0" * 24):
            self.assertEqual(self.server.ask("GET", path).status, 404, path)

    def test_many_at_once_wait_for_their_turn(self):
        chat = self.server.chat()
        ask = self.server.json("POST", f"/page/v1/chats/{chat['id']}/nodes", {"role": "user", "content": "Once upon"})
        made = [self.server.answer(chat, parent=ask["id"], settings={**SHORT, "seed": i, "temperature": 1})["node"] for i in range(20)]
        done = [self.server.ended(n) for n in made]
        self.assertEqual({n["status"] for n in done}, {"done"})
        self.assertEqual(self.server.json("GET", "/page/v1/answers")["answers"], [])


class Tabs(PageCase):
    def listen(self, query=""):
        stream = self.server.stream("/page/v1/events" + query)
        name, hello = next(stream)
        self.assertEqual(name, "hello")
        return stream, hello

    def test_tabs_follow_each_other(self):
        stream, hello = self.listen()
        self.assertFalse(hello["missed"])
        chat = self.server.json("POST", "/page/v1/chats", {"title": "t"}, X_Zamba_Tab="tab-1")
        name, data = next(stream)
        self.assertEqual((name, data["op"], data["tab"], data["chat"]), ("chat", "created", "tab-1", chat))
        made = self.server.answer(chat, "Hi", settings=SHORT)
        seen = []
        for name, data in stream:
            seen.append((name, data["op"], data["id"]))
            if name == "node" and data["op"] == "changed":
                self.assertEqual(data["node"]["status"], "done")
                break
        self.assertEqual(seen[0], ("node", "created", made["message"]["id"]))
        self.assertIn(("node", "created", made["node"]["id"]), seen)
        self.server.json("DELETE", f"/page/v1/chats/{chat['id']}")
        gone = next(d for _, d in stream if d["op"] == "deleted")  # the chat may have changed once more before
        self.assertEqual(gone["id"], chat["id"])
        stream.close()
        # what happened meanwhile is told when the connection is there again
        again, hello = self.listen(f"?after={data['seq']}&epoch={hello['epoch']}")
        self.assertFalse(hello["missed"])
        self.assertEqual(next(again)[1]["seq"], data["seq"] + 1)
        again.close()
        for query in ("?after=5&epoch=other", "?after=99999"):
            other, hello = self.listen(query)
            self.assertTrue(hello["missed"])
            other.close()

    def test_two_tabs_do_not_fight(self):
        """Both change the same chat without pause: every change is made or refused, none is lost."""
        chat = self.server.chat(title="0")
        path, made, lock = f"/page/v1/chats/{chat['id']}", [], threading.Lock()

        def tab(name):
            now = self.server.json("GET", path)["chat"]
            for _ in range(25):
                while True:
                    body = {"revision": now["revision"], "title": f"{now['title']}{name}"[-200:]}
                    r = self.server.ask("PATCH", path, body)
                    if r.status == 200:
                        now = r.json
                        with lock:
                            made.append(name)
                        break
                    self.assertEqual(r.status, 409)
                    now = r.json["current"]

        tabs = [threading.Thread(target=tab, args=(n,)) for n in "ab"]
        for t in tabs:
            t.start()
        for t in tabs:
            t.join()
        title = self.server.tree(chat)["chat"]["title"]
        self.assertEqual((title[0], title.count("a"), title.count("b")), ("0", 25, 25))

    def test_a_chat_deleted_under_an_answer(self):
        chat = self.server.chat()
        made = self.server.answer(chat, "Once", settings=LONG)
        self.server.json("DELETE", f"/page/v1/chats/{chat['id']}")
        deadline = time.time() + 30
        while self.server.json("GET", "/page/v1/answers")["answers"] and time.time() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.server.json("GET", "/page/v1/answers")["answers"], [])
        self.assertEqual(self.server.ask("GET", f"/page/v1/nodes/{made['node']['id']}").status, 404)


class Looking(PageCase):
    @classmethod
    def setUpClass(cls):
        cls.runs = tempfile.TemporaryDirectory()
        root = Path(cls.runs.name)
        run = root / "run-1"
        run.mkdir()
        (run / "config.json").write_text('{"steps": 2}')
        (run / "metrics.jsonl").write_text('{"step": 1, "total_steps": 3, "loss": 2}\n{"step": 2, "total_steps": 3, "lo')
        (run / "samples.jsonl").write_text('{"step": 1, "prompt": "a", "text": "b"}\n')
        (root / "no-run").mkdir()
        (root / "secret.txt").write_text("secret")
        (run / "needle.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
        (root / "chart.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><title>bits per weight</title></svg>")
        cls.options = ("--runs", root)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.runs.cleanup()

    def test_runs(self):
        runs = self.server.json("GET", "/page/v1/runs")["runs"]
        self.assertEqual([r["id"] for r in runs], ["run-1"])
        self.assertEqual((runs[0]["live"], runs[0]["finished"]), (True, False))
        self.assertEqual(self.server.json("GET", "/page/v1/runs/run-1")["config"], {"steps": 2})
        first = self.server.json("GET", "/page/v1/runs/run-1/metrics")
        self.assertEqual([x["step"] for x in first["lines"]], [1])
        with open(Path(self.runs.name) / "run-1" / "metrics.jsonl", "a") as f:
            f.write('ss": 1}\n{"step": 3, "total_steps": 3, "loss": 0.5}\n')
        more = self.server.json("GET", f"/page/v1/runs/run-1/metrics?from={first['next']}")
        self.assertEqual([x["step"] for x in more["lines"]], [2, 3])
        self.assertEqual(self.server.json("GET", f"/page/v1/runs/run-1/metrics?from={more['next']}")["lines"], [])
        self.assertEqual(self.server.json("GET", "/page/v1/runs/run-1/metrics?from=99999")["from"], 0)
        self.assertTrue(self.server.json("GET", "/page/v1/runs")["runs"][0]["finished"])
        self.assertEqual(len(self.server.json("GET", "/page/v1/runs/run-1/samples")["lines"]), 1)

    def test_no_path_of_a_client_is_one(self):
        for name in ("..", ".", "no-run", "secret.txt", "..%2frun-1", "run-1%2f", "%2e%2e", "run-1%2f..", "%2fetc", "/etc/passwd"):
            for path in (f"/page/v1/runs/{name}", f"/page/v1/runs/{name}/metrics", f"/page/v1/artifacts/{name}"):
                r = self.server.ask("GET", path)
                self.assertIn(r.status, (404, 400), path)
                self.assertNotIn(b"secret", r.data)

    def test_charts(self):
        list_ = self.server.json("GET", "/page/v1/artifacts")["artifacts"]
        self.assertEqual({(a["name"], a["run"], a["kind"]) for a in list_}, {("needle.svg", "run-1", "needle"), ("chart.svg", None, "quality")})
        for a in list_:
            r = self.server.ask("GET", f"/page/v1/artifacts/{a['id']}")
            self.assertEqual((r.status, r.headers["Content-Type"], len(r.data)), (200, "image/svg+xml", a["bytes"]))
            self.assertEqual(r.headers["Content-Security-Policy"], "default-src 'none'; style-src 'unsafe-inline'; sandbox")

    def test_model_and_moment(self):
        m = self.server.json("GET", "/page/v1/model")
        info = json.loads((MODEL / "config.json").read_text())
        self.assertEqual(len(m["layers"]), info["num_hidden_layers"])
        self.assertEqual(sum(p["params"] for p in m["parts"]), m["params"]["once"])
        self.assertEqual(sum(p["used"] for p in m["parts"]), m["params"]["used"])
        self.assertEqual(sum(b["uses"] for b in m["blocks"]), sum(layer["shared"] >= 0 for layer in m["layers"]))
        self.assertEqual(self.server.ask("GET", "/page/v1/model?model=none").status, 404)
        live = self.server.json("GET", "/page/v1/live")
        metrics = self.server.ask("GET", "/metrics").data.decode()
        for key, name in (("prompt", "prompt_tokens"), ("cached", "cached_tokens"), ("generated", "generated_tokens")):
            self.assertEqual(live["models"][0]["tokens"][key], int(re.search(rf"zamba_{name}_total{{.*}} (\d+)", metrics).group(1)))
        self.assertGreater(live["memory"]["resident"], 0)


class Models(unittest.TestCase):
    def test_load_and_unload_are_told(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "models").mkdir()
            os.symlink(MODEL, Path(folder) / "models" / "second")
            (Path(folder) / "models" / "broken").mkdir()
            (Path(folder) / "models" / "broken" / "config.json").write_text("{}")
            with PageServer(Path(folder) / "data", "--models-dir", Path(folder) / "models", "--max-memory", "4000") as s:
                stream = s.stream("/page/v1/events")
                next(stream)
                self.assertIn(s.json("POST", "/page/v1/models/load", {"model": "second"})["phase"], ("absent", "loading", "ready"))
                while (told := stream.until("model")["model"])["phase"] != "ready":
                    pass
                self.assertEqual(told["name"], "second")
                s.json("POST", "/page/v1/models/unload", {"model": "second"})
                while stream.until("model")["model"]["phase"] != "absent":
                    pass
                s.json("POST", "/page/v1/models/load", {"model": "broken"})
                told = stream.until("model")["model"]
                while not told["error"]:
                    told = stream.until("model")["model"]
                self.assertEqual(told["name"], "broken")
                self.assertNotIn(folder, told["error"])
                # an answer with it says so and keeps what was typed; with the other one it works
                chat = s.chat(model="broken")
                node = s.ended(s.answer(chat, "typed", settings=SHORT)["node"])
                self.assertEqual((node["status"], node["error"]["code"]), ("error", "model_not_loaded"))
                again = s.answer(chat, parent=node["parent"], model="second", settings=SHORT)
                self.assertEqual(s.ended(again["node"])["status"], "done")
                stream.close()


class WithoutHistory(PageCase):
    history = False
    options = ("--no-history",)

    def test_all_of_it_works_in_memory(self):
        self.assertEqual(self.server.json("GET", "/page/v1/bootstrap")["history"]["reason"], "disabled")
        chat = self.server.chat(title="gone soon")
        self.assertEqual(self.server.ended(self.server.answer(chat, "Hi", settings=SHORT)["node"])["status"], "done")
        self.assertEqual(self.server.json("GET", "/page/v1/chats?q=soon")["total"], 1)


class App(unittest.TestCase):
    def test_opens_the_page(self):
        with tempfile.TemporaryDirectory() as folder:
            browser = Path(folder) / "browser"
            browser.write_text(f"#!/bin/sh\necho \"$1\" >> {folder}/opened\n")
            browser.chmod(0o755)
            env = {**os.environ, "BROWSER": str(browser)}

            def opened(n):
                deadline = time.time() + 60
                while time.time() < deadline:
                    lines = (Path(folder) / "opened").read_text().split() if (Path(folder) / "opened").exists() else []
                    if len(lines) >= n:
                        return lines
                    time.sleep(0.02)
                self.fail("no browser")

            with PageServer(Path(folder) / "data") as s:
                out = subprocess.run([PROGRAM, "app", "--data", Path(folder) / "data"], env=env, capture_output=True, text=True, timeout=60)
                self.assertEqual((out.returncode, out.stdout.strip()), (0, "http://" + s.address))
                self.assertEqual(opened(1), [f"http://{s.address}/"])
            with subprocess.Popen([PROGRAM, "app", MODEL, "--port", "0", "--data", Path(folder) / "data"], env=env, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
                url = re.search(r"http://\S+", p.stdout.readline()).group(0)
                self.assertEqual(opened(2)[1], url + "/")
                self.assertEqual(http.client.HTTPConnection(url[7:]).request("GET", "/"), None)
                p.terminate()
                self.assertEqual(p.wait(timeout=60), 0)


if __name__ == "__main__":
    unittest.main()
