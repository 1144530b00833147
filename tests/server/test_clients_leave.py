"""test_clients_leave.py — a client that is killed at any stage of its request: `zamba serve` drops its work, answers others,
and has all back that it had given: slots, descriptors, streams. Each stage with a reset and with a plain close."""
import socket
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from api_server import PATIENCE, Served  # noqa: E402
from streams import Gauge, request, vanish  # noqa: E402

LONG = list(range(300, 500)) * 15
BODY = {"prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True, "stream": True, "logprobs": 0, "seed": 1}


class Leaving(Served):
    # One slot: whoever kept it would keep all others waiting.
    options = ("--slots", "1", "--cache-ram", "0", "-c", "8192", "--prefill-tokens", "16")

    def setUp(self):
        self.gauge = Gauge(self)
        self.want = self.quick()
        self.before = self.gauge.settle()
        self.descriptors = self.gauge.descriptors()

    def quick(self):
        return self.post("/v1/completions", prompt="The king", max_tokens=4, temperature=0).json["choices"][0]["text"]

    def connect(self):
        host, port = self.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def read_until(self, s, mark, times=1):
        data = b""
        while data.count(mark) < times:
            more = s.recv(65536)
            self.assertTrue(more, data)
            data += more
        return data

    def wait_for(self, name, least):
        end = time.monotonic() + PATIENCE
        while self.gauge.metrics()[name] < least:
            self.assertLess(time.monotonic(), end, name)
            time.sleep(0.005)

    def after(self, stage, cancelled):
        """Another is served, and all is as it was; `cancelled` of the jobs were given up."""
        self.assertEqual(self.quick(), self.want, stage)
        m = self.gauge.settle(self.descriptors)
        rise = {k: m[k] - self.before[k] for k in m}
        ended = [rise[f'requests_ended_total{{how="{how}"}}'] for how in ("done", "cancelled", "failed")]
        self.assertEqual(sum(ended), rise["requests_total"], stage)
        self.assertEqual(ended[1:], [cancelled, 0], stage)
        self.assertEqual((m["http_connections"], m["http_streams"], m["cache_entries"]), (1, 0, 0), stage)
        self.before = m

    def each_way(self, stage, cancelled, act):
        for reset in (False, True):
            with self.subTest(stage=stage, reset=reset):
                s = self.connect()
                others = act(s) or []
                vanish(s, reset)
                for o in others:
                    vanish(o, reset)
                self.after(stage, cancelled)

    def test_before_anything(self):
        self.each_way("connected", 0, lambda s: None)

    def test_within_the_first_line(self):
        self.each_way("half a line", 0, lambda s: s.sendall(b"POST /v1/comp"))

    def test_within_the_headers(self):
        data = request("/v1/completions", BODY)
        self.each_way("half the headers", 0, lambda s: s.sendall(data[:data.index(b"Content-Length")]))

    def test_before_the_body(self):
        data = request("/v1/completions", BODY)
        self.each_way("no body", 0, lambda s: s.sendall(data[:data.index(b"\r\n\r\n") + 4]))

    def test_within_the_body(self):
        data = request("/v1/completions", BODY)
        self.each_way("half the body", 0, lambda s: s.sendall(data[:-20]))

    def test_as_soon_as_all_is_sent(self):
        """It may be seen before the work begins, or after."""
        for reset in (False, True):
            s = self.connect()
            s.sendall(request("/v1/completions", BODY))
            vanish(s, reset)
            self.assertEqual(self.quick(), self.want)
            m = self.gauge.settle(self.descriptors)
            self.assertEqual(m['requests_ended_total{how="failed"}'], 0)

    def test_in_the_queue(self):
        def act(s):
            first = self.connect()
            first.sendall(request("/v1/completions", BODY))
            self.read_until(first, b"data: ")
            s.sendall(request("/v1/completions", BODY))
            self.wait_for("requests_waiting", 1)
            return [first]
        self.each_way("queued", 2, act)

    def test_in_the_queue_while_others_go_on(self):
        first = self.connect()
        first.sendall(request("/v1/completions", BODY))
        self.read_until(first, b"data: ")
        for reset in (False, True):
            s = self.connect()
            s.sendall(request("/v1/completions", {**BODY, "stream": reset}))
            self.wait_for("requests_waiting", 1)
            vanish(s, reset)
            end = time.monotonic() + PATIENCE
            while self.gauge.metrics()["requests_waiting"]:
                self.assertLess(time.monotonic(), end)
            self.read_until(first, b"data: ")
        vanish(first)
        self.after("queued behind another", 3)

    def test_while_the_prompt_is_read(self):
        def act(s):
            s.sendall(request("/v1/completions", {**BODY, "prompt": LONG}))
            self.read_until(s, b": prompt ", 3)
        self.each_way("prefill", 1, act)
        read = self.before["prompt_tokens_total"]
        self.assertLess(read, 4 * len(LONG))

    def test_while_the_prompt_of_a_whole_answer_is_read(self):
        def act(s):
            read = self.gauge.metrics()["prompt_tokens_total"]
            s.sendall(request("/v1/completions", {**BODY, "prompt": LONG, "stream": False}))
            self.wait_for("prompt_tokens_total", read + 100)
        self.each_way("prefill, no stream", 1, act)

    def test_within_the_stream(self):
        def act(s):
            s.sendall(request("/v1/completions", BODY))
            self.read_until(s, b"data: ", 20)
        self.each_way("stream", 1, act)

    def test_between_two_events(self):
        """All that came is read: nothing waits in the socket when it breaks."""
        def act(s):
            s.sendall(request("/v1/chat/completions", {"messages": [{"role": "user", "content": "Go on"}], "max_tokens": 2000,
                                                       "ignore_eos": True, "stream": True}))
            self.read_until(s, b"data: ", 5)
            s.settimeout(0)
            try:
                while s.recv(65536):
                    pass
            except BlockingIOError:
                pass
        self.each_way("between events", 1, act)

    def test_half_closed(self):
        """A client that shuts its sending side is taken to be gone."""
        s = self.connect()
        s.sendall(request("/v1/completions", BODY))
        self.read_until(s, b"data: ", 3)
        s.shutdown(socket.SHUT_WR)
        self.after("half closed", 1)
        s.close()

    def test_while_a_whole_answer_is_written(self):
        def act(s):
            written = self.gauge.metrics()["generated_tokens_total"]
            s.sendall(request("/v1/completions", {**BODY, "stream": False}))
            self.wait_for("generated_tokens_total", written + 5)
        self.each_way("no stream", 1, act)

    def test_after_the_end(self):
        def act(s):
            data = request("/v1/completions", {**BODY, "max_tokens": 5}).replace(b"Connection: close\r\n", b"")
            s.sendall(data)
            self.read_until(s, b"data: [DONE]\n\n")
        self.each_way("after [DONE]", 0, act)

    def test_with_the_next_request_half_sent(self):
        def act(s):
            data = request("/v1/completions", {**BODY, "max_tokens": 5}).replace(b"Connection: close\r\n", b"")
            s.sendall(data + data[:-10])
            self.read_until(s, b"data: [DONE]\n\n")
        self.each_way("second request", 0, act)

    def test_several_answers_at_once(self):
        def act(s):
            s.sendall(request("/v1/completions", {**BODY, "n": 3}))
            self.read_until(s, b"data: ", 10)
        self.each_way("n", 1, act) # one slot: the others had not begun

    def test_while_a_state_is_saved(self):
        def act(s):
            s.sendall(request("/v1/states", {"prompt": LONG}))
            self.wait_for("requests_running", 1)
        self.each_way("state", 1, act)
        self.assertEqual(self.before["saved_states"], 0)


if __name__ == "__main__":
    unittest.main()
