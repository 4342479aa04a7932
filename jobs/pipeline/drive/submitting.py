"""Ray's Jobs API: a run is submitted to a cluster, followed and stopped from outside."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO
from urllib.parse import urlsplit

from jobs.pipeline.drive.shipping import copy_code
from jobs.pipeline.record import config as label_config
from tddfa3.assets.bundle import OPEN
from tddfa3.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
"""A dashboard on this machine, or one whose port is forwarded to here."""
PROGRAM = "jobs.label"
"""The program that the head runs."""

PASSED_ON = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
"""Variables that say where the storage is. Credentials are sent only if --pass-env names them."""


class JobClient(Protocol):
    """The part of ``ray.job_submission.JobSubmissionClient`` that is used here."""

    def submit_job(self, *, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        """Start a job and return its id."""

    def get_job_info(self, job_id: str) -> JobDetails:
        """The job's details; RuntimeError if there is no such job."""

    def stop_job(self, job_id: str) -> bool:
        """Ask the job to stop, and return at once."""

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """The job's log from its beginning, in pieces, until the job ends."""


def entrypoint_of(arguments: Sequence[str], program: str = PROGRAM) -> tuple[str, str]:
    """The command that the head runs, and the assets that it names.

    Args:
        arguments: of the program, checked here so that a mistake shows before anything is sent.
        program: the module to run.

    Raises:
        UserError: the cluster could not run the command.
    """
    arguments = list(arguments)
    if "--ray-address" not in arguments and not _has_value("--ray-address=", arguments):
        arguments += ["--ray-address", "auto"]
    config = label_config.parse(arguments, _manifest_is_elsewhere)
    if config.ray_address != "auto":
        raise UserError("--ray-address: the run joins the cluster it is submitted to; leave it out")
    assets = "" if config.assets == OPEN else config.assets
    for path in (*config.paths, assets, config.resume):
        if path and "://" not in path and not path.startswith(("/", "file:")):
            raise UserError(
                f"{path!r} is relative, but paths are read on the cluster: give an absolute path "
                "that all its machines see, or s3://"
            )
    return shlex.join(["python", "-m", program, *arguments]), config.assets


def _has_value(prefix: str, arguments: Sequence[str]) -> bool:
    return any(argument.startswith(prefix) for argument in arguments)


def _manifest_is_elsewhere(config: object) -> NoReturn:
    raise UserError(
        "--resume reads the manifest, which only the cluster may be able to; "
        "submit the run's own command again: it continues"
    )


def environment_of(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the run gets: those in ``PASSED_ON``, and those asked for by name.

    Args:
        names: what ``--pass-env`` names.
        environ: where the values come from.

    Raises:
        UserError: there is no such variable, or a name is followed by a value.
    """
    for name in names:
        if "=" in name:
            # Not shown whole: what follows may be a secret.
            raise UserError(f"--pass-env {name.partition('=')[0]}: give the name only")
        if name not in environ:
            raise UserError(f"--pass-env {name}: there is no such variable in the environment")
    wanted = (*(name for name in PASSED_ON if name in environ), *names)
    return {"PYTHONUNBUFFERED": "1", **{name: environ[name] for name in wanted}}


def http_address(address: str) -> str:
    """``http(s)://host:port`` of the dashboard, from that or from ``host[:port]``.

    Raises:
        UserError: it is neither.
    """
    if "://" not in address:
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 8265)
    except ValueError:
        raise UserError(f"--address {address}: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--address {address}: give the dashboard's, such as {DEFAULT_ADDRESS}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def connect(address: str, timeout: float = 10.0) -> JobClient:
    """A client of the cluster's Jobs API.

    Args:
        address: as :func:`http_address` returns it.
        timeout: seconds for the connection.

    Raises:
        UserError: nothing answers, the token is wrong or missing, or the Ray versions differ.
    """
    parts = urlsplit(address)
    assert parts.hostname is not None
    # Ray's client has no timeout: a firewall that swallows packets would hold it up for minutes.
    try:
        socket.create_connection((parts.hostname, parts.port), timeout).close()
    except OSError as error:
        raise UserError(
            f"{address} does not answer ({error}): is the cluster up, and the dashboard's port "
            "forwarded to here?"
        ) from None
    _choose_token_mode(os.environ)
    # Ray would let these override the address that was given.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)

    import ray
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # Ray logs every step of its packaging.
    for handler in logging.getLogger("ray").handlers:
        handler.setLevel(logging.ERROR)
    try:
        client = JobSubmissionClient(address)
        theirs = client._server_ray_version
    except AuthenticationError as error:
        raise UserError(f"{address} {_token_message(str(error))}") from None
    except Exception as error:
        why = _first_line(error)
        raise UserError(f"{address} is not the dashboard of a Ray cluster ({why})") from None
    if theirs and _minor(theirs) != _minor(ray.__version__):
        raise UserError(
            f"{address} runs Ray {theirs}, this is Ray {ray.__version__}: install the same "
            f"version here (pip install 'ray[default]=={theirs}')"
        )
    return client


def _choose_token_mode(environ: Any) -> None:
    """Use a token that exists, as the cluster's machines do, unless RAY_AUTH_MODE is set."""
    if "RAY_AUTH_MODE" in environ:
        return
    token_file = Path(environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if environ.get("RAY_AUTH_TOKEN") or token_file.is_file():
        environ["RAY_AUTH_MODE"] = "token"


def _token_message(error: str) -> str:
    if "no authentication token was found" in error or "required" in error:
        return (
            "wants a token: put the cluster's into ~/.ray/auth_token or RAY_AUTH_TOKEN, and set "
            "RAY_AUTH_MODE=token"
        )
    return "refuses this token: is the one in RAY_AUTH_TOKEN or ~/.ray/auth_token this cluster's?"


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def submit(client: JobClient, entrypoint: str, environment: Mapping[str, str], assets: str) -> str:
    """Send the code and the command, and the bundle that comes with the code if it is wanted.

    Returns:
        The id that the cluster gave the job.

    Raises:
        UserError: the cluster did not take the job.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy_code(Path(folder), assets)
        runtime_env = {"working_dir": folder, "env_vars": dict(environment)}
        try:
            return client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the cluster did not take the job: {_first_line(error)}") from None


async def follow(client: JobClient, job_id: str, out: TextIO, pause: float = 1.0) -> JobDetails:
    """Print a job's log until the job has ended; reconnect when the connection is lost.

    The log is sent from its beginning each time; what was printed already is skipped.

    Args:
        client: of the cluster.
        job_id: the job.
        out: where the log goes.
        pause: seconds between two connections.

    Returns:
        The job's details once it has ended.

    Raises:
        UserError: there is no such job, or the connection was lost again and again.
    """
    printed = 0
    failures = 0
    while True:
        seen = 0
        try:
            info = job_info(client, job_id)
            async for text in client.tail_job_logs(job_id):
                seen += len(text)
                fresh = text[len(text) - (seen - printed) :] if seen > printed else ""
                out.write(fresh)
                out.flush()
                printed = max(printed, seen)
                failures = 0
            info = job_info(client, job_id)
        except (RuntimeError, OSError) as error:
            failures += 1
            if failures > 30:
                raise UserError(
                    f"lost the connection to the cluster ({_first_line(error)}); the run may go on"
                ) from None
        else:
            if is_over(info):
                return info
        await asyncio.sleep(pause)


def job_info(client: JobClient, job_id: str) -> JobDetails:
    """A job's details.

    Raises:
        UserError: there is no such job.
        RuntimeError: the cluster could not be asked.
    """
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        if "404" in str(error):
            raise UserError(f"the cluster knows no job {job_id}") from None
        raise


def is_over(info: JobDetails) -> bool:
    """Whether the job has ended, in whatever way."""
    return str(info.status) in ("SUCCEEDED", "FAILED", "STOPPED")


def stop(client: JobClient, job_id: str, patience: float = 60.0, pause: float = 0.5) -> str:
    """Ask the run to stop, and wait until it has.

    Args:
        client: of the cluster.
        job_id: the job.
        patience: seconds that the run may take to stop.
        pause: seconds between two questions.

    Returns:
        One line for a person.

    Raises:
        UserError: there is no such job, or it goes on after ``patience`` seconds.
    """
    if is_over(info := job_info(client, job_id)):
        return f"{job_id} had ended already: {info.status}"
    client.stop_job(job_id)
    deadline = time.monotonic() + patience
    while not is_over(job_info(client, job_id)):
        if time.monotonic() > deadline:
            raise UserError(f"{job_id} has not stopped after {patience:g} s; try again")
        time.sleep(pause)
    return f"stopped {job_id}; what is committed stays, and the same command continues it"
