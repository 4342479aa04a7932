"""The other recipes: Ray's cluster schema for aws.yaml, linters for the Dockerfile and slurm.sh."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"


def tool(name: str) -> str:
    """A linter that pip has put beside this Python, or on the PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install 'tddfa3[test]')")
    return found


@pytest.fixture(scope="module")
def aws() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "aws.yaml").read_text())


@pytest.fixture(scope="module")
def ray_schema() -> dict[str, Any]:
    autoscaler = pytest.importorskip("ray.autoscaler")
    return json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text())


def test_aws_follows_rays_cluster_schema(aws: dict[str, Any], ray_schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(aws, ray_schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**aws, "idle_timeout_hours": 1}, ray_schema)


def test_aws_has_an_on_demand_head_and_spot_workers(aws: dict[str, Any]) -> None:
    types = dict(aws["available_node_types"])
    head = types.pop(aws["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0
    assert types
    for worker in types.values():
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert worker["min_workers"] == 0
        assert worker["resources"]["GPU"] == 1


def test_aws_opens_no_dashboard_and_wants_the_token_everywhere(aws: dict[str, Any]) -> None:
    for commands in (aws["head_start_ray_commands"], aws["worker_start_ray_commands"]):
        start = commands[-1]
        assert "ray start" in start
        assert start.index("export RAY_AUTH_MODE=token") < start.index("ray start")
        assert "0.0.0.0" not in start
    assert "--dashboard-host=127.0.0.1" in aws["head_start_ray_commands"][-1]
    assert "/home/tddfa3/.ray/auth_token" in aws["file_mounts"]
    for machine in aws["available_node_types"].values():
        # A group of one's own: the default one lets the world in by ssh.
        assert machine["node_config"]["SecurityGroupIds"]
        assert machine["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_aws_installs_nothing_at_start(aws: dict[str, Any]) -> None:
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert aws[key] == []  # absent, Ray would fill in commands of its own


def test_dockerfile_passes_hadolint() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(CLUSTER / "Dockerfile")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined and comments dropped."""
    lines = [
        line
        for line in (CLUSTER / "Dockerfile").read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    words = (line.strip().partition(" ") for line in joined.splitlines())
    return [(name, rest.strip()) for name, _, rest in words]


def test_dockerfile_ends_as_another_user_than_root() -> None:
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users
    assert users[-1].split(":")[0].isdigit()
    assert int(users[-1].split(":")[0]) > 0


def test_dockerfile_copies_code_and_the_default_bundle_only() -> None:
    sources = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    ]
    assert {"tddfa3", "jobs", "assets/open"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        # The one bundle that may be passed on with the code.
        assert source == "assets/open" or not source.startswith(("assets", ".", "tests"))


def test_dockerfile_can_leave_nvdiffrast_out_and_pins_it_otherwise() -> None:
    args = dict(rest.partition("=")[::2] for name, rest in instructions() if name == "ARG")
    assert args["NVDIFFRAST"] == "1"
    assert re.fullmatch(r"[0-9a-f]{40}", args["NVDIFFRAST_COMMIT"])
    assert args["TORCH_CUDA_ARCH_LIST"]
    assert "Nvidia Source Code License" in (CLUSTER / "Dockerfile").read_text()


def test_every_dependency_is_pinned_for_the_image() -> None:
    section = re.search(
        r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    assert section
    wanted = set(re.findall(r'^\s*"([A-Za-z0-9_.-]+)', section[1], re.M))
    lines = (CLUSTER / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert wanted <= set(pins)
    assert {"torch", "ray"} <= wanted


def test_slurm_script_passes_shellcheck() -> None:
    done = subprocess.run(
        [tool("shellcheck"), str(CLUSTER / "slurm.sh")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["aws.yaml", "kuberay-rayjob.yaml"])
def test_what_must_be_replaced_is_explained(name: str) -> None:
    wanted = set(re.findall(r"REPLACE_[A-Z][A-Z_]*", (CLUSTER / name).read_text()))
    explained = set(re.findall(r"REPLACE_[A-Z][A-Z_]*", (CLUSTER / "README.md").read_text()))
    assert wanted
    assert wanted <= explained
