"""rivals_process.py — starts the programs that are measured, asks them things, and watches what else the machine does
meanwhile. A program is asked by one JSON line and answers by one (rival_lines.py, bench_runner.c)."""
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HZ = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    pass


def note(text):
    print(text, file=sys.stderr, flush=True)


def busy():
    """Seconds of processor time that the whole machine has spent, other tenants of a virtual one included."""
    f = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (f[0] + f[1] + f[2] + f[5] + f[6] + f[7]) / HZ


def spent(pid):
    """Seconds of processor time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HZ


def wait_idle(limit, allowed=0.2):
    """Until others use less than so many cores, at most `limit` seconds."""
    began = time.time()
    while time.time() - began < limit:
        b, t = busy(), time.time()
        time.sleep(0.3)
        if (busy() - b) / (time.time() - t) < allowed:
            return
        time.sleep(0.7)


class Program:
    def __init__(self, name, command, log):
        self.name, self.log = name, log
        self.errors = open(log, "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def ask(self, do, **values):
        """The answer, with `other` in it: cores that anything else used meanwhile."""
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended (code {self.process.returncode}); see {self.log}")
        b, t, own = busy(), time.time(), spent(self.process.pid)
        try:
            self.process.stdin.write((json.dumps(dict(values, do=do)) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} ended; see {self.log}") from None
        shown = time.time()
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise Failed(f"{self.name} ended at '{do}' (code {self.process.wait()}); see {self.log}")
            answer = json.loads(line)
            if "progress" not in answer:
                break
            if time.time() - shown > 5:
                shown = time.time()
                done, total = answer["progress"]
                left = (shown - t) / done * (total - done)
                note(f"    {self.name}: {do} {done} of {total} tokens, {left:.0f} s left")
        if "error" in answer:
            raise Failed(f"{self.name}: {do}: {answer['error']}")
        took = max(time.time() - t, 1e-3)
        answer["other"] = max(0.0, (busy() - b - (spent(self.process.pid) - own)) / took)
        return answer

    def close(self):
        try:
            self.process.stdin.write(b'{"do": "quit"}\n')
            self.process.stdin.close()
            self.process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Spinner:
    """A process that keeps one core busy."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def step_seconds(answer, threads):
    """The median step: by the thread's processor time with one thread, else by the wall clock."""
    return statistics.median(answer["cpus"] if threads == 1 else answer["walls"])


class Meter:
    """Takes samples in turns: ours, rival, ours, rival, ..., ours, with a probe of the machine before and after each.
    With more than one thread a sample counts only if nothing else used more than `allowed` cores meanwhile."""

    def __init__(self, prober, threads, rounds, wait, allowed=0.1):
        self.prober, self.threads, self.rounds, self.wait, self.allowed = prober, threads, rounds, wait, allowed
        self.probes, self.disturbed = [], 0

    def probe(self):
        found = self.prober.ask("probe", threads=self.threads, repeats=5)
        self.probes.append({k: found[k] for k in ("read", "f32", "bf16", "int8")})
        return self.probes[-1]

    def best(self, what):
        return max(p[what] for p in self.probes)

    def sample(self, ask, attempts=3):
        for attempt in range(attempts):
            if self.threads > 1:
                wait_idle(self.wait)
            answer = ask()
            if self.threads == 1 or answer["other"] <= self.allowed:
                return answer
        self.disturbed += 1
        return answer

    def take(self, ask):
        """One sample between two probes."""
        before = self.probes[-1] if self.probes else self.probe()
        answer = self.sample(ask)
        after = self.probe()
        read = max(before["read"], after["read"])
        return dict(seconds=step_seconds(answer, self.threads), other=round(answer["other"], 3), read=read,
                    bytes=answer.get("bytes"))

    def turns(self, ours, rival):
        """({seconds: median of ours}, {of the rival}, how much faster ours is: the median over neighbours)."""
        mine, theirs = [self.take(ours)], []
        for _ in range(self.rounds):
            theirs.append(self.take(rival))
            mine.append(self.take(ours))
        return mine, theirs, neighbours([s["seconds"] for s in mine], [s["seconds"] for s in theirs])

    def alone(self, ours):
        return [self.take(ours) for _ in range(self.rounds + 1)]


def neighbours(mine, theirs):
    """Seconds of each rival's sample against the mean of ours before and after it; the median of these ratios."""
    return statistics.median(t / ((mine[i] + mine[i + 1]) / 2) for i, t in enumerate(theirs))


def median_of(samples, key="seconds"):
    return statistics.median(s[key] for s in samples)
