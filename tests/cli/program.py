"""program.py — runs the built program for the tests of the command line: with pipes or in a terminal of its own."""
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "models" / "starter-zamba2"
DEFAULT = ROOT / "models" / "zamba2-tales"  # what the program runs where no model is named
PROGRAM = os.environ.get("ZAMBA_PROGRAM") or str(ROOT / "build" / "release" / "zamba")
SANITIZED = bool(os.environ.get("ZAMBA_SANITIZE"))
TIMEOUT = 300 if SANITIZED else 60


def environment(**changes):
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "XDG_STATE_HOME", "LC_ALL", "LANG")}
    env.update(ZAMBA_MODEL=str(MODEL), TERM="xterm", LC_ALL="C.UTF-8")
    env.update({k: str(v) for k, v in changes.items() if v is not None})
    return {k: v for k, v in env.items() if changes.get(k, "") is not None}


class Result:
    def __init__(self, code, out, err):
        self.code, self.raw, self.err = code, out, err.decode(errors="replace")
        self.out = out.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def run(*args, stdin=b"", stdout=subprocess.PIPE, env=None, program=PROGRAM, cwd=ROOT):
    """Run to the end. `stdin`: bytes, text, or None for /dev/null."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    source = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run([program, *map(str, args)], stdout=stdout, stderr=subprocess.PIPE, timeout=TIMEOUT,
                          env=env or environment(), cwd=cwd, **source)
    return Result(done.returncode, done.stdout or b"", done.stderr)


def read_safetensors(path):
    """{name: (shape, list of floats)} of an f32 file; also checks that the layout is sound."""
    data = Path(path).read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    assert n % 8 == 0, n
    header, body = json.loads(data[8:8 + n]), data[8 + n:]
    out, end = {}, 0
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = t["data_offsets"]
        rows, columns = t["shape"]
        assert t["dtype"] == "F32" and first == end and last - first == 4 * rows * columns, (name, t)
        out[name] = (t["shape"], struct.unpack(f"<{rows * columns}f", body[first:last]))
        end = last
    assert end == len(body), (end, len(body))
    return out


class Terminal:
    """The program on a pseudo-terminal, as a person would use it."""

    def __init__(self, *args, env=None, columns=80):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(PROGRAM, [PROGRAM, *map(str, args)], env or environment())
        import fcntl
        import termios
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.seen = ""
        self.code = None

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, seconds=TIMEOUT):
        """Wait until the pattern appears in what was not expected yet; returns all up to its end."""
        limit = time.time() + seconds
        while True:
            match = re.search(pattern, self.seen, re.S)
            if match:
                text, self.seen = self.seen[:match.end()], self.seen[match.end():]
                return text
            if time.time() > limit or (not self.read(0.2) and not self.alive() and not self.read(0)):
                raise AssertionError(f"never saw {pattern!r}; the end of what was seen: {self.seen[-500:]!r}")

    def alive(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def send(self, text):
        os.write(self.fd, text.encode())

    def close(self, seconds=TIMEOUT):
        """Wait for the end; returns the exit code."""
        limit = time.time() + seconds
        while self.alive() and time.time() < limit:
            self.read(0.1)
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise AssertionError(f"the program did not end; last: {self.seen[-500:]!r}")
        while self.read(0):
            pass
        os.close(self.fd)
        return self.code


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def fails(self, result, code, *words):
        self.assertEqual(result.code, code, result.err)
        self.assertTrue(result.err.startswith("zamba: "), result.err)
        for word in words:
            self.assertIn(word, result.err)
