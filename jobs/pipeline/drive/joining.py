"""Joining a Ray cluster, with one line for everything that can go wrong at the start.

By itself ``ray.init`` waits for many minutes if there is no answer, takes twenty seconds and as
many lines to report a wrong token, and eight lines to report another version.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from tddfa3.errors import UserError

_PATIENCE = 10.0
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def join_cluster(address: str, **options: Any) -> None:
    """``ray.init`` on the cluster at ``address``: ``auto`` or ``HOST:PORT`` of its GCS.

    ``auto`` is the cluster in RAY_ADDRESS, as in a submitted job, or the one on this machine.

    Raises:
        UserError: nobody answers, the token is wrong or missing, or the versions differ.
    """
    if "://" in address:
        raise UserError(
            f"--ray-address {address}: give auto or HOST:PORT (6379 by default); from outside the "
            "cluster use python -m jobs.submit"
        )
    try:
        found = _resolve(address)
        _knock(address, found)
        ray.init(address=found, **options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--ray-address {address}: {explain(error)}") from None


def explain(error: Exception) -> str:
    """What ``ray.init`` raised, in one line that says what to do."""
    text = str(error).strip()
    if text.startswith("Version mismatch") and len(both := _VERSIONS.findall(text)) == 2:
        (theirs, their_python), (ours, our_python) = both
        return (
            f"the cluster runs Ray {theirs} on Python {their_python}, this is Ray {ours} on Python "
            f"{our_python}; use the same versions here (pip install 'ray[default]=={theirs}')"
        )
    if isinstance(error, ray.exceptions.AuthenticationError):
        return (
            "the cluster refuses this process's token, or it has none; set RAY_AUTH_MODE=token and "
            "put the cluster's token into RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )
    return text.partition("\n")[0][:300] or type(error).__name__


def _resolve(address: str) -> str:
    if address != "auto":
        return address
    if given := os.environ.get("RAY_ADDRESS"):
        return given
    try:
        from ray._private.services import canonicalize_bootstrap_address

        found = canonicalize_bootstrap_address("auto")
    except ImportError:  # another version of Ray: ray.init resolves "auto" itself
        return address
    except ConnectionError:
        found = None
    if not found:
        raise UserError(
            "--ray-address auto: no Ray cluster on this machine; give HOST:PORT, or leave the "
            "option out for a Ray of this run's own"
        )
    return str(found)


def _knock(shown: str, address: str) -> None:
    """Find out within seconds whether somebody answers, and whether the token is right."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        if address == "auto":
            return
        raise UserError(f"--ray-address {shown}: give auto or HOST:PORT (6379 by default)")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        raise UserError(
            f"--ray-address {shown}: nobody answers at {address} ({error}); is the cluster up, and "
            "is this its GCS port (6379 by default)?"
        ) from None
    gcs_client = getattr(importlib.import_module("ray._raylet"), "GcsClient", None)
    if gcs_client is not None:  # else another version of Ray: ray.init will see it, more slowly
        with _quiet_stderr():
            gcs_client(address=address)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence stderr: Ray's C++ part warns there of a wrong token before it raises."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nothing)
        os.close(kept)
