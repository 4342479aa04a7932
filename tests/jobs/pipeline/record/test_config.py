"""One dataclass: command line, manifest and roles."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from jobs.pipeline.record.config import (
    ActorRange,
    LabelConfig,
    check,
    field_names,
    from_json,
    parse,
    to_json,
)
from tddfa3.errors import UserError

GOOD = LabelConfig(paths=("in", "out"), assets="a")


def unexpected(given: LabelConfig) -> LabelConfig:
    raise AssertionError("the manifest is read with --resume only")


def parsed(line: str) -> LabelConfig:
    return parse(line.split(), unexpected)


def test_every_option_of_the_command_line() -> None:
    config = parsed(
        "in1 in2.tar out --assets a --detector mtcnn --backbone mbnetv3 --device cpu --faces all "
        "--landmarks 134,68 --masks none --meshes both --mesh-format glb --textures webp "
        "--overlays jpg --chunk-images 7 --chunk-bytes 8 --actors 2:5 --gpus-per-actor 0.25 "
        "--cpus-per-actor 3 --batch 9 --limit 11 --ray-address auto --rasterizer cpu "
        "--s3-endpoint http://127.0.0.1:1 --image-column img --max-pixels 12 --wait 13 --stall 9 "
        "--actor-memory-gb 1.5 --mesh-frame image --points106 --engine torch "
        "--precision bf16 --compiled --refine points --lighting solve --decode reduced "
        "--retry-failed --accept-changed"
    )
    assert config.inputs == ("in1", "in2.tar")
    assert config.output == "out"
    assert config.landmarks == ("68", "134")
    assert config.masks == ()
    assert config.actors == ActorRange(2, 5)
    given = dataclasses.asdict(config)
    changed = [n for n, v in given.items() if v != getattr(LabelConfig(), n)]
    assert set(changed) == set(given) - {"resume"}


def test_options_may_stand_between_input_and_output() -> None:
    assert parsed("in --assets a out --retry-failed --batch=3").paths == ("in", "out")
    assert parsed("--retry-failed in --assets a out").paths == ("in", "out")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (
            "in out --assets a --detector yolo",
            ["--detector", "yolo", "retinaface", "mtcnn", "none"],
        ),
        ("in out --assets a --landmarks 68,70", ["--landmarks", "70", "106_2d"]),
        ("in out --assets a --actors 3:1", ["--actors", "3:1"]),
        ("in out --assets a --actors x", ["--actors", "MIN:MAX"]),
        ("in out --assets a --batch ten", ["--batch", "ten"]),
        ("in out --assets a --bacth 3", ["--bacth", "--batch"]),
        ("in out --assets a --resume", ["--resume"]),
    ],
)
def test_bad_values_exit_with_2_and_name_option_value_and_choices(
    line: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parsed(line)
    assert exit_info.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in named), message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"paths": ("in",)}, "INPUT"),
        ({"assets": ""}, "--assets"),
        ({"chunk_images": 0}, "--chunk-images 0"),
        ({"chunk_bytes": 0}, "--chunk-bytes"),
        ({"batch": 0}, "--batch"),
        ({"limit": -1}, "--limit"),
        ({"max_pixels": 0}, "--max-pixels"),
        ({"wait": float("nan")}, "--wait"),
        ({"gpus_per_actor": -0.5}, "--gpus-per-actor"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor"),
        ({"gpus_per_actor": float("inf")}, "--gpus-per-actor"),
        ({"gpus_per_actor": float("nan")}, "--gpus-per-actor"),
        ({"device": "cuda", "gpus_per_actor": 0.0}, "--device cuda"),
    ],
)
def test_values_that_cannot_be_used_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        check(dataclasses.replace(GOOD, **change))


@pytest.mark.parametrize("gpus", [-1.0, 0.0, 0.1, 1.0, 2.0, 8.0])
def test_gpu_shares_that_can_be_used(gpus: float) -> None:
    assert check(dataclasses.replace(GOOD, gpus_per_actor=gpus)).gpus_per_actor == gpus


def test_the_manifest_gives_the_config_back_without_its_actions() -> None:
    config = dataclasses.replace(
        GOOD, landmarks=("68", "134"), actors=ActorRange(2, None), retry_failed=True, resume="x"
    )
    kept = from_json(json.loads(json.dumps(to_json(config))))
    assert kept == dataclasses.replace(config, retry_failed=False, resume="")


def test_a_manifest_with_unknown_options_is_refused() -> None:
    with pytest.raises(UserError, match="frobnicate"):
        from_json({**to_json(GOOD), "frobnicate": 1})


def test_resume_takes_its_values_from_the_manifest_and_other_options_still_count() -> None:
    kept = dataclasses.replace(GOOD, paths=("in", "OUT"), detector="mtcnn", batch=5)
    config = parse(["--resume", "OUT", "--batch", "6", "--retry-failed"], lambda given: kept)
    assert config == dataclasses.replace(kept, batch=6, retry_failed=True, resume="OUT")


def test_resume_with_inputs_is_refused() -> None:
    with pytest.raises(UserError, match="--resume"):
        parse(["in", "out", "--resume", "OUT"], lambda given: GOOD)


def test_every_field_has_a_role_and_a_help_text() -> None:
    roles = {f.metadata["role"] for f in dataclasses.fields(LabelConfig)}
    assert roles == {"paths", "rows", "scheduling", "action"}
    assert "batch" in field_names("scheduling")
    assert "max_pixels" in field_names("rows")


@pytest.mark.parametrize(("text", "pair"), [("2", (2, 2)), ("2:", (2, None)), ("1:8", (1, 8))])
def test_actor_ranges_read_back(text: str, pair: tuple[int, int | None]) -> None:
    assert ActorRange.parse(text) == pair
    assert str(ActorRange.parse(text)) == text


@pytest.mark.parametrize(
    "change",
    [
        {"s3_endpoint": "https://user:hunter2@host"},
        {"ray_address": "ray://user:hunter2@host:10001"},
        {"paths": ("s3://user:hunter2@bucket/x", "out")},
        {"paths": ("in", "s3://key:hunter2@bucket/x")},
    ],
)
def test_secrets_in_urls_are_refused_and_not_repeated(change: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        check(LabelConfig(**{"paths": ("in", "out"), **change}))
    assert "hunter2" not in str(error.value)
