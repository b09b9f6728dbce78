"""From a spec and a model's facts to the plan that status keeps; every failure is a refusal with a way out."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_samples import MISTRAL_CONFIG, SETTINGS, deployment, facts, pool, spec

from plimsoll.api.status import PlanStatus
from plimsoll.reconcile.planning import inputs_hash, plan_for, serving_for
from plimsoll.sizing.facts import RepoFile
from plimsoll.sizing.plan import Refusal, RefusalReason

FULL = {
    "engine": {
        "maxModelLen": 4096,
        "vllm": {
            "gpuMemoryUtilization": 0.92,
            "kvCacheMemory": "8Gi",
            "quantization": "awq",
            "dtype": "half",
            "kvCacheDtype": "fp8",
            "maxNumSeqs": 64,
            "maxNumBatchedTokens": 8192,
            "enableChunkedPrefill": True,
            "cpuOffload": "4Gi",
        },
    },
    "parallelism": {"tensorParallelSize": 2, "pipelineParallelSize": 2},
    "hardware": {"gpu": {"minMemory": "20Gi", "count": 4}},
}


def test_every_wish_reaches_sizing_exactly() -> None:
    serving = serving_for(spec(**FULL), "0.33.0")
    assert serving.gpu_memory_utilization == Fraction(92, 100)
    assert (serving.max_model_len, serving.quantization, serving.dtype) == (4096, "awq", "half")
    assert (serving.kv_cache_dtype, serving.max_num_seqs, serving.max_num_batched_tokens) == ("fp8", 64, 8192)
    assert (serving.enable_chunked_prefill, serving.cpu_offload_bytes) == (True, 4 * 2**30)
    assert serving.kv_cache_memory_bytes == 8 * 2**30
    assert (serving.tensor_parallel_size, serving.pipeline_parallel_size, serving.gpus) == (2, 2, 4)
    assert serving.min_gpu_memory_bytes == 20 * 2**30
    assert serving.max_nodes == 1


def test_unset_stays_unset() -> None:
    serving = serving_for(spec(), "0.33.0")
    assert serving.gpu_memory_utilization is None
    assert serving.tensor_parallel_size is None
    assert serving.gpus is None


def test_a_plan_carries_all_that_the_children_are_made_from() -> None:
    plan = plan_for(deployment(), facts(), [pool()], SETTINGS)
    assert isinstance(plan, PlanStatus)
    assert (plan.model_id, plan.commit, plan.image) == ("a/b", "c" * 40, "vllm/vllm-openai:v0.33.0")
    assert (plan.tensor_parallel_size, plan.gpus, plan.nodes) == (1, 1, 1)
    assert plan.hardware.product == "NVIDIA-A10"
    assert plan.hardware.node_labels == {"nvidia.com/gpu.product": "NVIDIA-A10"}
    assert plan.hardware.gpus_per_node == 4
    # The consolidated copy of the same tensors is not downloaded.
    assert plan.download_bytes == 600 + 2 * 7_248_023_552
    assert plan.inputs_hash == inputs_hash(deployment())
    assert plan.gpu_memory_utilization == "0.92"
    assert PlanStatus.model_validate(plan.to_json()) == plan


def test_a_cpu_plan_names_no_gpu() -> None:
    config = {
        "architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": 768, "ffn_dim": 3072,
        "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 50272, "max_position_embeddings": 2048,
        "word_embed_proj_dim": 768, "torch_dtype": "float16",
    }  # fmt: skip
    files = (RepoFile(path="pytorch_model.bin", size_bytes=250_540_281),)
    wanted = deployment(parallelism={"tensorParallelSize": 0})
    plan = plan_for(wanted, facts(config, files), [pool()], SETTINGS)
    assert isinstance(plan, PlanStatus)
    assert (plan.gpus, plan.hardware.product, plan.hardware.resource_name) == (0, None, None)
    assert plan.image == SETTINGS.vllm_cpu_image
    assert plan.gpu_memory_utilization is None


@pytest.mark.parametrize(
    ("fields", "config", "reason", "says"),
    [
        pytest.param(
            {"engine": {"image": "mine/vllm:latest"}},
            {},
            RefusalReason.UNSUPPORTED_OPTION,
            "set engine.version",
            id="image",
        ),
        pytest.param(
            {},
            {"num_attention_heads": 0},
            RefusalReason.UNSUPPORTED_MODEL,
            "num_attention_heads is 0",
            id="no-heads",
        ),
        pytest.param(
            {},
            {"num_attention_heads": "32"},
            RefusalReason.UNSUPPORTED_MODEL,
            "num_attention_heads is '32'",
            id="text",
        ),
        pytest.param(
            {},
            {"num_attention_heads": None},
            RefusalReason.UNSUPPORTED_MODEL,
            "num_attention_heads",
            id="null",
        ),
        pytest.param(
            {}, {"num_hidden_layers": -1}, RefusalReason.UNSUPPORTED_MODEL, "num_hidden_layers", id="negative"
        ),
        pytest.param({}, {"hidden_size": 10**30}, RefusalReason.UNSUPPORTED_MODEL, "hidden_size", id="huge"),
        pytest.param(
            {},
            {"architectures": ["MysteryForCausalLM"]},
            RefusalReason.UNSUPPORTED_MODEL,
            "MysteryForCausalLM",
            id="class",
        ),
        pytest.param(
            {"engine": {"maxModelLen": 65536}},
            {},
            RefusalReason.CONTEXT_TOO_LONG,
            "65536",
            id="beyond-the-model",
        ),
        pytest.param(
            {"engine": {"vllm": {"quantization": "squeezellm"}}},
            {},
            RefusalReason.UNSUPPORTED_OPTION,
            "squeezellm",
            id="gone",
        ),
        pytest.param(
            {"model": {"id": "a/b", "allowPatterns": ["*.gguf"]}},
            {},
            RefusalReason.UNSUPPORTED_OPTION,
            "model.allowPatterns",
            id="patterns-that-match-nothing",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_with_field_and_value(
    fields: dict[str, Any], config: dict[str, Any], reason: RefusalReason, says: str
) -> None:
    refusal = plan_for(deployment(**fields), facts({**MISTRAL_CONFIG, **config}), [pool()], SETTINGS)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, says in refusal.message) == (reason, True)


def test_a_repository_without_weights_is_refused() -> None:
    refusal = plan_for(
        deployment(), facts(files=(RepoFile(path="config.json", size_bytes=1),)), [pool()], SETTINGS
    )
    assert isinstance(refusal, Refusal)
    assert "has no weights that the engine loads" in refusal.message


def test_without_a_usable_node_the_reasons_are_told() -> None:
    refusal = plan_for(deployment(), facts(), [], SETTINGS, ("2 nodes: GPUs are cut into MIG slices",))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.NO_MATCHING_NODE
    assert "2 nodes: GPUs are cut into MIG slices" in refusal.message


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        pytest.param({"replicas": 5}, True, id="scaling"),
        pytest.param({"suspend": True}, True, id="suspend"),
        pytest.param({"test": {"gate": "Off"}}, True, id="test"),
        pytest.param({"resources": {"server": {"limits": {"memory": "64Gi"}}}}, True, id="resources"),
        pytest.param({"storage": {"size": "80Gi"}}, True, id="storage"),
        pytest.param({"pod": {"labels": {"a": "b"}}}, True, id="pod-labels"),
        pytest.param({"model": {"id": "a/c"}}, False, id="model"),
        pytest.param({"engine": {"maxModelLen": 4096}}, False, id="engine"),
        pytest.param({"parallelism": {"tensorParallelSize": 2}}, False, id="parallelism"),
        pytest.param({"hardware": {"gpu": {"product": "A10"}}}, False, id="hardware"),
        pytest.param({"pod": {"nodeSelector": {"zone": "a"}}}, False, id="placement"),
        pytest.param({"annotations": {"plimsoll.dev/replan": "2"}}, False, id="replan"),
        pytest.param({"annotations": {"other": "2"}}, True, id="other-annotation"),
    ],
)
def test_a_plan_is_made_anew_only_when_its_inputs_change(fields: dict[str, Any], same: bool) -> None:
    assert (inputs_hash(deployment(**fields)) == inputs_hash(deployment())) is same


@given(
    st.sampled_from(["A10", "A100-80GB", "L4", "H100"]),
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(1, 40000)),
)
def test_planning_never_raises_and_is_deterministic(card: str, gpus: int, length: int | None) -> None:
    wanted = deployment(**({} if length is None else {"engine": {"maxModelLen": length}}))
    first = plan_for(wanted, facts(), [pool(card, gpus)], SETTINGS)
    assert first == plan_for(wanted, facts(), [pool(card, gpus)], SETTINGS)
    if isinstance(first, PlanStatus):
        assert first.max_model_len <= 32768
        assert length in (None, first.max_model_len)
