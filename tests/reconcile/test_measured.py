"""What an engine reports of itself, and how far the plan is from it."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lives import ready_world, the_hash
from parts import plan_for
from plan_samples import a10_plan
from world import SETTINGS, World

from plimsoll.api.conditions import ConditionType
from plimsoll.api.spec import ModelDeployment
from plimsoll.api.status import MeasuredStatus, ModelDeploymentStatus, PlanStatus
from plimsoll.reconcile.decide import decide
from plimsoll.reconcile.decision import Decision
from plimsoll.reconcile.measured import (
    CacheConfig,
    Engine,
    EngineReport,
    ReportError,
    engine_to_read,
    error_percent,
    measured_status,
    parse_cache_config,
    parse_version_answer,
    percent_text,
    plan_note,
)
from plimsoll.reconcile.observed import observe
from plimsoll.sizing.plan import Refusal, RefusalReason

# /metrics of vLLM 0.32.0 on CPU with a Gemma 2 of 4 layers and --kv-cache-memory-bytes 300000001; families that the
# reader passes over were cut down to a few.
RECORDED = (Path(__file__).parents[1] / "controller" / "data" / "vllm-0.32.0.metrics").read_text("utf-8")


def series(**labels: object) -> str:
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"vllm:cache_config_info{{{text}}} 1.0\n"


def measured(
    tokens: int | None = 40000, blocks: int = 2500, version: str | None = "0.33.0"
) -> MeasuredStatus:
    return MeasuredStatus(revision="r", version=version, kv_cache_tokens=tokens, blocks=blocks, block_size=16)


def test_the_recorded_metrics_are_read() -> None:
    assert parse_cache_config(RECORDED) == CacheConfig(blocks=2288, block_size=128, tokens=210_598)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            series(num_gpu_blocks=7, block_size=16), CacheConfig(blocks=7, block_size=16, tokens=None), id="before 0.26"
        ),
        pytest.param(
            series(num_gpu_blocks=7, block_size=16, kv_cache_size_tokens="None"),
            CacheConfig(blocks=7, block_size=16, tokens=None),
            id="tokens not said",
        ),
        pytest.param(
            series(kv_cache_layout=r'a\"}, \\ \n', num_gpu_blocks=7, block_size=16, kv_cache_size_tokens=112),
            CacheConfig(blocks=7, block_size=16, tokens=112),
            id="escapes and braces",
        ),
        pytest.param(
            2 * series(num_gpu_blocks=7, block_size=16),
            CacheConfig(blocks=7, block_size=16, tokens=None),
            id="two ranks that agree",
        ),
        pytest.param(
            series(num_gpu_blocks=7, block_size=16).replace("\n", "\r\n"),
            CacheConfig(blocks=7, block_size=16, tokens=None),
            id="windows",
        ),
    ],
)  # fmt: skip
def test_a_cache_config_is_read(text: str, expected: CacheConfig) -> None:
    assert parse_cache_config(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "have no vllm:cache_config_info", id="empty"),
        pytest.param("<html>not an engine</html>", "have no vllm:cache_config_info", id="page"),
        pytest.param("vllm:cache_config_info_total{} 1\n", "have no vllm:cache_config_info", id="longer name"),
        pytest.param(series(num_gpu_blocks="None", block_size=16), "num_gpu_blocks 'None'", id="no blocks yet"),
        pytest.param(series(num_gpu_blocks=7), "block_size ''", id="no block size"),
        pytest.param(series(num_gpu_blocks=7, block_size=0), "block_size '0'", id="empty blocks"),
        pytest.param(series(num_gpu_blocks="-7", block_size=16), "num_gpu_blocks '-7'", id="negative"),
        pytest.param(series(num_gpu_blocks="9" * 17, block_size=16), "num_gpu_blocks '999", id="too large"),
        pytest.param(series(num_gpu_blocks=7, block_size=2**31), "block_size '2147483648'", id="too large a block"),
        pytest.param(
            series(num_gpu_blocks=7, block_size=16) + series(num_gpu_blocks=8, block_size=16),
            "2 different KV caches",
            id="two ranks that differ",
        ),
        pytest.param('vllm:cache_config_info{block_size="16",num_gpu_bl', "is cut off", id="cut off"),
        pytest.param("vllm:cache_config_info{block_size=16} 1.0", "cannot be read at 'block_size=16", id="no quotes"),
    ],
)  # fmt: skip
def test_what_is_no_report_is_said_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ReportError) as error:
        parse_cache_config(text)
    assert says in str(error.value)


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_no_text_ends_in_a_trace(text: str) -> None:
    for candidate in (text, f"vllm:cache_config_info{{{text}", f"vllm:cache_config_info{{{text}}} 1"):
        with suppress(ReportError):
            assert parse_cache_config(candidate).block_size > 0


@settings(deadline=None)
@given(
    value=st.text(
        alphabet=st.characters(
            exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
        )
    )
)
def test_a_label_of_any_text_does_not_hide_those_after_it(value: str) -> None:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    found = parse_cache_config(series(prefix_caching_hash_algo=escaped, num_gpu_blocks=7, block_size=16))
    assert found == CacheConfig(blocks=7, block_size=16, tokens=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"version":"0.32.0"}', "0.32.0", id="release"),
        pytest.param('{"version":"0.1.dev1+g123"}', "0.1.dev1+g123", id="build"),
        pytest.param('{"version":1}', None, id="number"),
        pytest.param('["0.32.0"]', None, id="list"),
        pytest.param("0.32.0", None, id="no JSON"),
        pytest.param(json.dumps({"version": "9" * 65}), None, id="too long"),
    ],
)
def test_a_version_is_read_or_refused(text: str, expected: str | None) -> None:
    if expected is not None:
        assert parse_version_answer(text) == expected
        return
    with pytest.raises(ReportError, match="a JSON object with a version was expected"):
        parse_version_answer(text)


@pytest.mark.parametrize(
    ("plan", "found", "expected"),
    [
        pytest.param(a10_plan(kv_cache_tokens=40000), measured(tokens=40000), "0.00", id="equal"),
        pytest.param(a10_plan(kv_cache_tokens=42000), measured(tokens=40000), "+5.00", id="promised more"),
        pytest.param(a10_plan(kv_cache_tokens=30000), measured(tokens=40000), "-25.00", id="promised less"),
        pytest.param(a10_plan(kv_cache_tokens=1_000_000), measured(tokens=1_000_001), "0.00", id="rounds to nothing"),
        pytest.param(a10_plan(kv_cache_blocks=2550), measured(tokens=None), "+2.00", id="in blocks"),
        pytest.param(a10_plan(kv_cache_tokens=30000, expected_kv_cache_tokens=40400), measured(tokens=40000), "+1.00", id="held to what was expected"),
        pytest.param(a10_plan(kv_cache_blocks=2000, expected_kv_cache_blocks=2475), measured(tokens=None), "-1.00", id="expected blocks"),
        pytest.param(a10_plan(kv_cache_blocks=None), measured(tokens=None), None, id="nothing to compare"),
        pytest.param(a10_plan(), measured(tokens=0), None, id="an empty cache"),
    ],
)  # fmt: skip
def test_the_error_is_of_the_measured_with_its_sign(
    plan: PlanStatus, found: MeasuredStatus, expected: str | None
) -> None:
    error = error_percent(plan, found)
    assert (None if error is None else percent_text(error)) == expected


@settings(deadline=None)
@given(planned=st.integers(0, 2**53 - 1), found=st.integers(1, 2**53 - 1))
def test_an_error_fits_the_status_and_is_never_below_minus_100(planned: int, found: int) -> None:
    error = error_percent(a10_plan(kv_cache_tokens=planned), measured(tokens=found))
    assert error is not None
    assert error >= -100
    text = percent_text(error)
    assert len(text) <= 32
    assert abs(Fraction(text) - error) <= Fraction(1, 200)


@pytest.mark.parametrize(
    ("plan", "found", "says"),
    [
        pytest.param(a10_plan(kv_cache_tokens=42000), measured(), None, id="5 percent are tolerated"),
        pytest.param(
            a10_plan(kv_cache_tokens=20000, expected_kv_cache_tokens=41000),
            measured(),
            None,
            id="a safe promise",
        ),
        pytest.param(
            a10_plan(kv_cache_tokens=42001),
            measured(),
            "The engine's KV cache holds 40000 tokens and 42001 were expected (error +5.00 %); set "
            "engine.vllm.kvCacheMemory for a cache of exactly one size.",
            id="a token more is not",
        ),
        pytest.param(
            a10_plan(kv_cache_blocks=1000),
            measured(tokens=None),
            "The engine's KV cache holds 2500 blocks and 1000 were expected (error -60.00 %); set "
            "engine.vllm.kvCacheMemory for a cache of exactly one size.",
            id="blocks",
        ),
        pytest.param(
            a10_plan(),
            measured(version="0.32.0"),
            "The engine says that it is vLLM 0.32.0 and the plan assumes 0.33.0; set engine.version to the release "
            "that the image holds.",
            id="another release",
        ),
        pytest.param(a10_plan(), measured(version="0.33.0+cpu"), None, id="a build of the same release"),
        pytest.param(a10_plan(), measured(version="0.1.dev1+g123"), None, id="a build without a release"),
        pytest.param(a10_plan(), measured(version=None), None, id="no version"),
    ],
)
def test_the_user_is_told_what_differs(plan: PlanStatus, found: MeasuredStatus, says: str | None) -> None:
    assert plan_note(ModelDeploymentStatus(plan=plan, measured=found)) == says


def test_a_report_of_another_revision_says_nothing_of_this_one() -> None:
    old = EngineReport(revision="old", cache=CacheConfig(blocks=1, block_size=16, tokens=16), version=None)
    assert measured_status(None, old, a10_plan(), "new") is None
    assert measured_status(measured(), None, a10_plan(), "new") is None


def test_the_first_report_is_kept_and_held_against_the_present_plan() -> None:
    later = EngineReport(revision="r", cache=CacheConfig(blocks=1, block_size=16, tokens=16), version=None)
    kept = measured_status(measured(tokens=40000), later, a10_plan(kv_cache_tokens=44000), "r")
    assert kept is not None
    assert (kept.kv_cache_tokens, kept.error_percent) == (40000, "+10.00")


# In a life.


def with_addresses(world: World) -> list[dict[str, Any]]:
    objects = copy.deepcopy(list(world.objects.values()))
    for item in objects:
        if item["kind"] == "Pod":
            item["status"]["podIP"] = "10.0.0.7"
    return objects


def decided(world: World, tokens: int, *, revision: str | None = None) -> Decision:
    report = EngineReport(
        revision=revision or the_hash(world),
        cache=CacheConfig(blocks=2500, block_size=16, tokens=tokens),
        version="0.33.0",
    )
    found = observe(with_addresses(world), engine=report)
    deployment = world.deployment
    return decide(deployment, world.previous(), plan_for(deployment), found, SETTINGS, world.now)


def test_the_engine_of_the_requested_revision_is_read_when_it_is_up() -> None:
    world = ready_world()
    revision = the_hash(world)
    seen = observe(with_addresses(world))
    assert engine_to_read(world.deployment, revision, seen) == Engine(revision=revision, address="10.0.0.7")


@pytest.mark.parametrize("revision", [None, "another"])
def test_no_engine_is_read_without_its_server(revision: str | None) -> None:
    world = ready_world()
    assert engine_to_read(world.deployment, revision, observe(with_addresses(world))) is None


def test_an_engine_without_an_address_is_not_read() -> None:
    world = ready_world()
    assert engine_to_read(world.deployment, the_hash(world), world.observed()) is None


def test_an_engine_that_loads_is_not_read() -> None:
    world = World()
    world.script.engine = lambda _revision: "loading"
    world.settle()
    assert engine_to_read(world.deployment, the_hash(world), observe(with_addresses(world))) is None


def test_a_report_that_agrees_changes_the_status_and_nothing_else() -> None:
    world = ready_world()
    decision = decided(world, 40000)
    assert decision.status is not None
    assert decision.status["measured"] == {
        "revision": the_hash(world),
        "version": "0.33.0",
        "kvCacheTokens": 40000,
        "blocks": 2500,
        "blockSize": 16,
        "errorPercent": "0.00",
    }
    assert decision.status["conditions"] == world.status["conditions"]
    assert decision.events == ()


def test_a_large_error_is_told_once_and_fails_nothing() -> None:
    world = ready_world()
    decision = decided(world, 30000)
    assert decision.status is not None
    assert [(event.type, event.reason) for event in decision.events] == [("Warning", "PlanDiffers")]
    assert "holds 30000 tokens and 40000 were expected (error +33.33 %)" in decision.events[0].message
    conditions = {one["type"]: one for one in decision.status["conditions"]}
    assert decision.events[0].message in conditions[ConditionType.SIZED]["message"]
    assert {one["status"] for one in conditions.values()} == {"True"}
    world.status = decision.status
    again = decided(world, 30000)
    assert (again.status, again.events) == (None, ())


def test_a_new_revision_is_measured_anew() -> None:
    world = ready_world()
    first = decided(world, 40000).status
    assert first is not None
    world.status = first
    world.edit(engine={"maxModelLen": 4096})
    decision = decided(world, 40000, revision=first["revision"]["hash"])
    assert decision.status is not None
    assert "measured" not in decision.status
    assert decision.status["revision"]["hash"] != first["revision"]["hash"]


def test_what_was_measured_stays_while_the_spec_has_no_plan() -> None:
    world = ready_world()
    first = decided(world, 40000).status
    assert first is not None
    world.status = first
    refused = decide(
        ModelDeployment.from_object(
            {"metadata": {"name": world.name, "namespace": world.namespace, "uid": world.uid, "generation": 2},
             "spec": {"model": {"id": "another/model"}}}
        ),
        world.previous(),
        Refusal(reason=RefusalReason.DOES_NOT_FIT, message="no."),
        world.observed(), SETTINGS, world.now,
    )  # fmt: skip
    assert refused.status is not None
    assert refused.status["measured"] == first["measured"]
