"""A Hugging Face hub on loopback: repositories from memory, gates, tokens, and broken lines."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """`repositories`: name -> file -> bytes. A repository in `gated` is for holders of `token`.

    `cut_after` bytes of a weights file's body break the connection, once for each file named in
    `breaks`; `requests` holds "METHOD path range".
    """

    repositories: Mapping[str, Mapping[str, bytes]]
    gated: set[str] = field(default_factory=set)
    token: str = "hf_good"
    breaks: set[str] = field(default_factory=set)
    cut_after: int = 1000
    requests: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: FakeHub) -> Generator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked = f"{self.command} {path} {self.headers.get('Range', '')}".strip()
            hub.requests.append(asked)
            parts = path.split("/")
            api = parts[:2] == ["api", "models"]
            parts = parts[2:] if api else parts
            name, rest = "/".join(parts[:2]), parts[2:]
            authorization = self.headers.get("Authorization", "")
            if authorization not in ("", f"Bearer {hub.token}"):
                return self.refuse(401, "", "Invalid credentials in Authorization header")
            if name not in hub.repositories:
                return self.refuse(401, "RepoNotFound", "Repository not found")
            if name in hub.gated and not authorization and not api:
                return self.refuse(401, "GatedRepo", f"Access to model {name} is restricted.")
            files = hub.repositories[name]
            if api and rest[:1] == ["tree"]:
                return self.send_json(
                    [
                        {"type": "file", "path": file, "size": len(data), "oid": etag(data)}
                        for file, data in files.items()
                    ]
                )
            if api:
                siblings = [{"rfilename": file, "size": len(files[file])} for file in files]
                return self.send_json(
                    {"id": name, "sha": COMMIT, "siblings": siblings, "private": False}
                )
            file = "/".join(rest[2:])
            if file not in files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            return self.send_file(file, files[file], body=body)

        def send_file(self, file: str, data: bytes, *, body: bool) -> None:
            start = 0
            asked = self.headers.get("Range", "")
            if asked.startswith("bytes=") and asked != "bytes=0-":
                start = int(asked.removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{etag(data)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if not body:
                return
            if file in hub.breaks and not start:
                self.wfile.write(data[: hub.cut_after])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(data[start:])

        def send_json(self, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def refuse(self, status: int, code: str, message: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
