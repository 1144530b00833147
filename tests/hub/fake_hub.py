"""fake_hub.py — a hub on loopback for the tests: one server that answers as huggingface.co does, another one that holds
the large files, and faults for both. Nothing of it is fast or complete."""
import hashlib
import http.server
import json
import threading
import time
from urllib.parse import unquote, urlsplit


def git_sum(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):  # clients that hang up are what the tests are about
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.hub.lock:
            self.server.hub.log.append((self.server.role, self.command, unquote(self.path), dict(self.headers)))
        try:
            self.server.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code=None, message=None, **headers):
        if code:
            headers["X_Error_Code"] = code
        if message:
            headers["X_Error_Message"] = message
        self.reply(status, b"<html>no</html>", **headers)

    def cut(self):
        self.wfile.flush()
        self.connection.close()
        self.close_connection = True

    def serve(self, data, **headers):
        """A file with ranges, and with what the next fault of this path says."""
        name = unquote(urlsplit(self.path).path)
        hub = self.server.hub
        fault = hub.next_fault(self.server.role, name) if self.command == "GET" else {}
        if "status" in fault:
            return self.error(fault["status"], fault.get("code"), fault.get("message"), **fault.get("headers", {}))
        if "redirect" in fault:
            return self.reply(302, Location=fault["redirect"])
        data = fault["change"](data) if "change" in fault else data
        first, status = 0, 200
        wanted = self.headers.get("Range")
        if wanted and "no_range" not in fault:
            first, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            if first >= len(data):
                return self.error(416)
            headers["Content_Range"] = f"bytes {first + fault.get('shift', 0)}-{len(data) - 1}/{len(data)}"
        body = data[first:]
        if "no_length" in fault:
            headers["Connection"] = "close"
            self.send_response(status)
            for k, v in headers.items():
                self.send_header(k.replace("_", "-"), str(v))
            self.end_headers()
            self.wfile.write(body[:fault["no_length"]])
            return self.cut()
        self.send_response(status)
        for k, v in {"Content_Length": len(body), **headers}.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.end_headers()
        if self.command == "HEAD":
            return None
        if "cut" in fault:
            self.wfile.write(body[:fault["cut"]])
            hub.sent[name] = hub.sent.get(name, 0) + min(fault["cut"], len(body))
            return self.cut()
        if "slow" in fault:
            self.wfile.write(body[:fault["slow"]])
            self.wfile.flush()
            hub.reached.set()
            hub.go_on.wait(60)
            body = body[fault["slow"]:]
        self.wfile.write(body)
        hub.sent[name] = hub.sent.get(name, 0) + len(body)
        return None


class Repo:
    def __init__(self, files, commit="a" * 40, large=(".safetensors", ".gguf", "tokenizer.json"), **more):
        self.files, self.commit, self.large = files, commit, large
        self.revisions = {"main": commit, commit: commit, **more.get("revisions", {})}
        self.siblings = more.get("siblings")  # instead of what the files say
        self.sizes = more.get("sizes", True)  # False: a mirror that says names only
        self.token, self.gated = more.get("token"), more.get("gated", False)
        self.sha = more.get("sha", commit)

    def is_large(self, name):
        return name.endswith(self.large)

    def etag(self, name):
        data = self.files[name]
        return hashlib.sha256(data).hexdigest() if self.is_large(name) else git_sum(data)

    def list(self):
        if self.siblings is not None:
            return self.siblings
        if not self.sizes:
            return [{"rfilename": name} for name in self.files]
        out = []
        for name, data in self.files.items():
            item = {"rfilename": name, "size": len(data), "blobId": git_sum(data)}
            if self.is_large(name):
                item["lfs"] = {"sha256": self.etag(name), "size": len(data), "pointerSize": 134}
            out.append(item)
        return out


class FakeHub:
    """repos: {"Org/Name": Repo}. faults: {path: [fault, ...]}, one for each GET; the last one stays if `always`."""

    def __init__(self):
        self.repos, self.faults, self.log, self.sent = {}, {}, [], {}
        self.always = False
        self.lock, self.reached, self.go_on = threading.Lock(), threading.Event(), threading.Event()
        self.hub, self.store = self.start("hub", self.answer_hub), self.start("store", self.answer_store)

    def start(self, role, answer):
        server = Server(("127.0.0.1", 0), Handler)
        server.hub, server.role, server.answer = self, role, answer
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def close(self):
        self.go_on.set()
        for server in (self.hub, self.store):
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.hub.server_port}"

    def fault(self, name, *faults, always=False, where=None):
        self.faults[name] = [list(faults), always, where]

    def next_fault(self, role, path):
        with self.lock:
            for name, entry in self.faults.items():
                faults, always, where = entry
                if path.endswith(name) and faults and where in (None, role):
                    return faults[0] if always and len(faults) == 1 else faults.pop(0)
        return {}

    def asked(self, role, end="", method="GET"):
        """The headers of requests whose path ends so."""
        with self.lock:
            return [h for r, m, path, h in self.log if r == role and m == method and urlsplit(path).path.endswith(end)]

    # ---- as huggingface.co

    def answer_hub(self, h):
        parts = unquote(urlsplit(h.path).path).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        repo = self.repos.get(name)
        given = h.headers.get("Authorization")
        if given and not given.startswith("Bearer hf_"):
            return h.error(401, None, "Invalid credentials in Authorization header")
        if repo is None or (repo.token and given != f"Bearer {repo.token}"):
            return h.error(401, "RepoNotFound", "Repository not found") if not given else h.error(404, "RepoNotFound")
        if api:
            fault = self.next_fault("hub", "/api")
            if "status" in fault:
                return h.error(fault["status"], fault.get("code"), fault.get("message"), **fault.get("headers", {}))
            if "redirect" in fault:
                return h.reply(307, Location=fault["redirect"])
            if "body" in fault:
                return h.reply(200, fault["body"])
            revision = unquote(urlsplit(h.path).path.split("/revision/")[1])
            if revision not in repo.revisions:
                return h.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return h.reply(200, json.dumps({"id": name, "sha": repo.sha, "siblings": repo.list()}).encode(),
                           Content_Type="application/json")
        file = "/".join(parts[4:])
        if repo.gated and not given:
            return h.error(401, "GatedRepo", f"Access to model {name} is restricted.")
        if repo.gated:
            return h.error(403, "GatedRepo", f"Access to model {name} is restricted.")
        if file not in repo.files:
            return h.error(404, "EntryNotFound", "Entry not found", X_Repo_Commit=repo.commit)
        data = repo.files[file]
        if repo.is_large(file):
            return h.reply(302, Location=f"http://127.0.0.1:{self.store.server_port}/{name}/{file}?sig=1", ETag='"x"',
                           X_Repo_Commit=repo.commit, X_Linked_Size=len(data), X_Linked_ETag=f'"{repo.etag(file)}"')
        return h.serve(data, ETag=f'"{repo.etag(file)}"', X_Repo_Commit=repo.commit, Accept_Ranges="bytes")

    # ---- as the storage behind it

    def answer_store(self, h):
        parts = unquote(urlsplit(h.path).path).strip("/").split("/")
        repo = self.repos["/".join(parts[:2])]
        return h.serve(repo.files["/".join(parts[2:])], ETag='"other"', Accept_Ranges="bytes")


def wait_until(condition, seconds=30):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "it never came to this"
        time.sleep(0.01)
