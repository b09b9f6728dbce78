"""Status, scale, printer columns and short name, as the real API server serves them."""

from __future__ import annotations

import json
from typing import Any

import yaml

from plimsoll.api.status import (
    Condition,
    DownloadStatus,
    MeasuredStatus,
    ModelDeploymentStatus,
    PlannedComponents,
    PlannedHardware,
    PlannedResources,
    PlanPart,
    PlanStatus,
    RevisionStatus,
    TestStatus,
)
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until

NAME = "m" * 240 + ".1"
RESOURCES = PlannedResources(cpu_request="4", cpu_limit="8", memory_request="12Gi", memory_limit="24Gi")
STATUS = ModelDeploymentStatus(
    observed_generation=1,
    revision=RevisionStatus(requested="main", resolved="c" * 40, hash="0123456789", last_good="0123456789"),
    plan=PlanStatus(
        inputs_hash="f" * 16,
        model_id="facebook/opt-125m",
        commit="c" * 40,
        image="vllm/vllm-openai:v0.33.0",
        engine_version="0.33.0",
        hardware=PlannedHardware(
            product="NVIDIA-A10",
            resource_name="nvidia.com/gpu",
            memory_bytes=23 * 2**30,
            gpus_per_node=4,
            node_labels={"nvidia.com/gpu.product": "NVIDIA-A10"},
        ),
        tensor_parallel_size=2,
        pipeline_parallel_size=1,
        gpus=2,
        nodes=1,
        max_model_len=2048,
        refused_max_model_len=4096,
        limited_by="the model's own length",
        kv_cache_tokens=123456,
        kv_cache_bytes=2**52,
        kv_cache_blocks=2**40,
        expected_kv_cache_tokens=2**41,
        expected_kv_cache_blocks=2**41,
        max_num_seqs=256,
        max_concurrency="60.28",
        gpu_memory_utilization="0.92",
        per_gpu=(PlanPart(part="weights", bytes=2**40, low_bytes=0, expected_bytes=2**39, source="vLLM"),),
        weights_bytes=2**40,
        download_bytes=2**40,
        has_chat_template=False,
        resources=PlannedComponents(download=RESOURCES, server=RESOURCES, test=RESOURCES),
        warnings=("slow",),
    ),
    measured=MeasuredStatus(
        revision="0123456789",
        version="0.33.0",
        kv_cache_tokens=123456,
        blocks=7716,
        block_size=16,
        error_percent="+0.00",
    ),
    download=DownloadStatus(bytes=1, total=2, rate="1 MiB/s", eta="2 min"),
    test=TestStatus(passed=1, failed=0, total=1, report="reports/x.json", proven_context=2048, key="a-b"),
    url="http://m.team.svc:8000/v1",
    replicas=1,
    selector="plimsoll.dev/component=server",
    conditions=(
        Condition(
            type="Ready",
            status="True",
            reason="Serving",
            message="It serves; nothing to do.",
            observed_generation=1,
            last_transition_time="2026-11-21T10:00:00Z",
        ),
    ),
)


def create(kubectl: Kubectl, namespace: str, **spec: Any) -> None:
    document = {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME},
        "spec": {"model": {"id": "facebook/opt-125m"}, **spec},
    }
    kubectl("create", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(document))


def write_status(kubectl: Kubectl, namespace: str, status: dict[str, Any]) -> str:
    outcome = kubectl(
        "patch", "mdeploy", NAME, "-n", namespace, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": status}),
    )  # fmt: skip
    return outcome.stderr


def test_no_field_of_a_full_status_is_pruned(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace)
    assert write_status(kubectl, namespace, STATUS.to_json()) == ""
    kept = kubectl.get("mdeploy", NAME, "-n", namespace)
    assert kept["status"] == STATUS.to_json()
    assert ModelDeploymentStatus.model_validate(kept["status"]) == STATUS


def test_every_field_of_the_status_stands_in_the_example_above() -> None:
    def unset(value: Any, path: str) -> list[str]:
        if not hasattr(type(value), "model_fields"):
            return []
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        missing = [f"{path}.{name}" for name, field in fields.items() if field is None]
        return missing + [one for name, field in fields.items() for one in unset(field, f"{path}.{name}")]

    assert unset(STATUS, "status") == []


def test_the_status_is_not_written_with_the_spec(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace)
    kubectl("patch", "mdeploy", NAME, "-n", namespace, "--type=merge", "-p", '{"status":{"url":"x"}}')
    assert "status" not in kubectl.get("mdeploy", NAME, "-n", namespace)


def test_scale_reads_and_writes_replicas(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace)
    write_status(kubectl, namespace, STATUS.to_json())
    kubectl("scale", "mdeploy", NAME, "-n", namespace, "--replicas=3")
    assert kubectl.get("mdeploy", NAME, "-n", namespace)["spec"]["replicas"] == 3
    path = f"/apis/plimsoll.dev/v1alpha1/namespaces/{namespace}/modeldeployments/{NAME}/scale"
    scale = json.loads(kubectl("get", "--raw", path).stdout)
    assert (scale["spec"]["replicas"], scale["status"]) == (
        3,
        {"replicas": 1, "selector": "plimsoll.dev/component=server"},
    )


def test_kubectl_shows_the_columns(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace)
    write_status(kubectl, namespace, STATUS.to_json())
    header, row = kubectl("get", "plimsoll", "-n", namespace).stdout.splitlines()
    assert header.split() == ["NAME", "MODEL", "READY", "REASON", "GPUS", "CONTEXT", "AGE"]
    assert row.split()[1:6] == ["facebook/opt-125m", "True", "Serving", "2", "2048"]
    wide = kubectl("get", "mdeploy", "-n", namespace, "-o", "wide").stdout.splitlines()[1]
    assert wide.split()[7:] == [
        "2",
        "1",
        "0123456789",
        "4",
        "12Gi",
        "123456",
        "+0.00",
        "http://m.team.svc:8000/v1",
    ]


def test_a_condition_stands_once(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace)
    twice = [condition.to_json() for condition in STATUS.conditions or ()] * 2
    outcome = kubectl(
        "patch", "mdeploy", NAME, "-n", namespace, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"conditions": twice}}), check=False,
    )  # fmt: skip
    assert "Duplicate value" in outcome.stderr


def test_every_field_is_explained(kubectl: Kubectl, namespace: str) -> None:
    every_field = ("explain", "modeldeployments.plimsoll.dev", "--recursive")
    # The API server publishes the schema of a new resource for explain some time after it serves the resource.
    wait_until(
        lambda: "gpuMemoryUtilization" in kubectl(*every_field, check=False).stdout,
        what="the schema of the resource for kubectl explain",
        seconds=30,
        poll_seconds=0.2,
    )
    assert (
        "Share of each GPU's memory"
        in kubectl("explain", "mdeploy.spec.engine.vllm.gpuMemoryUtilization").stdout
    )
