"""A small HTTP proxy in front of the real S3 server that spoils chosen requests."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

#: throttle: 503 SlowDown, not forwarded. drop: the connection is closed, not forwarded.
#: lose_reply: forwarded and carried out, then the connection is closed. cut_body: half of the
#: answer's body, then the connection is closed. full: 507, not forwarded.
Fault = Literal["throttle", "drop", "lose_reply", "cut_body", "full"]

_REFUSALS = {"throttle": (503, "SlowDown"), "full": (507, "InsufficientStorage")}


@dataclass
class _Plan:
    fault: Fault
    method: str
    times: int
    every: int
    seen: int = 0


class FaultProxy:
    """Forwards to ``endpoint``; :meth:`spoil` says which of the coming requests go wrong.

    Attributes:
        requests: how many of each method arrived, spoilt ones included.
    """

    def __init__(self, endpoint: str) -> None:
        self.target = urlsplit(endpoint).netloc
        self.requests: Counter[str] = Counter()
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            pass

        Handler.proxy = proxy
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def spoil(self, fault: Fault, method: str, times: int = 1, every: int = 1) -> None:
        """The next ``times`` requests of this method meet with ``fault``; of ``every`` so many
        that come, the first."""
        with self._lock:
            self._plans.append(_Plan(fault, method, times, every))

    def left(self) -> int:
        """Faults that have not happened yet."""
        with self._lock:
            return sum(plan.times for plan in self._plans)

    def take(self, method: str) -> Fault | None:
        with self._lock:
            self.requests[method] += 1
            for plan in self._plans:
                if plan.method == method and plan.times > 0:
                    plan.seen += 1
                    if plan.seen % plan.every == 1 % plan.every:
                        plan.times -= 1
                        return plan.fault
                    break
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def _handle(self) -> None:
        fault = self.proxy.take(self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault in _REFUSALS:
            self._refuse(*_REFUSALS[fault])
        elif fault == "drop":
            self.close_connection = True
        else:
            status, headers, answer = self._forward(body)
            if fault == "lose_reply":
                self.close_connection = True
            else:
                self._answer(status, headers, answer, cut=fault == "cut_body")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        try:
            # Host stays as the client signed it.
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool
    ) -> None:
        self.send_response_only(status)
        length = next((v for n, v in headers if n.lower() == "content-length"), str(len(body)))
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _refuse(self, status: int, code: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
        self._answer(status, [("Content-Type", "application/xml")], text.encode(), cut=False)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""
