"""Specs, facts and a plan that the tests of the pure rules share."""

from __future__ import annotations

from typing import Any

from plimsoll.api.spec import ModelDeployment, ModelDeploymentSpec
from plimsoll.api.status import PlannedComponents, PlannedHardware, PlannedResources, PlanStatus
from plimsoll.manifests.context import Settings
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.facts import ModelFacts, RepoFile
from plimsoll.sizing.gpus import find

SETTINGS = Settings()
MISTRAL_CONFIG = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 32768,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
}


def spec(**fields: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"id": "a/b"}, **fields})


def deployment(annotations: dict[str, str] | None = None, **fields: Any) -> ModelDeployment:
    return ModelDeployment(
        name="mistral", namespace="team", uid="1", annotations=annotations or {}, spec=spec(**fields)
    )


def facts(config: dict[str, Any] | None = None, files: tuple[RepoFile, ...] | None = None) -> ModelFacts:
    return ModelFacts(
        model_id="a/b",
        requested_revision="main",
        commit="c" * 40,
        config=MISTRAL_CONFIG if config is None else config,
        files=(
            RepoFile(path="config.json", size_bytes=600),
            RepoFile(path="model-00001-of-00002.safetensors", size_bytes=7_248_023_552),
            RepoFile(path="model-00002-of-00002.safetensors", size_bytes=7_248_023_552),
            RepoFile(path="consolidated.safetensors", size_bytes=14_496_047_104),
        )
        if files is None
        else files,
        has_chat_template=True,
    )


def pool(card: str = "A10", gpus: int = 4, nodes: int = 2) -> NodePool:
    accelerator = find(card)
    return NodePool(
        name=f"{nodes} nodes with {gpus} x {accelerator.product}",
        accelerator=accelerator,
        gpus_per_node=gpus,
        nodes=nodes,
        node_labels=(("nvidia.com/gpu.product", accelerator.product),),
    )


def resources(cpu: int, memory_gib: int) -> PlannedResources:
    return PlannedResources(
        cpu_request=str(cpu),
        cpu_limit=str(2 * cpu),
        memory_request=f"{memory_gib}Gi",
        memory_limit=f"{2 * memory_gib}Gi",
    )


def a10_plan(**changes: Any) -> PlanStatus:
    """One A10, 4 CPU and 12Gi for the server, 2 and 8Gi for the download, 1 and 2Gi for the test."""
    return PlanStatus(
        inputs_hash="0",
        model_id="a/b",
        commit="c" * 40,
        image="vllm/vllm-openai:v0.33.0",
        engine_version="0.33.0",
        hardware=PlannedHardware(
            product="NVIDIA-A10",
            resource_name="nvidia.com/gpu",
            memory_bytes=find("A10").memory_bytes,
            gpus_per_node=4,
            node_labels={"nvidia.com/gpu.product": "NVIDIA-A10"},
        ),
        tensor_parallel_size=1,
        pipeline_parallel_size=1,
        gpus=1,
        nodes=1,
        max_model_len=32768,
        limited_by="the model's own length",
        kv_cache_tokens=40000,
        kv_cache_bytes=5 * 2**30,
        max_concurrency="1.25",
        per_gpu=(),
        weights_bytes=14_496_047_104,
        download_bytes=14_496_047_704,
        has_chat_template=True,
        resources=PlannedComponents(download=resources(2, 8), server=resources(4, 12), test=resources(1, 2)),
    ).model_copy(update=changes)
