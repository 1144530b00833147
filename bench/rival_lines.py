"""rival_lines.py — what the rivals' runners share: requests come as JSON lines on standard input, each is answered by
one JSON line; before the answer of something long there may be lines {"progress": [done, total]}.

A runner is a class with methods do_NAME(**values) that return a dictionary. Times are taken here, both clocks at once:
`wall` for what takes all cores, `cpu` (of the calling thread) for one thread on a machine that others use too."""
import json
import os
import sys
import time


class Clock:
    def __enter__(self):
        self.walls, self.cpus = [], []
        self.last = time.perf_counter(), time.thread_time()
        return self

    def lap(self):
        now = time.perf_counter(), time.thread_time()
        self.walls.append(now[0] - self.last[0])
        self.cpus.append(now[1] - self.last[1])
        self.last = time.perf_counter(), time.thread_time()

    def __exit__(self, *_):
        pass

    @property
    def answer(self):
        return dict(walls=self.walls, cpus=self.cpus)


def random_ids(n, vocab, first=0):
    """The ids that every runner feeds: the same simple generator everywhere."""
    x, out = 1, []
    for i in range(first + n):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        if i >= first:
            out.append((x >> 8) % vocab)
    return out


def memory():
    """Bytes resident now, and at most since the last reset."""
    with open("/proc/self/status") as f:
        fields = dict(line.split(":", 1) for line in f if line.startswith(("VmRSS", "VmHWM")))
    return dict(rss=1024 * int(fields["VmRSS"].split()[0]), peak=1024 * int(fields["VmHWM"].split()[0]))


def serve(runner):
    # what a library prints to standard output must not stand between the answers
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    runner.progress = lambda done, total: say({"progress": [done, total]})
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("do")
        if name == "quit":
            break
        try:
            say(memory() if name == "memory" else getattr(runner, "do_" + name)(**request))
        except Exception as error:  # whatever it is, the other side decides
            say({"error": f"{type(error).__name__}: {error}"})
