"""What no schema can say of a spec: every problem at once, each with its field, its value and the way out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_samples import spec

from plimsoll.manifests.launch import FIELD_FLAGS
from plimsoll.reconcile.validate import validate

TOKEN = "hf_" + "abcDEF123456789xyz"


def vllm(**fields: Any) -> dict[str, Any]:
    return {"engine": {"vllm": fields}}


def extra(*arguments: str) -> dict[str, Any]:
    return vllm(extraArgs=list(arguments))


def env(**fields: Any) -> dict[str, Any]:
    return {"engine": {"env": [{"name": "A", **fields}]}}


def server(requests: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    return {"resources": {"server": {"requests": requests, "limits": limits}}}


def pod(**fields: Any) -> dict[str, Any]:
    return {"pod": fields}


PROBLEMS = [
    pytest.param(extra("--max-model-len=2048"), "spec.engine.vllm.extraArgs[0]", "spec.engine.maxModelLen sets", id="flag"),
    pytest.param(extra("--x", "--max_model_len", "8"), "spec.engine.vllm.extraArgs[1]", "maxModelLen", id="underscores"),
    pytest.param(extra("--kv-cache-memory=1"), "spec.engine.vllm.extraArgs[0]", "kvCacheMemory sets", id="given-cache"),
    pytest.param(extra("--kv_cache_memory_bytes", "1"), "spec.engine.vllm.extraArgs[0]", "kvCacheMemory", id="given-cache-2"),
    pytest.param(vllm(kvCacheMemory="0"), "spec.engine.vllm.kvCacheMemory", "more than nothing", id="no-cache"),
    pytest.param(vllm(kvCacheMemory="9Ei"), "spec.engine.vllm.kvCacheMemory", "must be between 0", id="huge-cache"),
    pytest.param(extra("-tp=2"), "spec.engine.vllm.extraArgs[0]", "tensorParallelSize", id="short-flag"),
    pytest.param(extra("--port", "1"), "spec.engine.vllm.extraArgs[0]", "spec.service.port sets --port", id="port"),
    pytest.param(extra("--host=::"), "spec.engine.vllm.extraArgs[0]", "the operator sets --host", id="host"),
    pytest.param(extra(f"--header={TOKEN}"), "spec.engine.vllm.extraArgs[0]", "tokenSecretRef", id="token-in-flag"),
    pytest.param(vllm(quantization="squeezellm"), "spec.engine.vllm.quantization", "vLLM dropped it", id="squeezellm"),
    pytest.param(vllm(quantization="gguf"), "spec.engine.vllm.quantization", "leave it unset", id="gguf"),
    pytest.param(
        vllm(maxNumSeqs=512, maxNumBatchedTokens=256), "spec.engine.vllm.maxNumBatchedTokens", "raise it to 512", id="batch"
    ),
    pytest.param(
        {"engine": {"maxModelLen": 8192, "vllm": {"enableChunkedPrefill": False, "maxNumBatchedTokens": 4096}}},
        "spec.engine.vllm.maxNumBatchedTokens",
        "raise it to maxModelLen, which is 8192",
        id="unchunked",
    ),
    pytest.param({"engine": {"image": "vllm/vllm-openai:latest"}}, "spec.engine.image", "set spec.engine.version", id="tag"),
    pytest.param({"engine": {"version": "0.6.3"}}, "spec.engine.version", "0.6.3", id="old-version"),
    pytest.param({"engine": {"image": "a/b:v0.6.3"}}, "spec.engine.image", "0.6.3", id="old-image"),
    pytest.param(env(value=f"x {TOKEN}"), "spec.engine.env[0].value", "revoke this token", id="token-in-env"),
    pytest.param(env(), "spec.engine.env[0]", "set either value or valueFrom", id="env-empty"),
    pytest.param(
        {"engine": {"env": [{"name": "VLLM_API_KEY", "value": "x"}]}}, "spec.engine.env[0].name", "apiKeySecretRef", id="key"
    ),
    pytest.param(
        {"engine": {"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "4"}]}}, "spec.engine.env[0].name", "remove it", id="kv"
    ),
    pytest.param(
        server({"memory": "8Gi"}, {"memory": "4Gi"}), "spec.resources.server.limits.memory", "below the request of 8Gi", id="limit"
    ),
    pytest.param(server({"cpu": "2500m"}, {"cpu": 2}), "spec.resources.server.limits.cpu", "raise the limit", id="cpu-limit"),
    pytest.param(server({}, {"memory": 0}), "spec.resources.server.limits.memory", "raise or remove it", id="no-memory"),
    pytest.param(server({"memory": "1e30"}, {}), "spec.resources.server.requests.memory", "all that Kubernetes can hold", id="vast"),
    pytest.param(
        server({"memory": "1e9999"}, {}), "spec.resources.server.requests.memory", "write a number with a unit", id="exponent"
    ),
    pytest.param({"storage": {"size": "0"}}, "spec.storage.size", "such as 40Gi", id="no-volume"),
    pytest.param({"storage": {"accessModes": ["ReadWriteOncePod"]}}, "spec.storage.accessModes", "ReadWriteMany", id="one-pod"),
    pytest.param(
        {"test": {"promptfoo": {"tests": [{"vars": {}}]}}}, "spec.test.promptfoo.tests[0].assert", "cannot fail", id="no-assert"
    ),
    pytest.param(pod(labels={"plimsoll.dev/component": "x"}), "spec.pod.labels", "belong to the operator", id="our-label"),
    pytest.param(pod(labels={"a b": "x"}), "spec.pod.labels", "no label key", id="label-key"),
    pytest.param(pod(labels={"a": "-"}), "spec.pod.labels[a]", "a label's value", id="label-value"),
    pytest.param(pod(annotations={"x": TOKEN}), "spec.pod.annotations[x]", "revoke this token", id="token-in-annotation"),
    pytest.param(pod(nodeSelector={"": "x"}), "spec.pod.nodeSelector", "no label key", id="selector"),
    pytest.param(pod(tolerations=[{"opertor": "Exists"}]), "spec.pod.tolerations[0].opertor", "known are", id="toleration"),
    pytest.param(
        pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]), "spec.pod.tolerations[0].value", "remove value", id="exists"
    ),
    pytest.param(pod(tolerations=[{"key": "a", "effect": "Never"}]), "spec.pod.tolerations[0].effect", "NoExecute", id="effect"),
    pytest.param(pod(affinity={"nodeAfinity": {}}), "spec.pod.affinity.nodeAfinity", "known are nodeAffinity", id="affinity"),
    pytest.param(
        pod(topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "z"}]),
        "spec.pod.topologySpreadConstraints[0].whenUnsatisfiable",
        "give it",
        id="spread",
    ),
    pytest.param({"hardware": {"gpu": {"shared": True}}}, "spec.hardware.gpu.shared", "set engine.vllm.gpuMemoryUtilization", id="shared-without-a-share"),
    pytest.param({"hardware": {"gpu": {"shared": True, "count": 2}}, **vllm(gpuMemoryUtilization=0.4)}, "spec.hardware.gpu.shared", "one replica gets one shared GPU", id="two-shared"),
    pytest.param({"hardware": {"gpu": {"shared": True}}, "parallelism": {"tensorParallelSize": 2}, **vllm(gpuMemoryUtilization=0.4)}, "spec.hardware.gpu.shared", "one replica gets one shared GPU", id="tp-2-shared"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "path", "says"), PROBLEMS)
def test_a_problem_names_field_and_way_out(fields: dict[str, Any], path: str, says: str) -> None:
    problems = validate(spec(**fields))
    assert path in [problem.path for problem in problems]
    found = next(problem for problem in problems if problem.path == path)
    assert says in found.message
    assert found.message.endswith(".")
    assert TOKEN not in str(problems)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        extra("--enable-prefix-caching", "--tool-call-parser", "mistral"),
        extra("value-without-dashes"),
        vllm(maxNumSeqs=256, maxNumBatchedTokens=256),
        {
            "engine": {
                "maxModelLen": 8192,
                "vllm": {"enableChunkedPrefill": False, "maxNumBatchedTokens": 8192},
            }
        },
        {"engine": {"image": "mine/vllm:nightly", "version": "0.33.0"}},
        env(value="hf_short"),
        server({"memory": "8Gi"}, {"memory": "8192Mi"}),
        pod(tolerations=[{"operator": "Exists"}], labels={"team": "a", "example.com/x": ""}),
        {"test": {"gate": "Off", "promptfoo": {"configMapRef": {"name": "s"}}}},
        {"hardware": {"gpu": {"shared": True}}, **vllm(gpuMemoryUtilization=0.4)},
        {"hardware": {"gpu": {"shared": False}}},
    ],
    ids=str,
)
def test_what_is_right_is_let_through(fields: dict[str, Any]) -> None:
    assert validate(spec(**fields)) == ()


def test_all_problems_come_at_once() -> None:
    fields: dict[str, Any] = {
        "engine": {
            "image": "a/b:latest",
            "vllm": {"extraArgs": ["--dtype=half", "-pp", "2"], "quantization": "squeezellm"},
        },
        "parallelism": {"tensorParallelSize": 0},
        "hardware": {"gpu": {"count": 1}},
        "storage": {"size": "0"},
        **server({"cpu": 4}, {"cpu": 2}),
    }
    assert [problem.path for problem in validate(spec(**fields))] == [
        "spec.engine.image",
        "spec.engine.vllm.extraArgs[0]",
        "spec.engine.vllm.extraArgs[1]",
        "spec.engine.vllm.quantization",
        "spec.hardware.gpu",
        "spec.resources.server.limits.cpu",
        "spec.storage.size",
    ]


@pytest.mark.parametrize("flag", sorted(FIELD_FLAGS))
@pytest.mark.parametrize("spelling", ["{}", "{}=1", "{} 1"])
def test_no_spelling_of_an_owned_flag_gets_through(flag: str, spelling: str) -> None:
    problems = validate(spec(**extra(spelling.format(flag))))
    assert [problem.path for problem in problems] == ["spec.engine.vllm.extraArgs[0]"]


_TEXT = st.text(max_size=20)


@given(
    st.lists(_TEXT.filter(len), min_size=1, max_size=4),
    st.lists(st.dictionaries(_TEXT, st.one_of(st.none(), st.integers(), _TEXT)), min_size=1, max_size=3),
    st.dictionaries(_TEXT, st.one_of(st.none(), st.integers(), st.lists(_TEXT))),
    st.dictionaries(_TEXT.filter(len), _TEXT, max_size=3),
)
def test_no_input_makes_it_raise(
    arguments: list[str], free: list[dict[str, Any]], affinity: dict[str, Any], labels: dict[str, str]
) -> None:
    fields = pod(tolerations=free, topologySpreadConstraints=free, affinity=affinity, labels=labels)
    problems = validate(spec(**extra(*arguments), **fields, test={"promptfoo": {"tests": free}}))
    assert all(problem.path.startswith("spec.") and problem.message for problem in problems)
