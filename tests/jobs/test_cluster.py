"""Runs on a real Ray cluster of several nodes, with a token, all on loopback.

Proved here: rows are exact whatever nodes come and go; a run that is stopped continues by the same
command; actors are placed as asked, and asking for too much is said within seconds; who has no
token, or another Ray, is told so in one line.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from PIL import Image

from jobs.pipeline.drive.shipping import PACKAGES
from tddfa3.assets.bundle import AssetBundle
from tests.support.fakes import SLOW, write_images
from tests.support.ray_cluster import BIN, HOST, ROOT, Node, RayCluster, free_ports, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

#: The programs with a labeler that only waits.
LABEL, SUBMIT = "tests.support.fake_label", "tests.support.submit_fake"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head without CPUs; every test brings the nodes it needs."""
    with RayCluster() as running:
        yield running


@pytest.fixture
def add_node(cluster: RayCluster) -> Iterator[Callable[..., Node]]:
    """Adds nodes to the cluster that end with the test."""
    mine: list[Node] = []

    def add(*options: str) -> Node:
        mine.append(cluster.add_node(*options))
        return mine[-1]

    yield add
    for node in mine:
        node.stop()
        cluster.nodes.remove(node)


def submitted(cluster: RayCluster, *arguments: str, code: int = 0) -> str:
    """What ``jobs.submit`` prints for ``arguments``, the program being the one that only waits."""
    done = cluster.run(
        "-m", "tests.support.submit_fake", "--address", cluster.dashboard, *arguments
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


class Task:
    """An input of images that take 50 ms each, an output, and the command for them."""

    def __init__(self, folder: Path, images: int) -> None:
        self.input, self.output, self.placed = folder / "in", folder / "out", folder / "placed"
        self.names = write_images(self.input, images, dict.fromkeys(range(images), SLOW))
        self.placed.mkdir()
        self.command = [str(self.input), str(self.output), "--assets", str(self.placed)]
        self.command += ["--chunk-images", "8", "--batch", "4", "--detector", "none"]

    def parts(self) -> int:
        return len(list((self.output / "annotations").rglob("*.parquet")))

    def actors(self) -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in self.placed.glob("*.json")]

    def log(self) -> list[dict[str, Any]]:
        files = sorted((self.output / "_run" / "logs").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def assert_exact(self) -> None:
        """Every image has its one row, and it is ok."""
        table = ds.dataset(self.output / "annotations").to_table(columns=["key", "status"])
        rows = Counter(Path(key).stem for key in table["key"].to_pylist())
        assert rows == Counter(self.names)
        assert set(table["status"].to_pylist()) == {"ok"}


def nodes_with_work(task: Task) -> set[str]:
    return {record["node"] for record in task.log() if record["event"] == "chunk"}


def test_a_node_dies_another_joins_and_rows_are_exact(
    cluster: RayCluster, add_node: Callable[..., Node], tmp_path: Path
) -> None:
    # 60 s for one actor: long enough for the third node, whatever the machine.
    task = Task(tmp_path, 1200)
    add_node("--num-cpus=1")
    lost = add_node("--num-cpus=1")
    options = ["--actors", "1:2", "--cpus-per-actor", "1", "--no-wait"]
    job = submitted(cluster, *task.command, *options).split()[1]
    wait_until(lambda: len(nodes_with_work(task)) == 2, "both nodes label")
    before = nodes_with_work(task)
    lost.kill()
    add_node("--num-cpus=1")
    shown = submitted(cluster, "--attach", job)
    task.assert_exact()
    assert len(nodes_with_work(task) - before) == 1, "the node that joined had work"
    deaths = [record for record in task.log() if record["event"] == "actor_died"]
    assert deaths
    assert all(record["node_died"] for record in deaths), "no chunk is blamed for it"
    assert "done: 1,200 images, 1,200 faces" in shown


def test_ray_job_submit_ray_job_stop_and_again(
    cluster: RayCluster, add_node: Callable[..., Node], tmp_path: Path
) -> None:
    task = Task(tmp_path, 400)
    add_node("--num-cpus=1")
    code = tmp_path / "code.zip"
    subprocess.run(
        ["git", "archive", f"--output={code}", "HEAD", *PACKAGES, ":!*.tar"],
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    command = [
        *(str(BIN / "ray"), "job", "submit", "--address", cluster.dashboard, "--no-wait"),
        *("--working-dir", str(code)),
        *("--submission-id", "first", "--"),
        *("python", "-m", LABEL, "--ray-address", "auto", *task.command),
    ]
    environment = cluster.environment()
    subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
    wait_until(lambda: task.parts() >= 3, "three chunks are committed")
    stop = [str(BIN / "ray"), "job", "stop", "--address", cluster.dashboard, "first"]
    subprocess.run(stop, env=environment, check=True, timeout=60, capture_output=True)
    committed = task.parts()
    assert 3 <= committed < 50
    command[command.index("--no-wait")] = "--verify=True"
    command[command.index("first")] = "second"
    again = subprocess.run(command, env=environment, timeout=240, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "images were done before" in again.stdout
    task.assert_exact()


def test_the_real_labeler_by_jobs_submit_and_its_exit_codes(
    cluster: RayCluster,
    add_node: Callable[..., Node],
    small_bundle: AssetBundle,
    tmp_path: Path,
) -> None:
    add_node("--num-cpus=2")
    (tmp_path / "in").mkdir()
    for number in range(4):
        crop = Image.effect_noise((224, 224), 40 + number).convert("RGB")
        crop.save(tmp_path / "in" / f"{number}.png")
    command = ["-m", "jobs.submit", "--address", cluster.dashboard, str(tmp_path / "in")]
    options = ["--assets", str(small_bundle.path), "--backbone", "mbnetv3"]
    done = cluster.run(*command, str(tmp_path / "out"), *options, "--detector", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: 4 images, 4 faces" in done.stdout
    table = ds.dataset(tmp_path / "out" / "annotations").to_table()
    assert sorted(Path(key).stem for key in table["key"].to_pylist()) == ["0", "1", "2", "3"]
    refused = cluster.run(*command, str(tmp_path / "out"), *options, "--detector", "mtcnn")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "--detector" in refused.stdout


def test_jobs_submit_stop(
    cluster: RayCluster, add_node: Callable[..., Node], tmp_path: Path
) -> None:
    task = Task(tmp_path, 400)
    add_node("--num-cpus=1")
    job = submitted(cluster, *task.command, "--no-wait").split()[1]
    wait_until(lambda: task.parts() >= 1, "a chunk is committed")
    assert f"stopped {job}" in submitted(cluster, "--stop", job)
    assert task.parts() < 50
    submitted(cluster, "--attach", job, code=4)


@pytest.mark.parametrize(("share", "actors"), [("1", 2), ("0.5", 4)])
def test_actors_are_placed_on_the_gpus_they_ask_for(
    cluster: RayCluster, add_node: Callable[..., Node], tmp_path: Path, share: str, actors: int
) -> None:
    """Logical GPUs: Ray hands them out as it does real ones."""
    task = Task(tmp_path, 320)
    add_node("--num-cpus=8")
    add_node("--num-cpus=8", "--num-gpus=2")
    options = ["--gpus-per-actor", share, "--cpus-per-actor", "2", "--actors", "1:8"]
    done = cluster.run("-m", LABEL, *task.command, *options, "--ray-address", cluster.address)
    assert done.returncode == 0, done.stdout + done.stderr
    task.assert_exact()
    placed = task.actors()
    assert len({actor["node"] for actor in placed}) == 1, "only one node has GPUs"
    assert len(placed) >= actors
    for actor in placed:
        assert len(actor["gpus"]) == 1
        assert actor["resources"] == {"CPU": 2.0, "GPU": float(share)}
        assert actor["threads"] == 2
    assert {actor["gpus"][0] for actor in placed} == {"0", "1"}
    most = max(int(line.split(" of ")[-2].split()[-1]) for line in progress_lines(done.stderr))
    assert most <= actors, "no more are ready at once than fit"


def progress_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "actors ready" in line]


def test_asking_for_too_much_says_what_is_missing(
    cluster: RayCluster, add_node: Callable[..., Node], tmp_path: Path
) -> None:
    task = Task(tmp_path, 8)
    add_node("--num-cpus=2", "--num-gpus=2")
    wait_until(lambda: gpus_of(cluster) == 2, "the GPUs are there")
    options = ["--gpus-per-actor", "4", "--ray-address", cluster.address, "--wait", "15"]
    began = time.monotonic()
    done = cluster.run("-m", LABEL, *task.command, *options)
    assert time.monotonic() - began < 90
    assert done.returncode == 4, done.stdout + done.stderr
    assert "asks for" in done.stderr
    assert "4 GPU" in done.stderr
    assert "2 GPU" in done.stderr
    assert task.parts() == 0


def gpus_of(cluster: RayCluster) -> float:
    ask = "import ray; ray.init('auto', log_to_driver=False, logging_level=40); "
    ask += "print(ray.cluster_resources().get('GPU', 0))"
    done = cluster.run("-c", ask, RAY_ADDRESS=cluster.address)
    return float(done.stdout.split()[-1])


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_wrong_token_or_none_is_refused(cluster: RayCluster, tmp_path: Path) -> None:
    task = Task(tmp_path, 1)
    command = ["-m", "jobs.submit", "--address", cluster.dashboard, *task.command]
    assert "refuses this token" in one_line(cluster.run(*command, RAY_AUTH_TOKEN="f" * 64))
    nothing = cluster.run(*command, RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="")
    assert "wants a token" in one_line(nothing)
    joining = ["-m", LABEL, *task.command, "--ray-address", cluster.address]
    assert "token" in one_line(cluster.run(*joining, RAY_AUTH_TOKEN="f" * 64))
    assert not task.output.exists() or task.parts() == 0


def test_nobody_at_the_address(cluster: RayCluster, tmp_path: Path) -> None:
    task = Task(tmp_path, 1)
    (port,) = free_ports(1)
    began = time.monotonic()
    done = cluster.run("-m", LABEL, *task.command, "--ray-address", f"{HOST}:{port}")
    assert f"{HOST}:{port}" in one_line(done)
    assert time.monotonic() - began < 60


def test_another_version_of_ray_is_named(cluster: RayCluster, tmp_path: Path) -> None:
    """The driver's Ray says that it is an old one; the cluster's is what it is."""
    import ray

    task = Task(tmp_path, 1)
    program = "import ray, sys; ray.__version__ = '2.9.0'; "
    program += "from tests.support import fake_label; from jobs import label; "
    program += "sys.exit(label.main(factory=fake_label.PlacedFactory()))"
    done = cluster.run("-c", program, *task.command, "--ray-address", cluster.address)
    line = one_line(done)
    assert "2.9.0" in line
    assert ray.__version__ in line


def test_only_the_health_path_answers_without_a_token(cluster: RayCluster) -> None:
    """The path and the port of the probes in cluster/kuberay-rayjob.yaml."""
    agent = f"http://{HOST}:{cluster.agent_port}"
    assert cluster.status_of("/api/healthz", agent) == 200
    assert cluster.status_of("/api/jobs/", cluster.dashboard) == 401
    assert cluster.status_of("/api/jobs/", cluster.dashboard, token="f" * 64) == 403
    assert cluster.status_of("/api/jobs/") == 200


def test_prometheus_sees_images_faces_seconds_and_queues(
    cluster: RayCluster, add_node: Callable[..., Node], tmp_path: Path
) -> None:
    task = Task(tmp_path, 400)
    add_node("--num-cpus=1")
    before = set(metrics_of_drivers(cluster))
    command = ["-m", LABEL, *task.command, "--ray-address", cluster.address]
    run = cluster.start(tmp_path / "log", *command)

    def mine() -> dict[str, float]:
        drivers = metrics_of_drivers(cluster)
        return next((drivers[key] for key in drivers.keys() - before), {})

    try:
        wait_until(lambda: mine().get("images_total ok", 0) > 0, "images are counted", 180)
        shown = mine()
        assert 0 < shown["images_total ok"] == shown["faces_total"] <= 400
        assert {"chunks queued", "chunks in_flight", "actors"} < shown.keys()
        assert shown["stage_seconds_total label"] > 0.05
    finally:
        run.kill()
        run.wait()


def metrics_of_drivers(cluster: RayCluster) -> dict[str, dict[str, float]]:
    """Of each driver's process: name and last label of this program's metrics -> value."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in re.findall(
        r"^ray_tddfa3_(\w+)\{(.*)\} (\S+)$", cluster.metrics(), re.MULTILINE
    ):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        key = label.get("status") or label.get("stage") or label.get("state") or ""
        found.setdefault(label["WorkerId"], {})[f"{name} {key}".strip()] = float(value)
    return found


def test_the_doctor_asks_every_node(
    cluster: RayCluster, add_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = add_node("--num-cpus=1")
    wait_until(lambda: node_count(cluster) == 2, "the node has joined")
    options = ["--json", "--device", "cpu", "--output", str(tmp_path / "out")]
    done = cluster.run("-m", "jobs.doctor", *options, "--ray-address", cluster.address)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["cluster"]["status"] == "ok"
    assert "2 node(s), 1 CPU" in checks["cluster"]["found"]
    for label in (node.address, f"{cluster.nodes[0].address} (head)"):
        assert checks[f"{label} rasterizer cpu"]["status"] == "ok"
        assert checks[f"{label} output"]["status"] == "ok"


def node_count(cluster: RayCluster) -> int:
    ask = "import ray; ray.init('auto', log_to_driver=False, logging_level=40); "
    ask += "print(sum(node['Alive'] for node in ray.nodes()))"
    return int(cluster.run("-c", ask, RAY_ADDRESS=cluster.address).stdout.split()[-1])


def test_slurm_script_with_stand_ins_for_slurm(tmp_path: Path) -> None:
    """Two "nodes" on loopback: srun runs its command here, scontrol names them."""
    task = Task(tmp_path, 120)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text(
        "#!/bin/bash\n"
        'while [[ "$1" == --* ]]; do shift; done\n'
        '[[ "$1" == hostname ]] && { echo 127.0.0.1; exit; }\n'
        'exec "$@"\n'
    )
    (tools / "scontrol").write_text('#!/bin/bash\n[[ "$1" == show ]] && printf "one\\ntwo\\n"\n')
    (tools / "python").write_text(
        f'#!/bin/bash\nshift 2\nexec {sys.executable} -m tests.support.fake_label "$@"\n'
    )
    for file in tools.iterdir():
        file.chmod(0o755)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text(f'PATH="{tools}:{BIN}:$PATH"\n')
    (port,) = free_ports(1)
    job = 1200 * 7 + port % 1200
    environment = {
        **RayCluster().environment(),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "one,two",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "TDDFA3_VENV": str(tmp_path / "venv"),
    }
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        del environment[name]
    script = [str(ROOT / "cluster" / "slurm.sh"), *task.command, "--cpus-per-actor", "1"]
    try:
        done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300)
    finally:
        shutil.rmtree(f"/tmp/ray-{job}", ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    task.assert_exact()
