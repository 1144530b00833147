#!/usr/bin/env python3
"""test_cli_chat.py — `zamba chat` driven by a script and by hands on a terminal: turns, undo, retry, fork, saving, Ctrl-C,
line editing. Standard library only; ZAMBA_PROGRAM names the program."""
import json
import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from program import MODEL, Case, Terminal, environment, run  # noqa: E402

OPTIONS = ["chat", MODEL, "-n", "10", "-s", "5", "--verbose"]


class Script(Case):
    def chat(self, *lines, options=(), code=0):
        result = run(*OPTIONS, *options, stdin="\n".join(lines) + "\n")
        self.assertEqual(result.code, code, result.err)
        return result

    def saved(self, path):
        conversation = json.loads(Path(path).read_text())["messages"]
        for i, message in enumerate(conversation):
            self.assertEqual(message["role"], ("user", "assistant")[i % 2])
        return [message["content"] for message in conversation]

    @staticmethod
    def work(result):
        """(tokens kept, tokens read) of each answer."""
        return [tuple(map(int, m)) for m in re.findall(r"kept (\d+) tokens, read (\d+) in", result.err)]

    def test_only_answers_on_standard_output(self):
        path = self.folder / "saved"
        result = self.chat("Tell me of a cat.", "/help", "/show", "And a dog?", "/set", f"/save {path}", "/quit", "not read")
        messages = self.saved(path)
        self.assertEqual(messages[0::2], ["Tell me of a cat.", "And a dog?"])
        self.assertEqual(result.out, "".join(m.lstrip() + "\n" for m in messages[1::2]))
        self.assertEqual(result.out, self.chat("Tell me of a cat.", "And a dog?").out)

    def test_what_was_read_is_not_read_again(self):
        (none, first), (kept, _) = self.work(self.chat("Tell me of a cat.", "And a dog?"))
        self.assertEqual(none, 0)
        self.assertGreaterEqual(kept, first - 1)

    def test_undo(self):
        a, b, c = (self.folder / name for name in "abc")
        result = self.chat("One.", f"/save {a}", "Two.", "/undo", f"/save {b}", "Two.", f"/save {c}")
        work = self.work(result)
        self.assertEqual(self.saved(a), self.saved(b))
        self.assertEqual(len(self.saved(c)), 4)
        self.assertEqual(work[1], work[2])  # the state before "Two." came back: the same was kept and read
        self.chat("/undo", code=1)
        self.assertEqual(self.work(self.chat("One.", "/undo", "One."))[1][0], 0)

    def test_retry(self):
        path = self.folder / "saved"
        result = self.chat("One.", "/retry", "/retry", f"/save {path}")
        answers = result.out.splitlines()
        self.assertGreater(len(set(answers)), 1)
        self.assertEqual([work[1] for work in self.work(result)][1:], [1, 1])  # one token read, the rest restored
        self.assertEqual(len(self.saved(path)), 2)
        same = self.chat("/set temp 0", "One.", "/retry").out
        self.assertEqual(same[:len(same) // 2], same[len(same) // 2:])
        self.chat("/retry", code=1)

    def test_fork(self):
        one, two = self.folder / "one", self.folder / "two"
        result = self.chat("One.", "/fork other", "Two.", f"/save {two}", "/switch 1", f"/save {one}", "/branches", "Two.")
        work = self.work(result)
        self.assertEqual(work[1], work[2])  # both go on from the same kept state
        self.assertEqual(self.saved(two)[:2], self.saved(one))
        self.assertEqual((len(self.saved(one)), len(self.saved(two))), (2, 4))
        self.assertRegex(result.err, r"\* 1 +2 messages")
        self.assertRegex(result.err, r"other +4 messages")
        self.chat("/fork a", "/fork a", code=1)
        self.chat("/switch nowhere", code=1)
        undone = self.chat("One.", "/fork", "/undo", "/switch 1", f"/save {one}", "/switch 2", f"/save {two}")
        self.assertEqual(undone.code, 0)
        self.assertEqual((len(self.saved(one)), len(self.saved(two))), (2, 0))

    def test_save_and_load(self):
        path, again = self.folder / "saved", self.folder / "again"
        self.chat("One.", "Two.", f"/save {path}")
        loaded = self.chat(f"/load {path}", "Three.", "/undo", f"/save {again}")
        self.assertGreater(self.work(loaded)[0][0], 30)  # the state came with it
        self.assertEqual(self.saved(again), self.saved(path))
        state = Path(f"{path}.state")
        state.write_bytes(state.read_bytes()[:100])  # damaged: read again instead
        self.assertEqual(self.work(self.chat(f"/load {path}", "Three."))[0][0], 0)
        state.unlink()
        self.chat(f"/load {path}", "Three.")
        for text in ("", "{", "[]", '{"messages": 5}', '{"messages": [{"role": 1}]}'):
            bad = self.file("bad", text)
            result = self.chat("One.", f"/load {bad}", f"/save {again}", code=1)
            self.assertIn(str(bad), result.err)
            self.assertEqual(len(self.saved(again)), 2)  # what was there stays
        self.chat("/load /no/such/file", code=1)
        self.chat("One.", f"/save {self.folder}/no/such", code=1)
        self.chat("One.", "/save /dev/full", code=1)

    def test_session_option(self):
        path = self.folder / "session"
        for n in (2, 4):
            self.chat("Hello.", options=["--session", path])
            self.assertEqual(len(self.saved(path)), n)

    def test_system_and_clear(self):
        path = self.folder / "saved"
        self.chat("/system You are a fox.", "One.", "/clear", f"/save {path}")
        self.assertEqual(json.loads(path.read_text())["messages"], [{"role": "system", "content": "You are a fox."}])
        self.chat("One.", "/system Fox.", "Two.", "/undo", "/undo", "/system none", f"/save {path}",
                  options=["--system", "Dog."])
        self.assertEqual(json.loads(path.read_text())["messages"], [])
        self.assertIn("(no system message)", self.chat("/system").err)

    def test_many_lines(self):
        path = self.folder / "saved"
        self.chat('"""', "a", "", "b", '"""', "c \\", "d", '"""e', 'f"""', '"""g"""', f"/save {path}")
        self.assertEqual(self.saved(path)[0::2], ["a\n\nb", "c \nd", "e\nf", "g"])
        self.chat('"""', "never closed", f"/save {path}")

    def test_set(self):
        result = self.chat("/set temp 0.25", "/set top-k=7", "/set --min-p 0.5", "/set n 3", "/set", "One.")
        for line in (r"temp +0\.25", r"top-k +7", r"min-p +0\.5", r"predict +3"):
            self.assertRegex(result.err, line)
        self.assertIn("wrote 3 in", result.err)
        for line in ("/set temp 1000", "/set temp", "/set threads 2", "/set nonsense 1", "/nonsense", "/save", "/load",
                     "/switch"):
            self.assertIn("zamba: ", self.chat(line, code=1).err)
        self.assertIn("did you mean /undo?", self.chat("/undp", code=1).err)
        seeds = self.chat("/set seed 9", "One.", "/clear", "/set seed 9", "One.").out.splitlines()
        self.assertEqual(seeds[:len(seeds) // 2], seeds[len(seeds) // 2:])

    def test_full_context(self):
        path = self.folder / "saved"
        result = self.chat("One.", "word " * 100, "/undo", "Two.", f"/save {path}", options=["-c", "64"], code=1)
        self.assertIn("context", result.err)
        self.assertEqual(self.saved(path)[0::2], ["Two."])  # the long one was never in it; /undo took "One."
        result = self.chat("One.", options=["-c", "24", "-n", "-1", "--ignore-eos"])
        self.assertIn("context of 24 tokens is full", result.err)

    def test_input_that_is_no_text(self):
        self.assertEqual(run(*OPTIONS, stdin=b"").out, "")
        self.assertEqual(run(*OPTIONS, stdin=b"\n  \n\n").out, "")
        self.assertEqual(run(*OPTIONS, stdin=b"\xff\xfe\0 caf\xc3\xa9").code, 0)


class Hands(Case):
    def open(self, *options):
        self.env = environment(XDG_STATE_HOME=self.folder, HOME=self.folder)
        return Terminal("chat", MODEL, "-s", "5", "--color", "never", *options, env=self.env)

    def test_conversation(self):
        t = self.open("-n", "8")
        t.expect(r"/help lists the commands.*>>> ")
        t.send("Tell me of a cet\x7f\x7fat.\r")  # with a correction
        t.expect(r"\r\n.*\w.*>>> ")  # a bar may come before the answer, if reading takes long
        t.send("/show\r")
        self.assertIn("user: Tell me of a cat.", t.expect(r"messages, .*>>> "))
        for command, answer in (("/retry", r"\w"), ("/fork", "Now in branch 2"), ("/undo", "Took back"),
                                ("/switch 1", ""), ("/show", "user: Tell me of a cat"), ("/nope", "is no command")):
            t.send(command + "\r")
            t.expect(answer + r".*\r\n.*>>> ")
        t.send("/quit\r")
        self.assertEqual(t.close(), 0)
        history = (self.folder / "zamba" / "history").read_text()
        self.assertIn("/retry", history)
        t = self.open("-n", "8")
        t.expect(">>> ")
        t.send("\x1b[A")  # the line before
        t.expect("/quit")
        t.send("\r")
        self.assertEqual(t.close(), 0)

    def test_many_lines(self):
        t = self.open("-n", "4")
        t.expect(">>> ")
        t.send("one \\\r")
        t.expect(r"\.\.\. ")
        t.send("two\r")
        t.expect(">>> ")
        t.send("/show\r")
        t.expect("user: one \r\ntwo")
        t.expect(">>> ")
        t.send("\x04")  # Ctrl-D
        self.assertEqual(t.close(), 0)

    def test_ctrl_c(self):
        t = self.open("-n", "-1", "-c", "100000", "--ignore-eos")
        t.expect(">>> ")
        t.send("Tell me a long story.\r")
        t.expect(r"\r\n[^\r\n]*\w+ \w+ ")
        t.send("\x03")  # stops only the answer
        t.expect(">>> ")
        t.send("/show\r")
        t.expect(r"user: Tell me a long story\..*\(2 messages.*>>> ")
        t.send("half a line\x03")  # gives the line up
        t.expect(r"Ctrl-C again.*>>> ")
        t.send("/show\r")
        self.assertNotIn("half", t.expect(r"\(2 messages.*>>> "))
        t.send("\x03")
        t.expect(r"Ctrl-C again.*>>> ")
        t.send("\x03")
        self.assertEqual(t.close(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=1)
