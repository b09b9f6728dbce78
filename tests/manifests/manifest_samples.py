"""ModelDeployments and plans to build children from."""

from __future__ import annotations

from typing import Any

from plimsoll.api.spec import ModelDeployment
from plimsoll.api.status import (
    PlannedComponents,
    PlannedHardware,
    PlannedResources,
    PlanPart,
    PlanStatus,
)
from plimsoll.manifests.context import Context, Settings
from plimsoll.units import GIB

# Not the defaults: those carry the version of the package.
SETTINGS = Settings(operator_image="plimsoll:test", promptfoo_image="plimsoll-promptfoo:test")
COMMIT = "e0bc86c23ce5aae1db576c8cca6f06f1f73af2db"


def planned(cpu: int, memory_gib: int) -> PlannedResources:
    return PlannedResources(
        cpu_request=str(cpu),
        cpu_limit=str(2 * cpu),
        memory_request=f"{memory_gib}Gi",
        memory_limit=f"{2 * memory_gib}Gi",
    )


def gpu_plan(**changes: Any) -> PlanStatus:
    plan = PlanStatus(
        inputs_hash="0123456789",
        model_id="mistralai/Mistral-7B-Instruct-v0.3",
        commit=COMMIT,
        image="vllm/vllm-openai:v0.33.0",
        engine_version="0.33.0",
        hardware=PlannedHardware(
            product="NVIDIA-A10",
            resource_name="nvidia.com/gpu",
            memory_bytes=24146608128,
            node_labels={"nvidia.com/gpu.product": "NVIDIA-A10"},
        ),
        tensor_parallel_size=2,
        pipeline_parallel_size=1,
        gpus=2,
        nodes=1,
        max_model_len=32768,
        limited_by="the model's own length",
        kv_cache_tokens=100_000,
        kv_cache_bytes=6_553_600_000,
        max_concurrency="3.05",
        gpu_memory_utilization="0.92",
        per_gpu=(PlanPart(part="weights", bytes=7_248_023_552, source="test"),),
        weights_bytes=14_496_078_512,
        download_bytes=14_499_000_000,
        has_chat_template=True,
        resources=PlannedComponents(download=planned(2, 8), server=planned(4, 12), test=planned(1, 2)),
    )
    return plan.model_copy(update=changes)


def cpu_plan(**changes: Any) -> PlanStatus:
    return gpu_plan(
        **{
            "model_id": "facebook/opt-125m",
            "image": "vllm/vllm-openai-cpu:v0.33.0",
            "hardware": PlannedHardware(),
            "tensor_parallel_size": 0,
            "gpus": 0,
            "max_model_len": 2048,
            "kv_cache_bytes": 4 * GIB - 1_000_000,
            "weights_bytes": 250_540_281,
            "download_bytes": 252_000_000,
            "has_chat_template": False,
            "resources": PlannedComponents(download=planned(1, 2), server=planned(2, 6), test=planned(1, 2)),
            **changes,
        }
    )


def deployment(name: str = "mistral-7b", **spec: Any) -> ModelDeployment:
    return ModelDeployment.from_object(
        {
            "metadata": {"name": name, "namespace": "team-a", "uid": "11111111-2222-3333-4444-555555555555"},
            "spec": {"model": {"id": "mistralai/Mistral-7B-Instruct-v0.3"}, **spec},
        }
    )


def context(
    owner: ModelDeployment | None = None, plan: PlanStatus | None = None, settings: Settings | None = None
) -> Context:
    return Context(deployment=owner or deployment(), plan=plan or gpu_plan(), settings=settings or SETTINGS)
