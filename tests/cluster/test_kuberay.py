"""The RayJob: its field names are KubeRay's, and what it promises about safety and cost holds."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.pipeline.record import config
from tests.cluster.rayjob_schema import RAY_JOB, problems

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / "kuberay-rayjob.yaml").read_text()))


@pytest.fixture
def job(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return copy.deepcopy(next(d for d in documents if d["kind"] == "RayJob"))


def pod_specs(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_every_field_is_one_that_kuberay_knows(job: dict[str, Any]) -> None:
    assert list(problems(job, RAY_JOB)) == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("spec", "shutdownAfterJobFinished"), True, "there is no such field"),
        (("spec", "backoffLimit"), "5", "is not int"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens", "not one of"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "not str"),
        (("spec", "rayClusterSpec", "workerGroupSpecs"), {"groupName": "gpu"}, "a list is wanted"),
    ],
)
def test_the_validator_sees_mistakes(
    job: dict[str, Any], path: tuple[str, ...], value: Any, says: str
) -> None:
    *parents, last = path
    place = job
    for name in parents:
        place = place[name]
    place[last] = value
    found = list(problems(job, RAY_JOB))
    assert len(found) == 1
    assert found[0].startswith(".".join(path))
    assert says in found[0]


def test_the_validator_sees_what_is_missing(job: dict[str, Any]) -> None:
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    assert [p.rsplit(".", 1)[1] for p in problems(job, RAY_JOB)] == ["containers: is missing"]


def test_the_head_does_no_labelling(job: dict[str, Any]) -> None:
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    resources = head["template"]["spec"]["containers"][0]["resources"]
    assert "nvidia.com/gpu" not in {**resources["requests"], **resources["limits"]}


def test_workers_are_asked_for_only_while_there_is_work(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"]
        assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert job["spec"]["backoffLimit"] > 0


def test_nobody_without_the_token_gets_in(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["authOptions"]["secretName"]
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["enableIngress"] is False


def test_no_secret_stands_in_the_file(documents: list[dict[str, Any]]) -> None:
    assert {d["kind"] for d in documents} == {"ServiceAccount", "RayJob"}
    job = next(d for d in documents if d["kind"] == "RayJob")
    text = yaml.safe_dump(job).upper()
    for name in ("SECRET_ACCESS_KEY", "ACCESS_KEY_ID", "RAY_AUTH_TOKEN", "PASSWORD"):
        assert name not in text


def test_storage_is_reached_by_the_service_account(documents: list[dict[str, Any]]) -> None:
    account = next(d for d in documents if d["kind"] == "ServiceAccount")
    assert "eks.amazonaws.com/role-arn" in account["metadata"]["annotations"]
    job = next(d for d in documents if d["kind"] == "RayJob")
    for spec in pod_specs(job):
        assert spec["serviceAccountName"] == account["metadata"]["name"]


def test_no_container_is_root(job: dict[str, Any]) -> None:
    for spec in pod_specs(job):
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_every_container_has_probes_and_mounts_that_exist(job: dict[str, Any]) -> None:
    for spec in pod_specs(job):
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_entrypoint_is_a_command_that_jobs_label_takes(job: dict[str, Any]) -> None:
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "jobs.label"]
    parsed = config.parse(words[3:], lambda output: pytest.fail("no manifest is read"))
    assert parsed.ray_address == "auto"
    assert parsed.output.startswith("s3://")
    assert parsed.gpus_per_actor == 1
    worker = pod_specs(job)[1]["containers"][0]["resources"]["limits"]
    assert parsed.cpus_per_actor == int(worker["cpu"])


def test_the_ray_version_is_the_images(job: dict[str, Any]) -> None:
    pins = (CLUSTER / "constraints.txt").read_text().splitlines()
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}" in pins
