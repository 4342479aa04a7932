"""A small stand-in for the Hugging Face hub: the requests that a download makes, on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPOSITORY = "Zidu-Wang/3DDFA-V3"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubState:
    """What the hub holds, how it misbehaves, and what it was asked for."""

    files: dict[str, bytes]
    drop_once_after: dict[str, int] = field(default_factory=dict)  # path -> bytes before the drop
    refuse: set[str] = field(default_factory=set)
    stated_sha256: dict[str, str] = field(default_factory=dict)
    downloads: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    endpoint: str = ""


@contextmanager
def serve_hub(folder: Path) -> Iterator[HubState]:
    """Serve ``folder`` as the repository's folder ``assets``, beside files that nobody needs."""
    files = {f"assets/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
    state = HubState({**files, "README.md": b"# data", "assets/meanshape-68ldms.obj": b"v 0 0 0"})

    class Handler(_Handler):
        hub = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubState

    def do_HEAD(self) -> None:
        path = self._file_path()
        if path is not None:
            self._send_headers(200, len(self.hub.files[path]), path)

    def do_GET(self) -> None:
        url = urlsplit(self.path).path
        if url.startswith(f"/api/datasets/{REPOSITORY}"):
            self._send_listing()
            return
        path = self._file_path()
        if path is not None:
            self._send_file(path)

    def _file_path(self) -> str | None:
        prefix = f"/datasets/{REPOSITORY}/resolve/{COMMIT}/"
        path = unquote(urlsplit(self.path).path).removeprefix(prefix)
        if path not in self.hub.files or path in self.hub.refuse:
            self.send_error(403 if path in self.hub.refuse else 404)
            return None
        return path

    def _send_listing(self) -> None:
        siblings = []
        for path, content in self.hub.files.items():
            digest = hashlib.sha256(content).hexdigest()
            lfs = {"sha256": self.hub.stated_sha256.get(path, digest), "size": len(content)}
            entry: dict[str, object] = {"rfilename": path, "size": len(content)}
            if path != "README.md":
                entry["lfs"] = {**lfs, "pointerSize": 130}
            siblings.append(entry)
        body = json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode()
        self._send_headers(200, len(body))
        self.wfile.write(body)

    def _send_file(self, path: str) -> None:
        content, requested = self.hub.files[path], self.headers.get("Range")
        self.hub.downloads.append((path, requested))
        start = int(requested.removeprefix("bytes=").split("-")[0]) if requested else 0
        part = content[start:]
        self._send_headers(206 if requested else 200, len(part), path, start, len(content))
        drop = self.hub.drop_once_after.pop(path, None)
        self.wfile.write(part if drop is None else part[:drop])
        if drop is not None:
            self.close_connection = True

    def _send_headers(
        self, status: int, length: int, path: str = "", start: int = 0, total: int = 0
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if path:
            digest = hashlib.sha256(self.hub.files[path]).hexdigest()
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output quiet."""
