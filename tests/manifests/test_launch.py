"""Launch arguments, the flags that fields own, and what makes a new revision."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_samples import context, cpu_plan, deployment, gpu_plan

from plimsoll.api.status import PlanStatus
from plimsoll.manifests.launch import FIELD_FLAGS, launch_args, launch_env, owned_flag
from plimsoll.manifests.revision import download_hash, revision_hash, suite_hash
from plimsoll.units import GIB


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        pytest.param("--max-model-len", "--max-model-len", id="as documented"),
        pytest.param("--max-model-len=8192", "--max-model-len", id="with its value"),
        pytest.param("--max_model_len=8192", "--max-model-len", id="underscores"),
        pytest.param("--max_model-len", "--max-model-len", id="mixed"),
        pytest.param("--max-model-len 8192", "--max-model-len", id="one item with a blank"),
        pytest.param(" --port=1", "--port", id="leading blank"),
        pytest.param("--tensor-parallel", "--tensor-parallel-size", id="an abbreviation that argparse takes"),
        pytest.param("-tp", "-tp", id="short"),
        pytest.param("-tp=2", "-tp", id="short with value"),
        pytest.param("-qawq", "-q", id="one letter with its value"),
        pytest.param("--no-enable-chunked-prefill", "--no-enable-chunked-prefill", id="negated"),
        pytest.param("--enable-prefix-caching", None, id="nobody's"),
        pytest.param("--tokenizer", None, id="beginning like another"),
        pytest.param("--model-impl=auto", None, id="longer than an owned one"),
        pytest.param("8192", None, id="a value"),
        pytest.param("--", None, id="two dashes"),
    ],
)
def test_a_flag_is_recognised_in_every_spelling(argument: str, expected: str | None) -> None:
    assert expected == owned_flag(argument)


@given(flag=st.sampled_from(sorted(FIELD_FLAGS)), value=st.text(max_size=20))
def test_an_owned_flag_is_found_whatever_its_value(flag: str, value: str) -> None:
    assert owned_flag(f"{flag}={value}") == flag
    assert owned_flag(flag.replace("-", "_").replace("__", "--", 1)) in {
        flag,
        None if "--" not in flag else flag,
    }


@given(text=st.text(max_size=60))
def test_no_argument_breaks_the_recognition(text: str) -> None:
    assert owned_flag(text) in {*FIELD_FLAGS, None}


def test_every_flag_that_is_rendered_is_owned() -> None:
    vllm = {
        "gpuMemoryUtilization": 0.9,
        "kvCacheMemory": "8Gi",
        "quantization": "fp8",
        "dtype": "half",
        "kvCacheDtype": "fp8",
        "maxNumSeqs": 1,
        "maxNumBatchedTokens": 1,
        "enableChunkedPrefill": True,
        "cpuOffload": "1Gi",
        "trustRemoteCode": True,
    }
    ctx = context(deployment(engine={"vllm": vllm}), gpu_plan(pipeline_parallel_size=2))

    flags = [argument for argument in launch_args(ctx) if argument.startswith("--")]

    assert [flag for flag in flags if flag not in FIELD_FLAGS] == []


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("4Gi", "4"), ("1536Mi", "1.5"), ("1", "0.000000000931322574615478515625"), ("0", "0")],
)
def test_cpu_offload_is_exact_in_gib(amount: str, expected: str) -> None:
    args = launch_args(context(deployment(engine={"vllm": {"cpuOffload": amount}})))

    assert args[args.index("--cpu-offload-gb") + 1] == expected


def test_cpu_only_asks_for_whole_gibibytes_of_cache_and_no_parallelism() -> None:
    ctx = context(plan=cpu_plan(kv_cache_bytes=3 * GIB + 1))

    assert {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "4"} in launch_env(ctx)
    assert [a for a in launch_args(ctx) if "parallel" in a] == []


@pytest.mark.parametrize("plan", [gpu_plan(), cpu_plan()], ids=["gpu", "cpu"])
def test_a_given_cache_is_rendered_in_bytes_and_nothing_overrules_it(plan: PlanStatus) -> None:
    ctx = context(deployment(engine={"vllm": {"kvCacheMemory": "1536Mi"}}), plan)

    args = launch_args(ctx)

    assert args[args.index("--kv-cache-memory-bytes") + 1] == "1610612736"
    assert "VLLM_CPU_KVCACHE_SPACE" not in {variable["name"] for variable in launch_env(ctx)}


def test_no_secret_stands_in_arguments_or_values() -> None:
    ctx = context(deployment(engine={"apiKeySecretRef": {"name": "api", "key": "k"}}))

    assert launch_env(ctx)[-1] == {
        "name": "VLLM_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "api", "key": "k"}},
    }
    assert [a for a in launch_args(ctx) if "api" in a] == []


def test_environment_names_are_unique_and_the_user_wins() -> None:
    env = [{"name": "HF_HUB_OFFLINE", "value": "0"}, {"name": "VLLM_API_KEY", "value": "plain"}]
    ctx = context(deployment(engine={"env": env, "apiKeySecretRef": {"name": "api", "key": "k"}}))

    made = launch_env(ctx)

    assert len(made) == len({variable["name"] for variable in made})
    assert {"name": "HF_HUB_OFFLINE", "value": "0"} in made
    assert "plain" not in str(made)


BASE: dict[str, Any] = {}
SAME_REVISION = [
    pytest.param({"replicas": 5}, id="replicas"),
    pytest.param({"suspend": True}, id="suspend"),
    pytest.param({"test": {"gate": "Off"}}, id="gate"),
    pytest.param({"test": {"promptfoo": {"configMapRef": {"name": "x"}}}}, id="suite"),
    pytest.param({"resources": {"server": {"requests": {"cpu": "9"}}}}, id="resources"),
    pytest.param({"service": {"port": 80}}, id="port of the public Service"),
    pytest.param({"storage": {"size": "100Gi"}}, id="storage"),
    pytest.param({"pod": {"labels": {"a": "b"}}}, id="pod labels"),
]
NEW_REVISION = [
    pytest.param({"engine": {"servedModelName": "other"}}, id="served name"),
    pytest.param({"engine": {"env": [{"name": "A", "value": "b"}]}}, id="environment"),
    pytest.param({"engine": {"vllm": {"maxNumSeqs": 8}}}, id="engine argument"),
    pytest.param({"engine": {"vllm": {"extraArgs": ["--seed=1"]}}}, id="extra argument"),
    pytest.param({"engine": {"apiKeySecretRef": {"name": "a", "key": "k"}}}, id="API key"),
]


@pytest.mark.parametrize("spec", SAME_REVISION)
def test_what_does_not_change_the_engine_keeps_the_revision(spec: dict[str, Any]) -> None:
    assert revision_hash(context()) == revision_hash(context(deployment(**spec)))


@pytest.mark.parametrize("spec", NEW_REVISION)
def test_what_changes_the_engine_makes_a_revision(spec: dict[str, Any]) -> None:
    assert revision_hash(context()) != revision_hash(context(deployment(**spec)))


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "f" * 40},
        {"image": "vllm/vllm-openai:v0.32.0"},
        {"max_model_len": 1024},
        {"tensor_parallel_size": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_computed_value_makes_a_revision(change: dict[str, Any]) -> None:
    assert revision_hash(context()) != revision_hash(context(plan=gpu_plan(**change)))


def test_a_warning_of_the_plan_makes_no_revision() -> None:
    changed = gpu_plan(warnings=("w",), kv_cache_tokens=1, limited_by="x", inputs_hash="y")

    assert revision_hash(context()) == revision_hash(context(plan=changed))


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        pytest.param({"replicas": 3}, True, id="replicas"),
        pytest.param({"pod": {"annotations": {"a": "b"}}}, True, id="pod annotations"),
        pytest.param({"engine": {"servedModelName": "x"}}, True, id="engine"),
        pytest.param({"model": {"id": "a/b", "allowPatterns": ["*.bin"]}}, False, id="patterns"),
        pytest.param(
            {"model": {"id": "a/b", "tokenSecretRef": {"name": "t", "key": "k"}}}, False, id="token"
        ),
        pytest.param({"storage": {"existingClaim": "mine"}}, False, id="claim"),
        pytest.param({"pod": {"nodeSelector": {"a": "b"}}}, False, id="nodes"),
        pytest.param({"resources": {"download": {"limits": {"memory": "9Gi"}}}}, False, id="memory"),
    ],
)
def test_a_download_is_made_anew_for_what_it_is_made_of(spec: dict[str, Any], same: bool) -> None:
    assert same == (download_hash(context()) == download_hash(context(deployment(**spec))))


def test_the_suite_is_known_by_its_text_wherever_it_stands() -> None:
    def with_suite(text: str | None = None, **promptfoo: Any) -> str:
        return suite_hash(context(deployment(test={"promptfoo": promptfoo})), text)

    hashes = [
        suite_hash(context()),
        with_suite(configMapRef={"name": "one"}),
        with_suite(configMapRef={"name": "two"}),
        with_suite("prompts: [a]", configMapRef={"name": "two"}),
        with_suite("prompts: [b]", configMapRef={"name": "two"}),
        with_suite(tests=[{"vars": {"prompt": "hi"}}]),
    ]

    assert len(set(hashes)) == len(hashes)
    assert suite_hash(context()) == suite_hash(context(deployment(replicas=7)))


@pytest.mark.parametrize(
    ("wanted", "planned", "expected"),
    [
        pytest.param(None, None, None, id="the engine's default"),
        pytest.param(None, 500, "500", id="lowered by the plan"),
        pytest.param(64, None, "64", id="by the user"),
    ],
)
def test_the_engine_is_told_how_many_sequences_there_is_room_for(
    wanted: int | None, planned: int | None, expected: str | None
) -> None:
    owner = deployment() if wanted is None else deployment(engine={"vllm": {"maxNumSeqs": wanted}})
    args = launch_args(context(owner=owner, plan=gpu_plan(max_num_seqs=planned)))
    found = args[args.index("--max-num-seqs") + 1] if "--max-num-seqs" in args else None
    assert found == expected
