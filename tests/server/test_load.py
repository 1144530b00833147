"""test_load.py — `zamba serve` under load: many streaming chats at once say what each says alone, clients that read slowly
or vanish cost nobody anything, a long prompt holds answers up no longer than --max-pause, a conversation is read once. What
is taken is given back: memory, descriptors, slots, states, counted before and after.

ZAMBA_TEST_FULL=1: 1,000 chats and 200 odd clients; else few. ZAMBA_TEST_TALK=1 prints what was counted."""
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from api_server import MODEL, Served  # noqa: E402
from streams import Gauge, open_connection, read_events, read_head, request, Stream, stream, streams, vanish  # noqa: E402

FULL = os.environ.get("ZAMBA_TEST_FULL") == "1"
SANITIZED = bool(os.environ.get("ZAMBA_SANITIZE"))
CHATS = 1000 if FULL else 24 if SANITIZED else 64
ODD = 200 if FULL else 10 if SANITIZED else 20


def say(*words):
    if os.environ.get("ZAMBA_TEST_TALK") == "1":
        print(*words, file=sys.stderr, flush=True)


def chat(i, **more):
    return {"messages": [{"role": "user", "content": f"Tell me of king {i} and of his {i * 7 % 50} horses." + " Please!" * (i % 9)}],
            "max_tokens": 6 + i % 17, "temperature": (0, 0.8, 1)[i % 3], "seed": i, "stream_options": {"include_usage": True}, **more}


def same(test, alone, together):
    for i, (a, b) in enumerate(zip(alone, together, strict=True)):
        test.assertEqual((b.status, b.done), (200, True), (i, b.head))
        test.assertEqual((b.text, b.finish, b.usage["completion_tokens"], b.usage["prompt_tokens"]),
                         (a.text, a.finish, a.usage["completion_tokens"], a.usage["prompt_tokens"]), i)


class Chats(Served):
    options = ("--cache-ram", "0", "--queue", "2000")

    def test_many_say_what_each_says_alone_and_leave_nothing(self):
        gauge, bodies = Gauge(self), [chat(i) for i in range(CHATS)]
        alone = [streams(self.address, [b])[0] for b in bodies]
        self.assertGreater(len({a.text for a in alone}), CHATS // 2)
        gauge.settle()
        start, descriptors, threads = gauge.at_rest(), gauge.descriptors(), gauge.threads()
        rests = []
        for _ in range(2):
            begun = time.monotonic()
            same(self, alone, streams(self.address, bodies))
            took = time.monotonic() - begun
            m = gauge.settle(descriptors)
            rests.append(gauge.at_rest())
            self.assertEqual((gauge.descriptors(), gauge.threads()), (descriptors, threads))
            say(f"{CHATS} chats in {took:.1f} s: {start:.1f} MiB before, {gauge.memory('VmHWM'):.1f} at most, {rests[-1]:.1f} after, "
                f"{gauge.descriptors()} descriptors")
        self.assertEqual((m["requests_total"], m['requests_ended_total{how="done"}']), (3 * CHATS, 3 * CHATS))
        self.assertEqual(m["generated_tokens_total"], 3 * sum(a.usage["completion_tokens"] for a in alone))
        if not SANITIZED: # which keep what was freed
            self.assertLess(max(rests), start + 24) # once: stacks, logits, the allocator's own


class OddClients(Served):
    options = ("--cache-ram", "0", "--slots", "4", "--queue", "1000")

    async def vanishes(self, i):
        """After i events, or before there is one."""
        out = Stream()
        reader, writer = await open_connection(self.address)
        writer.write(request("/v1/chat/completions", {**chat(i), "max_tokens": 400, "ignore_eos": True, "stream": True}))
        await writer.drain()
        if i % 5:
            await read_head(reader, out)
            await read_events(reader, out, i % 5)
        if i % 2:
            writer.transport.abort()
        else:
            writer.close()

    async def slow(self, i):
        return await stream(self.address, self.much(i), pause=0.01)

    def much(self, i):
        return chat(i, logprobs=True, top_logprobs=20, max_tokens=60, ignore_eos=True)

    def deaf(self, i):
        """Reads nothing at all, so that what is sent fills every buffer; then goes."""
        host, port = self.address.rsplit(":", 1)
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect((host, int(port)))
        s.sendall(request("/v1/chat/completions", {**self.much(i), "max_tokens": 400, "stream": True}))
        return s

    async def all(self, n):
        good = asyncio.gather(*[stream(self.address, chat(i)) for i in range(5)])
        slow = asyncio.gather(*[self.slow(i) for i in range(n // 4)])
        await asyncio.gather(*[self.vanishes(i) for i in range(n // 2)])
        return await good, await slow

    def test_nothing_leaks(self):
        gauge = Gauge(self)
        alone = streams(self.address, [chat(i) for i in range(5)])
        fast = [streams(self.address, [self.much(i)])[0] for i in range(ODD // 4)]
        gauge.settle()
        start, descriptors, before = gauge.at_rest(), gauge.descriptors(), gauge.metrics()
        rests = []
        for _ in range(2):
            deaf = [self.deaf(i) for i in range(ODD // 4)]
            good, slow = asyncio.run(self.all(ODD))
            same(self, alone, good)
            same(self, fast, slow)
            for i, s in enumerate(deaf):
                vanish(s, reset=i % 2)
            m = gauge.settle(descriptors)
            rests.append(gauge.at_rest())
        ended = {k: m[f'requests_ended_total{{how="{k}"}}'] - before[f'requests_ended_total{{how="{k}"}}']
                 for k in ("done", "cancelled", "failed")}
        say(f"{ODD} odd clients, twice: {start:.1f} MiB before, {rests[0]:.1f} and {rests[1]:.1f} after, {gauge.descriptors()} descriptors, "
            f"{ended}")
        self.assertEqual(ended["failed"], 0)
        self.assertEqual(sum(ended.values()), m["requests_total"] - before["requests_total"])
        self.assertGreaterEqual(ended["done"], 2 * (5 + ODD // 4))
        self.assertGreater(ended["cancelled"], ODD // 2)
        self.assertEqual((m["cache_entries"], m["saved_states"]), (0, 0))
        if not SANITIZED:
            self.assertLess(rests[0], start + 16)
            self.assertLess(rests[1], rests[0] + 8)


class LongPrompt(Served):
    """While 4,000 tokens are read, answers under way get a token with each step, and the steps are short."""
    PIECE = 128
    options = ("--cache-ram", "0", "-c", "8192", "--prefill-tokens", str(PIECE), "--max-pause", "0.25")

    def test_answers_go_on(self):
        gauge, n, ids = Gauge(self), 1500 if SANITIZED else 4000, list(range(300, 500)) * 20
        talks = [{"prompt": f"King {i}", "max_tokens": 3000, "ignore_eos": True, "seed": i} for i in range(3)]

        async def run():
            tasks = [asyncio.ensure_future(self.talk(b)) for b in talks]
            await asyncio.gather(*[self.began[i].wait() for i in range(len(talks))])
            before, begun = gauge.metrics(), time.monotonic()
            long = await stream(self.address, {"prompt": ids[:n], "max_tokens": 1, "stream_options": {"include_usage": True}},
                                "/v1/completions")
            over, after = time.monotonic(), gauge.metrics()
            while after["prompt_tokens_beside_answers_total"] < before["prompt_tokens_beside_answers_total"] + n and \
                    time.monotonic() < over + 5:  # a step is counted when it is over, what it wrote is told before
                await asyncio.sleep(0.02)
                after = gauge.metrics()
            for t in tasks:
                t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return before, begun, long, over, after

        self.began, self.stamps = [asyncio.Event() for _ in talks], [[] for _ in talks]
        before, begun, long, over, after = asyncio.run(run())
        self.assertEqual((long.done, long.usage["prompt_tokens"]), (True, n), long.head)
        rise = {k: after[k] - before[k] for k in after}
        steps = rise["step_with_prompts_seconds_count"]
        gaps = sorted(b - a for s in self.stamps for a, b in zip(s, s[1:]) if b > begun and a < over)
        say(f"{n} tokens read in {over - begun:.2f} s and {steps:.0f} steps beside {len(talks)} answers; between two of their tokens p50 "
            f"{gaps[len(gaps) // 2]:.3f} s, p99 {gaps[len(gaps) * 99 // 100]:.3f} s, most {gaps[-1]:.3f} s; bound "
            f"{after['pause_bound_seconds']:.3f} s, steps beyond it {rise['steps_beyond_pause_bound_total']:.0f}")
        self.assertEqual(rise["prompt_tokens_beside_answers_total"], n)
        self.assertGreaterEqual(steps, n / self.PIECE)
        self.assertGreaterEqual(rise["generated_tokens_total"], len(talks) * (steps - 1) + 1)
        self.assertGreaterEqual(after["pause_bound_seconds"], 0.25)
        self.assertGreaterEqual(rise["steps_total"], steps)
        self.assertLessEqual(rise["steps_beyond_pause_bound_total"], steps)
        gauge.settle()

    async def talk(self, body):
        i = body["seed"]
        reader, writer = await open_connection(self.address)
        try:
            writer.write(request("/v1/completions", {**body, "stream": True, "logprobs": 0}))
            out = Stream()
            out.stamps = self.stamps[i]
            await read_head(reader, out)
            await read_events(reader, out, 3)
            self.began[i].set()
            await read_events(reader, out)
        finally:
            writer.transport.abort()


class Conversation(unittest.TestCase):
    """Ten turns: what was read or written before is not read again, in one server and across a restart."""
    QUESTIONS = ["Tell me of the king.", "And his horse?", "Why?", "Who was the queen, and where did she live?", "What did she say?",
                 "Was it winter?", "How many sons had they?", "And then?", "Did the youngest go too?", "How does it end?"]
    # Messages stand in it as they are: a template that puts spaces around them changes an answer's first token.
    TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}" \
               "{% if add_generation_prompt %}<s>assistant\n{% endif %}"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.model = self.folder / "talker"
        self.model.mkdir()
        for path in MODEL.iterdir():
            (self.model / path.name).symlink_to(path)
        config = json.loads((MODEL / "tokenizer_config.json").read_text())
        (self.model / "tokenizer_config.json").unlink()
        (self.model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": self.TEMPLATE}))

    def serve(self, *options):
        class Here(Served):
            model = self.model
        Here.options = ("-c", "4096", *options)
        Here.setUpClass()
        self.addCleanup(lambda: Here.process.poll() is None and Here.process.kill())
        return Here()

    def turn(self, served, messages, **more):
        """The answer is put behind the messages. Returns the tokens of the prompt, those not read, those written, the state."""
        r = served.post("/v1/chat/completions", messages=messages, max_tokens=20, temperature=0.7, seed=len(messages), **more).json
        u, choice = r["usage"], r["choices"][0]
        messages.append({"role": "assistant", "content": choice["message"]["content"]})
        return u["prompt_tokens"], u["prompt_tokens_details"]["cached_tokens"], u["completion_tokens"], choice.get("state")

    def check(self, turns, unread, first=0):
        """unread: tokens at the end of an answer that were chosen, but not read. Text that is made of other ids than those it
        was sampled as counts as new: seldom."""
        exact = 0
        for (before, _, written, _), (prompt, cached, _, _) in zip(turns[first:], turns[first + 1:]):
            new = prompt - before - written + unread
            exact += prompt - cached == new
            self.assertLessEqual(prompt - cached, prompt - before + 1, turns)
        say("prompt, cached, written:", [t[:3] for t in turns])
        self.assertGreaterEqual(exact, len(turns) - first - 2, turns)

    def test_ten_turns(self):
        served, messages, turns = self.serve(), [], []
        gauge = Gauge(served)
        for question in self.QUESTIONS:
            messages.append({"role": "user", "content": question})
            before = gauge.metrics()
            turns.append(self.turn(served, messages))
            m = gauge.metrics()
            self.assertEqual(m["prompt_tokens_total"] - before["prompt_tokens_total"], turns[-1][0] - turns[-1][1])
            self.assertEqual(m["cached_tokens_total"] - before["cached_tokens_total"], turns[-1][1])
        self.assertEqual(m["cache_hits_total"], 9)
        self.check(turns, unread=1)
        served.tearDownClass()

    def test_saved_states_and_a_restart(self):
        states, messages, turns, state = str(self.folder / "states"), [], [], {}
        for part in (self.QUESTIONS[:5], self.QUESTIONS[5:]):
            served = self.serve("--cache-ram", "0", "--states-folder", states)
            for question in part:
                messages.append({"role": "user", "content": question})
                turns.append(self.turn(served, messages, keep_state=True, **state))
                self.assertRegex(turns[-1][3], "^[0-9a-f]{32}$")
                state = {"state": turns[-1][3]}
            self.assertEqual(Gauge(served).metrics()["prompt_tokens_total"], sum(t[0] - t[1] for t in turns[-len(part):]))
            served.tearDownClass()
        self.check(turns, unread=0)
        plain, served = [], self.serve("--cache-ram", "0") # and the answers are those of a server that reads everything
        for i, question in enumerate(self.QUESTIONS):
            plain.append({"role": "user", "content": question})
            self.turn(served, plain)
            if plain[-1] != messages[2 * i + 1]: # only where text was taken for the same in other tokens
                self.assertNotEqual(turns[i][0] - turns[i][1], turns[i][0] - turns[i - 1][0] - turns[i - 1][2] + 1, (plain, messages))
                break
        served.tearDownClass()


if __name__ == "__main__":
    unittest.main()
