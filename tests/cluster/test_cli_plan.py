"""`plimsoll plan`, `render` and `quota` against a real API server, in a process of their own as in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from plimsoll.sandbox.simulated import SimulatedCluster

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"


def plimsoll(simulation: SimulatedCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plimsoll", *arguments]
    kubeconfig = str(simulation.kubectl.kubeconfig)
    environment = {
        **os.environ,
        "KUBECONFIG": kubeconfig,
        "COLUMNS": "100",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.fixture
def model(tmp_path: Path, simulated_namespace: str) -> str:
    body: dict[str, Any] = {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "mistral-7b", "namespace": simulated_namespace},
        "spec": {"model": {"id": MISTRAL}, "hardware": {"gpu": {"product": "A10"}}},
    }
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(body))
    return str(path)


def test_a_plan_is_made_on_the_nodes_of_the_cluster(simulation: SimulatedCluster, model: str) -> None:
    result = plimsoll(simulation, "plan", "-f", model, "-o", "json")

    assert (result.returncode, result.stderr) == (0, "")
    (one,) = json.loads(result.stdout)["models"]
    assert (one["verdict"], one["plan"]["hardware"]["product"], one["plan"]["gpus"]) == (
        "fits",
        "NVIDIA-A10",
        1,
    )


def test_a_quota_that_is_short_is_named_with_what_lacks(
    simulation: SimulatedCluster, simulated_namespace: str, model: str
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team-a"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    simulation.kubectl("apply", "-n", simulated_namespace, "-f", "-", stdin=json.dumps(quota))
    result = plimsoll(simulation, "plan", "-f", model)

    assert (result.returncode, result.stderr) == (1, "")
    words = " ".join(result.stdout.split())
    assert "Refused (QuotaExceeded): mistral-7b" in words
    assert "short of 1 nvidia.com/gpu (needs 1, 0 free of 0 in ResourceQuota team-a)" in words


def test_the_quota_that_is_printed_is_one_that_the_server_takes_and_that_suffices(
    simulation: SimulatedCluster, simulated_namespace: str, model: str
) -> None:
    quota = plimsoll(simulation, "quota", "-f", model, "--kubeconfig", str(simulation.kubectl.kubeconfig))
    assert (quota.returncode, quota.stderr) == (0, "")
    simulation.kubectl("apply", "-n", simulated_namespace, "-f", "-", stdin=quota.stdout)

    assert plimsoll(simulation, "plan", "-f", model).returncode == 0


def test_what_is_rendered_is_taken_by_the_server(
    simulation: SimulatedCluster, simulated_namespace: str, model: str
) -> None:
    rendered = plimsoll(simulation, "render", "-f", model, "--gpu", "A10")
    assert (rendered.returncode, rendered.stderr) == (0, "")
    applied = simulation.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "-n",
        simulated_namespace,
        "-f",
        "-",
        stdin=rendered.stdout,
    )

    assert len(applied.stdout.splitlines()) == 7
    assert applied.stderr == ""


def test_a_context_that_is_not_there_is_one_sentence(simulation: SimulatedCluster, model: str) -> None:
    result = plimsoll(simulation, "plan", "-f", model, "--context", "nowhere")

    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "nowhere" in result.stderr


def test_gpus_that_other_pods_hold_are_not_free(
    simulation: SimulatedCluster, simulated_namespace: str, model: str
) -> None:
    selector = "nvidia.com/gpu.product=NVIDIA-A10"
    nodes = json.loads(simulation.kubectl("get", "nodes", "-l", selector, "-o", "json").stdout)["items"]
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"holds-{number}", "namespace": simulated_namespace},
            "spec": {
                "nodeName": node["metadata"]["name"],
                "tolerations": [{"operator": "Exists"}],
                "containers": [
                    {
                        "name": "c",
                        "image": "example.org/c",
                        "resources": {
                            "limits": {"nvidia.com/gpu": node["status"]["allocatable"]["nvidia.com/gpu"]}
                        },
                    }
                ],
            },
        }
        for number, node in enumerate(nodes)
    ]
    before = json.loads(plimsoll(simulation, "plan", "-f", model, "-o", "json").stdout)["models"][0]
    simulation.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    )
    after = json.loads(plimsoll(simulation, "plan", "-f", model, "-o", "json").stdout)["models"][0]

    # Pods of other tests may hold some of them before.
    assert (before["free_now"] is not None, before["verdict"]) == (True, "fits")
    assert (after["free_now"]["places"], after["verdict"]) == (False, "fits")


def test_resource_slices_of_dra_are_read(simulation: SimulatedCluster, tmp_path: Path, model: str) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "dra-only", "labels": {"kubernetes.io/hostname": "dra-only"}},
    }
    slices = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "dra-only-gpu"},
        "spec": {
            "driver": "gpu.nvidia.com",
            "nodeName": "dra-only",
            "pool": {"name": "dra-only", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0"}],
        },
    }
    elsewhere = yaml.safe_load(Path(model).read_text())
    elsewhere["spec"]["pod"] = {"nodeSelector": {"kubernetes.io/hostname": "dra-only"}}
    path = tmp_path / "elsewhere.yaml"
    path.write_text(yaml.safe_dump(elsewhere))
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    ready = json.dumps(status)
    simulation.kubectl("apply", "-f", "-", stdin=json.dumps(node))
    simulation.kubectl("apply", "-f", "-", stdin=json.dumps(slices))
    try:
        simulation.kubectl("patch", "node", "dra-only", "--subresource=status", "--type=merge", "-p", ready)
        result = plimsoll(simulation, "plan", "-f", str(path))
    finally:
        simulation.kubectl("delete", "resourceslice", "dra-only-gpu")
        simulation.kubectl("delete", "node", "dra-only")

    assert (result.returncode, result.stderr) == (1, "")
    assert "offered by DRA alone" in " ".join(result.stdout.split())
