"""A real Ray cluster on loopback, with a token, from processes that the test starts and ends.

``ray stop`` would end every Ray on the machine, so nothing here uses it: a node is the tree of
processes below its own ``ray start --block``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
#: Ray puts the machine's outer address in the place of 127.0.0.1, but leaves the other addresses
#: of the loopback network alone. Every node has one of its own.
NODE_ADDRESS = "127.0.0.{}"
STORE_BYTES = 80 * 2**20


def free_ports(count: int) -> list[int]:
    """Ports that nobody had a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.2)


def process_tree(root: int) -> list[int]:
    """A process and all below it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@dataclass
class Node:
    """One machine of the cluster, as far as Ray can tell."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def kill(self) -> None:
        """As if its power were cut."""
        tree = process_tree(self.process.pid)
        _signal(tree, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """Asks it to end, and kills what is left of it."""
        tree = process_tree(self.process.pid)
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        _signal(tree, signal.SIGKILL)
        self.process.wait(10)


@dataclass
class RayCluster:
    """A head without CPUs; :meth:`add_node` adds machines. Ends all it started on leaving."""

    head_options: Sequence[str] = ()
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    nodes: list[Node] = field(default_factory=list)
    started: int = 0

    def __enter__(self) -> RayCluster:
        # Short: the names of Unix sockets have little room.
        self.folder = Path(tempfile.mkdtemp(prefix="tddfa3-", dir="/tmp"))
        self.gcs_port, dashboard, client, self.agent_port, self.metrics_port = free_ports(5)
        self.address = f"{NODE_ADDRESS.format(2)}:{self.gcs_port}"
        self.dashboard = f"http://{HOST}:{dashboard}"
        try:
            self.add_node(
                *("--head", f"--port={self.gcs_port}", "--num-cpus=0"),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
                f"--ray-client-server-port={client}",
                f"--dashboard-agent-listen-port={self.agent_port}",
                f"--metrics-export-port={self.metrics_port}",
                *self.head_options,
            )
            wait_until(lambda: self.status_of("/api/version") == 200, "the dashboard answers")
            wait_until(lambda: self.status_of(*self.health) == 200, "the head is healthy")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in reversed(self.nodes):
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def health(self) -> tuple[str, str]:
        """Path and server of the head's health page."""
        return "/api/healthz", f"http://{HOST}:{self.agent_port}"

    def environment(self, **more: str) -> dict[str, str]:
        """For a program that may use the cluster: nothing of another Ray, and the token."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return {
            **kept,
            "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            **more,
        }

    def add_node(self, *options: str) -> Node:
        """``ray start`` with ``options``; a worker of this cluster unless they say ``--head``."""
        joining = () if "--head" in options else (f"--address={self.address}",)
        self.started += 1
        address = NODE_ADDRESS.format(1 + self.started)
        log = self.folder / f"node-{self.started}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [
                    *(str(BIN / "ray"), "start", "--block", f"--node-ip-address={address}"),
                    *(f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"),
                    # Nodes that start together in one folder would take the same socket names.
                    f"--temp-dir={self.folder}/{self.started}",
                    *joining,
                    *options,
                ],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd=self.folder,
                start_new_session=True,
            )
        node = Node(process, address, log)
        self.nodes.append(node)
        return node

    def status_of(self, path: str, server: str = "", token: str | None = None) -> int:
        """HTTP status of a page of the dashboard, or of ``server``; 0 where nobody answers."""
        request = urllib.request.Request(f"{server or self.dashboard}{path}")
        if not server or token is not None:
            request.add_header("Authorization", f"Bearer {token or self.token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metrics(self) -> str:
        """What the head's metrics agent would tell Prometheus; empty where nobody answers."""
        try:
            page = f"http://{NODE_ADDRESS.format(2)}:{self.metrics_port}/metrics"
            with urllib.request.urlopen(page, timeout=10) as answer:
                return str(answer.read(), "utf-8")
        except OSError:
            return ""

    def run(
        self, *command: str, timeout: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a Python program of the project in the cluster's environment."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        """Like :meth:`run`, in the background, its output in ``log``."""
        with log.open("wb") as sink:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.environment(),
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
