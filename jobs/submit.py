"""Submit a labelling run to a Ray cluster, follow it, and pass its exit code on.

    python -m jobs.submit --address http://HEAD:8265 INPUT... OUTPUT [--assets DIR] [options]
    python -m jobs.submit --address http://HEAD:8265 --attach ID
    python -m jobs.submit --address http://HEAD:8265 --stop ID

What is not an option of this program is an option of ``jobs.label``, which then runs on the
cluster's head. Paths are read on the cluster: an absolute path on a file system that all machines
see, or ``s3://``. Ctrl-C leaves the run alone; ``--stop`` stops it. The same command continues it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO
from urllib.parse import urlsplit

from jobs.pipeline.record import config as label_config
from tddfa3.assets.bundle import BUNDLE_JSON, OPEN, AssetBundle
from tddfa3.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
PROGRAM = "jobs.label"

#: What the cluster gets of the code. Chosen, not excluded: data that lie about here stay here.
PACKAGES = ("tddfa3", "jobs")

#: Where the storage is, which is no secret. Credentials travel only when --pass-env names them.
PASSED_ON = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")

EXIT_USAGE, EXIT_STOPPED = 2, 4
EXIT_DETACHED = 128 + signal.SIGINT

#: The driver never ran: a mistake in what was submitted, not a run that can be continued.
NEVER_STARTED = ("RUNTIME_ENV_SETUP_FAILURE", "JOB_ENTRYPOINT_COMMAND_START_ERROR")


class JobClient(Protocol):
    """What is used of ``ray.job_submission.JobSubmissionClient``."""

    def submit_job(self, *, entrypoint: str, runtime_env: dict[str, Any]) -> str: ...

    def get_job_info(self, job_id: str) -> JobDetails: ...

    def stop_job(self, job_id: str) -> bool: ...

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]: ...


def main(argv: Sequence[str] | None = None) -> int:
    options, rest = _parser().parse_known_args(argv)
    try:
        if options.stop or options.attach:
            if rest:
                raise UserError(f"--attach and --stop take no {rest[0]!r}")
        else:
            entrypoint, assets = entrypoint_of(rest)
            environment = environment_of(options.pass_env, os.environ)
        address = http_address(options.address)
        client = connect(address)
        if options.stop:
            return stop(client, options.stop)
        job_id = options.attach
        if not job_id:
            job_id = submit(client, entrypoint, environment, assets)
            print(f"submitted {job_id} to {address}")
        if options.no_wait:
            print(how_to_go_on(address, job_id))
            return 0
        return follow_until_end(client, address, job_id)
    except UserError as error:
        print(f"submit: {error}", file=sys.stderr)
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.submit",
        usage="%(prog)s [--address URL] INPUT... OUTPUT [--assets DIR] [options of jobs.label]\n"
        "       %(prog)s [--address URL] --attach ID | --stop ID",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="All other options are those of python -m jobs.label --help.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--address",
        metavar="URL",
        default=os.environ.get("RAY_API_SERVER_ADDRESS", DEFAULT_ADDRESS),
        help="the dashboard of the cluster's head (default: $RAY_API_SERVER_ADDRESS or "
        f"{DEFAULT_ADDRESS})",
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--attach", metavar="ID", help="follow a run that was submitted before")
    one.add_argument("--stop", metavar="ID", help="stop a run; the same command continues it")
    parser.add_argument("--no-wait", action="store_true", help="submit and leave at once")
    parser.add_argument(
        "--pass-env",
        metavar="NAME",
        action="append",
        default=[],
        help="give the run this variable of the environment, such as AWS_ACCESS_KEY_ID; "
        "the cluster keeps its value with the job",
    )
    return parser


def entrypoint_of(arguments: Sequence[str]) -> tuple[str, str]:
    """The command that the head runs and its assets, or :class:`UserError` if it could not."""
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
    return shlex.join(["python", "-m", PROGRAM, *arguments]), config.assets


def _has_value(prefix: str, arguments: Sequence[str]) -> bool:
    return any(argument.startswith(prefix) for argument in arguments)


def _manifest_is_elsewhere(config: object) -> NoReturn:
    raise UserError(
        "--resume reads the manifest, which only the cluster may be able to; "
        "submit the run's own command again: it continues"
    )


def environment_of(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the run gets: those that are no secrets, and those asked for by name."""
    for name in names:
        if "=" in name:
            # Not shown whole: what follows may be a secret.
            raise UserError(f"--pass-env {name.partition('=')[0]}: give the name only")
        if name not in environ:
            raise UserError(f"--pass-env {name}: there is no such variable in the environment")
    wanted = (*(name for name in PASSED_ON if name in environ), *names)
    return {"PYTHONUNBUFFERED": "1", **{name: environ[name] for name in wanted}}


def http_address(address: str) -> str:
    """``http(s)://host:port`` of the dashboard, from that or from ``host[:port]``."""
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
    """A client of the cluster's Jobs API whose token and Ray version are the right ones."""
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

    # Ray tells of its packaging, line by line.
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
    """Uses a token that is there, as the cluster's machines do, unless RAY_AUTH_MODE says no."""
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
    """Sends the code, the command and the assets that come with the code, where these are wanted;
    the id that the cluster gave the job."""
    with tempfile.TemporaryDirectory() as folder:
        copy_code(Path(folder), assets)
        runtime_env = {"working_dir": folder, "env_vars": dict(environment)}
        try:
            return client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the cluster did not take the job: {_first_line(error)}") from None


def copy_code(folder: Path, assets: str = "") -> None:
    """Copies the Python sources of this project, and nothing else, into ``folder``.

    With ``assets="open"`` also the bundle of that name, which ``tddfa3`` looks for beside itself.
    """
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.py")):
            target = folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    if assets == OPEN:
        bundle = AssetBundle.load(OPEN)
        target = folder / "assets" / OPEN
        target.mkdir(parents=True)
        for name in (BUNDLE_JSON, *bundle.files):
            shutil.copyfile(bundle.path / name, target / name)


def how_to_go_on(address: str, job_id: str) -> str:
    command = f"python -m jobs.submit --address {address}"
    return f"watch it: {command} --attach {job_id}\nstop it:  {command} --stop {job_id}"


def follow_until_end(client: JobClient, address: str, job_id: str) -> int:
    """Prints the run's output until it ends; its exit code. Ctrl-C leaves it running."""
    try:
        info = asyncio.run(_follow(client, job_id, sys.stdout))
    except KeyboardInterrupt:
        print(f"\ndetached: {job_id} goes on\n{how_to_go_on(address, job_id)}", file=sys.stderr)
        return EXIT_DETACHED
    code, message = outcome(info)
    if message:
        print(f"submit: {message}", file=sys.stderr)
    return code


async def _follow(client: JobClient, job_id: str, out: TextIO, pause: float = 1.0) -> JobDetails:
    """The job's details once it has ended. A lost connection is made again.

    The log comes from its beginning each time, so what was printed already is skipped.
    """
    printed = 0
    failures = 0
    while True:
        seen = 0
        try:
            info = _info(client, job_id)
            async for text in client.tail_job_logs(job_id):
                seen += len(text)
                fresh = text[len(text) - (seen - printed) :] if seen > printed else ""
                out.write(fresh)
                out.flush()
                printed = max(printed, seen)
                failures = 0
            info = _info(client, job_id)
        except (RuntimeError, OSError) as error:
            failures += 1
            if failures > 30:
                raise UserError(
                    f"lost the connection to the cluster ({_first_line(error)}); the run may go on"
                ) from None
        else:
            if _is_over(info):
                return info
        await asyncio.sleep(pause)


def _info(client: JobClient, job_id: str) -> JobDetails:
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        if "404" in str(error):
            raise UserError(f"the cluster knows no job {job_id}") from None
        raise


def _is_over(info: JobDetails) -> bool:
    return str(info.status) in ("SUCCEEDED", "FAILED", "STOPPED")


def outcome(info: JobDetails) -> tuple[int, str]:
    """The exit code of ``jobs.label``, or what stands for it, and what there is to say."""
    status, code = str(info.status), info.driver_exit_code
    if status == "SUCCEEDED":
        return 0, ""
    if status == "STOPPED":
        return EXIT_STOPPED, "the run was stopped; the same command continues it"
    if code is not None and code >= 0:
        return code, ""
    if code is not None:
        name = signal.Signals(-code).name
        return EXIT_STOPPED, f"the driver was killed by {name}; the same command continues the run"
    why = (info.message or "no reason given").strip().partition("\n")[0][:300]
    if str(info.error_type) in NEVER_STARTED:
        return EXIT_USAGE, f"the run could not be started: {why}"
    return EXIT_STOPPED, f"the driver was lost ({why}); the same command continues the run"


def stop(client: JobClient, job_id: str, patience: float = 60.0, pause: float = 0.5) -> int:
    """Asks the run to stop and waits until it has."""
    if _is_over(info := _info(client, job_id)):
        print(f"{job_id} had ended already: {info.status}")
        return 0
    client.stop_job(job_id)
    deadline = time.monotonic() + patience
    while not _is_over(info := _info(client, job_id)):
        if time.monotonic() > deadline:
            raise UserError(f"{job_id} has not stopped after {patience:g} s; try again")
        time.sleep(pause)
    print(f"stopped {job_id}; what is committed stays, and the same command continues it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
