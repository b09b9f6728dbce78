"""What the simulated cluster is made of: a plan, the messages of Jobs, the statuses of pods."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from plimsoll.api.spec import ModelDeployment
from plimsoll.api.status import (
    PlannedComponents,
    PlannedHardware,
    PlannedResources,
    PlanPart,
    PlanStatus,
)
from plimsoll.manifests.context import Settings
from plimsoll.reconcile.planning import inputs_hash
from plimsoll.reconcile.reports import FailedAssertion, TestReport, write

Json = dict[str, Any]
START = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
SETTINGS = Settings()
MODEL = "mistralai/Mistral-7B-Instruct-v0.3"


def plan_for(deployment: ModelDeployment, **changes: Any) -> PlanStatus:
    """A plan as sizing would make it for one A10, with the commit that the revision 'resolves' to."""
    spec = deployment.spec
    revision = spec.model.revision or "main"
    resources = PlannedResources(cpu_request="2", cpu_limit="4", memory_request="8Gi", memory_limit="12Gi")
    length = spec.engine.max_model_len if spec.engine and spec.engine.max_model_len else 32768
    made: Json = {
        "inputs_hash": inputs_hash(deployment),
        "model_id": spec.model.id,
        "commit": hashlib.sha1(f"{spec.model.id}@{revision}".encode()).hexdigest(),
        "image": (spec.engine.image if spec.engine and spec.engine.image else "vllm/vllm-openai:v0.33.0"),
        "engine_version": "0.33.0",
        "hardware": PlannedHardware(
            product="NVIDIA-A10",
            resource_name="nvidia.com/gpu",
            memory_bytes=23028 * 2**20,
            gpus_per_node=4,
            node_labels={"nvidia.com/gpu.product": "NVIDIA-A10"},
        ),
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "gpus": 1,
        "nodes": 1,
        "max_model_len": length,
        "limited_by": "the model's own length",
        "kv_cache_tokens": 40000,
        "kv_cache_bytes": 5 * 2**30,
        "max_concurrency": "1.22",
        "per_gpu": (PlanPart(part="weights", bytes=14 * 2**30, source="files"),),
        "weights_bytes": 14 * 2**30,
        "download_bytes": 14 * 2**30,
        "has_chat_template": True,
        "resources": PlannedComponents(download=resources, server=resources, test=resources),
    }
    return PlanStatus(**(made | changes))


def test_message(failed: int) -> str:
    """What the test runner leaves behind."""
    return write(
        TestReport(
            passed=5 - failed,
            failed=failed,
            errors=0,
            total=5,
            failures=tuple(FailedAssertion(assertion="not-empty", test=f"case {n}") for n in range(failed)),
            proven_context=None if failed else 32768,
            report="reports/latest.json",
        )
    )


test_message.__test__ = False  # type: ignore[attr-defined]


def stamp(moment: datetime) -> str:
    """A time as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def ended(code: int, message: str = "", reason: str | None = None) -> Json:
    """Status of a pod whose container has ended for good."""
    terminated = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error")}
    if message:
        terminated["message"] = message
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": [{"restartCount": 0, "state": {"terminated": terminated}}],
    }


def waiting(reason: str, message: str, **more: Any) -> Json:
    """Status of a pod whose container waits."""
    return {
        "phase": "Pending",
        "containerStatuses": [
            {"restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}, **more}
        ],
    }


UNSCHEDULABLE = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu."
_NO_NODE: Json = {
    "phase": "Pending",
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNSCHEDULABLE}
    ],
}
ENGINE_PODS: dict[str, Json] = {
    "ready": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"restartCount": 0, "state": {"running": {}}}],
    },
    "loading": {"phase": "Running", "containerStatuses": [{"restartCount": 0, "state": {"running": {}}}]},
    "crash": waiting(
        "CrashLoopBackOff",
        "back-off 10s restarting failed container",
        restartCount=1,
        lastState={"terminated": {"exitCode": 1, "reason": "Error", "message": "KV cache is too small"}},
    ),
    "oom": waiting(
        "CrashLoopBackOff",
        "back-off",
        restartCount=2,
        lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    ),
    "pull": waiting("ImagePullBackOff", 'Back-off pulling image "nowhere/vllm:v9"'),
    "secret": waiting("CreateContainerConfigError", 'secret "key" not found'),
    "unschedulable": _NO_NODE,
}
JOB_PODS: dict[str, Json] = {
    "run": {"phase": "Running", "containerStatuses": [{"restartCount": 0, "state": {"running": {}}}]},
    "unschedulable": _NO_NODE,
    "pull": ENGINE_PODS["pull"],
    "no-volume": {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "pod has unbound immediate PersistentVolumeClaims",
            }
        ],
    },
    "unplaced": {"phase": "Pending"},
}
