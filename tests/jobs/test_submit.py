"""jobs.submit without a cluster: what is sent, what is followed, what goes wrong at the door."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import submit
from jobs.pipeline.drive import shipping, submitting
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError

RUN = ["s3://data/photos", "s3://data/labels", "--assets", "/assets/one"]


class FakeClient:
    """A cluster on which one job goes through ``states``; its log breaks off where it is None."""

    def __init__(self, states: list[Any], logs: list[list[str | None]] | None = None) -> None:
        self.states, self.logs = states, logs or [[]]
        self.submitted: dict[str, Any] = {}
        self.stopped: list[str] = []
        self.files: set[str] = set()

    def submit_job(self, *, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        self.submitted = {"entrypoint": entrypoint, "runtime_env": runtime_env}
        folder = Path(runtime_env["working_dir"])
        files = (path for path in folder.rglob("*") if path.is_file())
        self.files = {str(path.relative_to(folder)) for path in files}
        return "job-1"

    def get_job_info(self, job_id: str) -> Any:
        if job_id != "job-1":
            raise RuntimeError("Request failed with status code 404: no such job.")
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def stop_job(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        return True

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for text in self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]:
            if text is None:
                raise RuntimeError("WebSocket connection closed unexpectedly")
            yield text


def state(status: str, code: int | None = None, **more: Any) -> Any:
    return SimpleNamespace(
        status=status, driver_exit_code=code, message=None, error_type=None, **more
    )


RUNNING = state("RUNNING")


@pytest.fixture
def use_client(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeClient], FakeClient]:
    def use(client: FakeClient) -> FakeClient:
        monkeypatch.setattr(submit, "connect", lambda address: client)
        return client

    return use


def test_the_command_runs_jobs_label_in_the_cluster_it_is_given_to() -> None:
    words = shlex.split(submitting.entrypoint_of([*RUN, "--actors", "2:8"])[0])
    assert words == [
        *("python", "-m", "jobs.label", *RUN, "--actors", "2:8", "--ray-address", "auto"),
    ]


def test_awkward_names_reach_the_command_whole() -> None:
    awkward = "s3://data/a b;rm -rf $HOME/'x'"
    words = shlex.split(submitting.entrypoint_of([awkward, *RUN[1:]])[0])
    assert words[3] == awkward


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos", "s3://data/labels", "--assets", "/assets/one"], "'photos' is relative"),
        ([*RUN[:2], "--assets", "assets/one"], "'assets/one' is relative"),
        ([*RUN, "--ray-address", "10.0.0.1:6379"], "--ray-address"),
        ([*RUN, "--ray-address=local"], "--ray-address"),
        ([*RUN[:2], "--assets", ""], "--assets"),
        (["--resume", "s3://data/labels"], "submit the run's own command again"),
    ],
)
def test_mistakes_are_seen_before_anything_is_sent(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        submitting.entrypoint_of(arguments)


def test_an_unknown_option_of_jobs_label_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exited:
        submit.main([*RUN, "--detectors", "mtcnn"])
    assert exited.value.code == 2
    assert "--detectors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-wai", *RUN], "--no-wai"),
        ([*RUN, "--addr", "head"], "--addr"),
        (["--attach", "job-1", "--stop", "job-1"], "--attach and --stop"),
        ([*RUN, "--pass-env"], "--pass-env"),
    ],
)
def test_options_that_are_shortened_or_exclude_each_other(
    arguments: list[str],
    says: str,
    use_client: Callable[[FakeClient], FakeClient],
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = use_client(FakeClient([RUNNING]))
    with pytest.raises(SystemExit) as exited:
        submit.main(arguments)
    assert exited.value.code == 2
    assert says in capsys.readouterr().err
    assert (client.submitted, client.stopped) == ({}, [])


def test_options_of_both_programs_may_stand_in_any_order(
    use_client: Callable[[FakeClient], FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = use_client(FakeClient([RUNNING]))
    monkeypatch.setenv("CANARY", "1")
    monkeypatch.setenv("OTHER", "2")
    ours = ["--pass-env", "CANARY", "--address=head", "--pass-env=OTHER", "--no-wait"]
    theirs = [*RUN, "--gpus-per-actor", "-1", "--masks=seg"]
    assert submit.main([*theirs[:1], *ours[:3], *theirs[1:], *ours[3:]]) == 0
    words = shlex.split(client.submitted["entrypoint"])
    assert words == ["python", "-m", "jobs.label", *theirs, "--ray-address", "auto"]
    sent = client.submitted["runtime_env"]["env_vars"]
    assert (sent["CANARY"], sent["OTHER"]) == ("1", "2")


def test_no_secret_travels_unless_it_is_named() -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "canary-id",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "RAY_AUTH_TOKEN": "canary-token",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    }
    sent = submitting.environment_of([], environ)
    assert sent["AWS_REGION"] == "eu-central-1"
    assert sent["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert "canary" not in json.dumps(sent)
    sent = submitting.environment_of(["AWS_ACCESS_KEY_ID"], environ)
    assert sent["AWS_ACCESS_KEY_ID"] == "canary-id"
    assert "canary-secret" not in json.dumps(sent)


def test_a_secret_given_by_value_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError) as refused:
        submitting.environment_of(["AWS_SECRET_ACCESS_KEY=canary"], {})
    assert "canary" not in str(refused.value)
    with pytest.raises(UserError, match="no such variable"):
        submitting.environment_of(["ABSENT"], {})


def test_the_code_is_sent_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tddfa3/assets/bundle.py", "jobs/label.py", "jobs/big.tar", "assets/one/w.bin",
                 "tddfa3/__pycache__/a.pyc", ".venv/bin/python", ".git/HEAD"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(shipping, "ROOT", tmp_path)
    client = FakeClient([RUNNING])
    assert submitting.submit(client, "python -m jobs.label", {"A": "1"}, "/a") == "job-1"
    assert client.files == {"tddfa3/assets/bundle.py", "jobs/label.py"}
    assert client.submitted["runtime_env"]["env_vars"] == {"A": "1"}


def test_the_default_assets_are_sent_where_they_are_wanted(
    open_bundle: AssetBundle, tmp_path: Path
) -> None:
    client = FakeClient([RUNNING])
    command, assets = submitting.entrypoint_of(RUN[:2])
    assert "--assets" not in command
    submitting.submit(client, command, {}, assets)
    sent = {name for name in client.files if not name.endswith(".py")}
    assert sent == {f"assets/open/{name}" for name in ("bundle.json", *open_bundle.files)}
    # The code finds them beside itself, wherever the cluster unpacks both.
    shipping.copy_code(tmp_path, "open")
    found = subprocess.run(
        [sys.executable, "-c", "from jobs.pipeline.storage.asset_cache import local_bundle as f;"
         "print(f('open'))"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == str(tmp_path / "assets" / "open")


def test_no_data_file_is_missing_on_the_cluster() -> None:
    """Only Python files are sent; the report's page, the one thing with others that a program
    reads, is made at home."""
    listed = subprocess.run(
        ["git", "ls-files", *shipping.PACKAGES], cwd=shipping.ROOT, capture_output=True, text=True
    )
    others = [name for name in listed.stdout.splitlines() if not name.endswith(".py")]
    needless = ("jobs/report_page/", "jobs/py.typed", "tddfa3/py.typed")
    assert [name for name in others if not name.startswith(needless)] == []


@pytest.mark.parametrize(
    ("address", "full"),
    [
        ("head", "http://head:8265"),
        ("head:9000", "http://head:9000"),
        ("http://head", "http://head:8265"),
        ("https://head/ray/", "https://head:443/ray"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_addresses(address: str, full: str) -> None:
    assert submitting.http_address(address) == full


@pytest.mark.parametrize("address", ["ray://head:10001", "http://", "http://head:port"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UserError, match="--address"):
        submitting.http_address(address)


@pytest.mark.parametrize(
    ("last", "code", "says"),
    [
        (state("SUCCEEDED", 0), 0, ""),
        (state("FAILED", 2), 2, ""),
        (state("FAILED", 3), 3, ""),
        (state("FAILED", 4), 4, ""),
        (state("FAILED", -9), 4, "SIGKILL"),
        (state("STOPPED"), 4, "was stopped"),
        (state("FAILED"), 4, "was lost"),
    ],
)
def test_the_exit_code_is_passed_on(
    use_client: Callable[[FakeClient], FakeClient],
    capsys: pytest.CaptureFixture[str],
    last: Any,
    code: int,
    says: str,
) -> None:
    use_client(FakeClient([RUNNING, last], [["labelling\n", "done\n"]]))
    assert submit.main(RUN) == code
    shown = capsys.readouterr()
    assert "labelling\ndone\n" in shown.out
    assert says in shown.err
    assert bool(shown.err) == bool(says)


def test_a_run_that_could_not_start_is_a_usage_error() -> None:
    info = state("FAILED")
    info.error_type, info.message = "RUNTIME_ENV_SETUP_FAILURE", "no space\nmore"
    assert submit.outcome(info) == (2, "the run could not be started: no space")


def test_a_broken_connection_is_made_again_without_repeating_the_log(
    use_client: Callable[[FakeClient], FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    logs: list[list[str | None]] = [["one\n", "two\n", None], ["one\ntw", "o\nthree\n"]]
    use_client(FakeClient([RUNNING, RUNNING, state("SUCCEEDED", 0)], logs))
    assert submit.main(["--attach", "job-1"]) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_ctrl_c_detaches_and_says_how_to_come_back(
    use_client: Callable[[FakeClient], FakeClient],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = use_client(FakeClient([RUNNING]))

    def interrupted(job_id: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "tail_job_logs", interrupted)
    assert submit.main(["--address", "head:9000", *RUN]) == 130
    shown = capsys.readouterr().err
    assert "python -m jobs.submit --address http://head:9000 --attach job-1" in shown
    assert "--stop job-1" in shown
    assert client.stopped == []


def test_no_wait_submits_and_leaves(
    use_client: Callable[[FakeClient], FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    client = use_client(FakeClient([RUNNING]))
    assert submit.main([*RUN, "--no-wait"]) == 0
    assert "jobs.label" in client.submitted["entrypoint"]
    assert "--no-wait" not in client.submitted["entrypoint"]
    assert "--attach job-1" in capsys.readouterr().out


def test_stop_waits_for_the_end(
    use_client: Callable[[FakeClient], FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    client = use_client(FakeClient([RUNNING, RUNNING, state("STOPPED")]))
    assert submit.main(["--stop", "job-1"]) == 0
    assert client.stopped == ["job-1"]
    assert "continues" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--stop", "--attach"])
def test_a_job_that_is_not_there(
    use_client: Callable[[FakeClient], FakeClient], capsys: pytest.CaptureFixture[str], option: str
) -> None:
    client = use_client(FakeClient([RUNNING]))
    assert submit.main([option, "job-2"]) == 2
    assert capsys.readouterr().err == "submit: the cluster knows no job job-2\n"
    assert client.stopped == []


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], str]]:
    """A server that gives one answer to everything; its address."""
    servers: list[HTTPServer] = []

    def start(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, "Unauthorized", "wants a token"),
        (403, "Forbidden", "refuses this token"),
        (404, "", "is not the dashboard of a Ray cluster"),
        (200, "<html>a web page</html>", "is not the dashboard of a Ray cluster"),
        (200, '{"ray_version": "2.9.0"}', r"runs Ray 2\.9\.0"),
    ],
)
def test_one_clear_line_for_what_is_wrong_at_the_door(
    dashboard: Callable[[int, str], str],
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: str,
    says: str,
) -> None:
    pytest.importorskip("ray")
    address = dashboard(status, body)
    assert submit.main(["--address", address, *RUN]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"submit: {address} ")
    with pytest.raises(UserError, match=says):
        submitting.connect(address)


def test_the_address_given_wins_over_the_environment(
    dashboard: Callable[[int, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself lets RAY_ADDRESS override what it is told."""
    ray = pytest.importorskip("ray")
    address = dashboard(200, json.dumps({"ray_version": ray.__version__}))
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert submitting.connect(address) is not None
    assert "RAY_ADDRESS" not in os.environ


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main(["--address", "127.0.0.1:1", *RUN]) == 2
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({"RAY_AUTH_TOKEN": "t"}, "token"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "t"}, "disabled"),
        ({"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, None),
    ],
)
def test_a_token_that_is_there_is_used(environ: dict[str, str], mode: str | None) -> None:
    submitting._choose_token_mode(environ)
    assert environ.get("RAY_AUTH_MODE") == mode
