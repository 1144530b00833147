"""streams.py — many streaming clients at once, on asyncio and sockets alone, and what of a server can be counted from
outside: its memory and descriptors in /proc, its numbers in /metrics."""
import asyncio
import json
import os
import re
import socket
import struct
import time

from api_server import PATIENCE


class Stream:
    """What came of one request. `stamps` has the time of each event, `events` their data."""

    def __init__(self):
        self.status, self.head, self.events, self.stamps, self.done = 0, b"", [], [], False

    @property
    def chunks(self):
        return [json.loads(e) for e in self.events if e != b"[DONE]"]

    @property
    def text(self):
        out = []
        for c in self.chunks:
            for choice in c.get("choices", ()):
                out.append(choice.get("text") or choice.get("delta", {}).get("content") or "")
        return "".join(out)

    @property
    def finish(self):
        found = [x["finish_reason"] for c in self.chunks for x in c.get("choices", ()) if x.get("finish_reason")]
        return found[-1] if found else None

    @property
    def usage(self):
        found = [c["usage"] for c in self.chunks if c.get("usage")]
        return found[-1] if found else None


def request(path, body, *headers):
    data = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(data)}",
            "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


async def open_connection(address):
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port), limit=1 << 20)


async def read_head(reader, stream):
    stream.head = await reader.readuntil(b"\r\n\r\n")
    stream.status = int(stream.head.split(b" ", 2)[1])


async def read_events(reader, stream, most=None):
    """Events of a chunked reply until its end, or `most` of them."""
    left = b""
    while most is None or len(stream.events) < most:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        left += (await reader.readexactly(size + 2))[:-2]
        *whole, left = left.split(b"\n\n")
        for block in whole:
            if block.startswith(b"data: "):
                stream.events.append(block[6:])
                stream.stamps.append(time.monotonic())
        if size == 0:
            stream.done = bool(stream.events) and stream.events[-1] == b"[DONE]"
            return


async def stream(address, body, path="/v1/chat/completions", pause=0.0):
    """One request from its first byte to its last; `pause`: seconds before each read."""
    out = Stream()
    reader, writer = await open_connection(address)
    try:
        writer.write(request(path, {**body, "stream": True}))
        await writer.drain()
        await read_head(reader, out)
        if out.status != 200:
            out.events = [(await reader.read()).split(b"\r\n", 1)[-1]]
        elif pause:
            while not out.done:
                await asyncio.sleep(pause)
                await read_events(reader, out, len(out.events) + 1)
        else:
            await read_events(reader, out)
    finally:
        writer.close()
    return out


def streams(address, bodies, path="/v1/chat/completions"):
    async def all_of_them():
        return await asyncio.gather(*[stream(address, b, path) for b in bodies])
    return asyncio.run(all_of_them())


def vanish(sock, reset=True):
    """Close at once, with a reset if wanted."""
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Gauge:
    """Numbers of a server that runs as a process here."""

    def __init__(self, served):
        self.served, self.pid = served, served.process.pid if served.process else None

    def metrics(self):
        out = {}
        for line in self.served.ask("GET", "/metrics").data.decode().splitlines():
            found = re.match(r"zamba_(\w+)(\{.*\})? (\S+)$", line)
            if found:
                labels = re.sub(r'model="[^"]*",?', "", found.group(2) or "").strip("{}")
                out[found.group(1) + (f"{{{labels}}}" if labels else "")] = float(found.group(3))
        return out

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def memory(self, field="VmRSS"):
        """MiB"""
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(field + r":\s+(\d+)", f.read()).group(1)) / 1024

    def settle(self, descriptors=None):
        """Wait until nothing is under way; the numbers then. Fails if something stays."""
        end = time.monotonic() + PATIENCE
        while True:
            m = self.metrics()
            busy = {k: m[k] for k in ("requests_waiting", "requests_running", "http_streams", "http_requests_in_flight") if m[k]}
            n = self.descriptors()
            if not busy and m["http_connections"] <= 1 and (descriptors is None or n <= descriptors):
                return m
            if time.monotonic() > end:
                raise AssertionError((busy, m["http_connections"], n, descriptors))
            time.sleep(0.02)

    def at_rest(self):
        """Once what can be given back was: the engine does so after a second without work."""
        time.sleep(1.6)
        return self.memory()
