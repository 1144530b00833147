#!/usr/bin/env python3
"""hand_over.py — copy the saved states of one `zamba serve` to another that has the same model, under the same ids; with
HAProxy in front (haproxy.cfg) also drain the first, so that it can be stopped and no conversation is lost.

    python3 hand_over.py FROM TO                        copy what TO does not have
    python3 hand_over.py FROM TO --proxy SOCKET --server zamba/a [--state drain]

With --proxy: copy while FROM still serves; tell HAProxy `set server zamba/a state drain`; go on copying what requests under
way leave, until HAProxy has none there any more. Then FROM can be stopped. To bring it back: the same with FROM and TO
exchanged, and --state ready. Keys: --key-file (its first line), or ZAMBA_API_KEY. Nothing is deleted anywhere.
"""
import argparse
import csv
import http.client
import io
import json
import os
import socket
import sys
import time
import urllib.parse


class Failure(Exception):
    pass


class Server:
    def __init__(self, url, key):
        self.url = urllib.parse.urlsplit(url if "//" in url else "//" + url)
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ask(self, method, path, body=None):
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=300)
        headers = {**self.headers, **({"Content-Type": "application/octet-stream"} if body is not None else {})}
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError as e:
            raise Failure(f"{self.url.netloc}: {e}") from e
        finally:
            connection.close()

    def states(self):
        """{id: the model's name}"""
        status, data = self.ask("GET", "/v1/states")
        if status != 200:
            raise Failure(f"{self.url.netloc}: GET /v1/states: {status} {data[:200].decode(errors='replace')}")
        return {s["id"]: s["model"] for s in json.loads(data)["data"]}


class Copy:
    def __init__(self, source, target):
        self.source, self.target = source, target
        self.done, self.bytes, self.bad = set(), 0, {}

    def some(self):
        """Copy what is not there yet; how many were copied. What failed is tried again by the next call."""
        there, n = self.target.states(), 0
        for state, model in reversed(self.source.states().items()):  # the newest first: they are the ones asked for
            if state in there:
                continue
            status, data = self.source.ask("GET", f"/v1/states/{state}")
            if status == 404:  # dropped meanwhile
                continue
            if status == 200:
                size = len(data)
                status, data = self.target.ask("PUT", f"/v1/states/{state}?model={urllib.parse.quote(model)}", data)
            if status in (200, 201):
                self.done.add(state)
                self.bytes += size
                self.bad.pop(state, None)
                n += 1
            else:
                self.bad[state] = f"{status} {data[:200].decode(errors='replace')}"
        return n


def command(path, line):
    """What HAProxy answers on its socket."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
            s.sendall(line.encode() + b"\n")
            out = b""
            while piece := s.recv(65536):
                out += piece
        except OSError as e:
            raise Failure(f"{path}: {e}") from e
    return out.decode()


def sessions(path, server):
    """Requests that HAProxy has under way at a server, or waiting for it."""
    for row in csv.DictReader(io.StringIO(command(path, "show stat").lstrip("# "))):
        if f"{row['pxname']}/{row['svname']}" == server:
            return int(row["scur"] or 0) + int(row["qcur"] or 0)
    raise Failure(f"{path}: no server {server} there")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="FROM")
    parser.add_argument("target", metavar="TO")
    parser.add_argument("--key-file")
    parser.add_argument("--proxy", metavar="SOCKET", help="HAProxy's stats socket")
    parser.add_argument("--server", metavar="BACKEND/SERVER", help="FROM's name there (TO's for --state ready)")
    parser.add_argument("--state", choices=("drain", "ready"), default="drain")
    parser.add_argument("--seconds", type=float, default=600, help="how long requests under way are waited for")
    args = parser.parse_args()
    if bool(args.proxy) != bool(args.server):
        parser.error("--proxy and --server belong together")
    key = os.environ.get("ZAMBA_API_KEY")
    if args.key_file:
        with open(args.key_file, encoding="utf-8") as f:
            key = f.readline().split()[-1]
    copy = Copy(Server(args.source, key), Server(args.target, key))
    left = copy.some()
    if args.proxy:
        before = 2 * left
        while 2 < left <= before / 2:  # what came meanwhile, as long as it gets less: little is to be left at the move
            before, left = left, copy.some()
        said = command(args.proxy, f"set server {args.server} state {args.state}").strip()
        if said:
            raise Failure(f"{args.proxy}: {said}")
        end = time.monotonic() + args.seconds
        busy = True
        while busy and time.monotonic() < end:
            busy = args.state == "drain" and sessions(args.proxy, args.server) > 0
            copy.some()  # after the question: what a request that is over left is there
            if busy:
                time.sleep(0.05)
        if busy:
            print(f"hand_over: after {args.seconds:g} s {args.server} still has requests", file=sys.stderr)
    print(f"{len(copy.done)} states, {copy.bytes / 2**20:.1f} MiB" + (f"; {args.server}: {args.state}" if args.proxy else ""))
    for state, why in copy.bad.items():
        print(f"hand_over: {state}: {why}", file=sys.stderr)
    return 1 if copy.bad or (args.proxy and busy) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as e:
        print(f"hand_over: {e}", file=sys.stderr)
        sys.exit(1)
