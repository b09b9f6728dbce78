"""plan beyond yes and no: what is free now, how many requests at once, and where else it would fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli_samples import model_deployment, node, write_nodes, write_yaml
from click.testing import CliRunner, Result

from plimsoll.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path

NO_CLUSTER = {
    "KUBECONFIG": "/nonexistent/kubeconfig",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "COLUMNS": "100",
    "HF_TOKEN": None,
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), env=NO_CLUSTER)


def busy(on: str, gpus: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "b", "namespace": "other"},
        "spec": {
            "nodeName": on,
            "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}],
        },
        "status": {"phase": "Running"},
    }


def l4(name: str = "l4-0") -> dict[str, Any]:
    one = node(name, 2, "NVIDIA-L4", 23034)
    one["metadata"]["labels"]["nvidia.com/gpu.compute.minor"] = "9"
    return one


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_yaml(tmp_path / "model.yaml", model_deployment())


@pytest.mark.parametrize(
    ("objects", "places", "instead"),
    [
        pytest.param([node(), busy("a10-0", 3)], True, None, id="one is free"),
        pytest.param([node(), busy("a10-0", 4)], False, None, id="none is free"),
        pytest.param([node(), l4(), busy("a10-0", 4)], False, "NVIDIA-L4", id="another kind is free"),
    ],
)
def test_a_plan_is_held_against_what_is_free(
    tmp_path: Path, model: str, objects: list[dict[str, Any]], places: bool, instead: str | None
) -> None:
    path = write_nodes(tmp_path / "nodes.json", *objects)
    result = run("plan", "-f", model, "--nodes-file", path, "-o", "json")
    (one,) = json.loads(result.stdout)["models"]
    text = " ".join(run("plan", "-f", model, "--nodes-file", path).stdout.split())

    assert result.exit_code == 0
    assert one["free_now"]["places"] is places
    found = one["free_now"]["instead"]
    assert (found["hardware"]["product"] if found else None) == instead
    assert ("not enough NVIDIA-A10 are free now" in text) is not places
    assert (f"would serve it on 1 x {instead}" in text) is (instead is not None)


def test_without_pods_nothing_is_said_of_what_is_free(tmp_path: Path, model: str) -> None:
    path = write_nodes(tmp_path / "nodes.json", node())
    (one,) = json.loads(run("plan", "-f", model, "--nodes-file", path, "-o", "json").stdout)["models"]

    assert one["free_now"] is None


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"kind": "Pod", "spec": []}, id="spec"),
        pytest.param({"kind": "Pod", "spec": {"containers": {"a": 1}}}, id="containers"),
        pytest.param({"kind": "Pod", "spec": {"containers": [{"resources": []}]}}, id="resources"),
        pytest.param({"kind": "Pod", "spec": {"containers": [{"resources": {"limits": [1]}}]}}, id="limits"),
        pytest.param({"kind": "Pod", "metadata": {"labels": [1]}}, id="labels"),
        pytest.param({"kind": "ResourceSlice", "spec": 1}, id="slice"),
    ],
)
def test_a_malformed_pod_or_slice_is_one_sentence(tmp_path: Path, model: str, broken: dict[str, Any]) -> None:
    path = write_nodes(tmp_path / "nodes.json", node(), {"apiVersion": "v1", **broken})
    result = run("plan", "-f", model, "--nodes-file", path)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "a Pod or a ResourceSlice has not the form" in result.stderr


def test_nodes_with_dra_only_are_named(tmp_path: Path, model: str) -> None:
    only = node("dra-0", 0)
    del only["status"]["allocatable"]["nvidia.com/gpu"]
    slices = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "spec": {"driver": "gpu.nvidia.com", "nodeName": "dra-0"},
    }
    path = write_nodes(tmp_path / "nodes.json", only, slices)
    result = run("plan", "-f", model, "--nodes-file", path)

    assert result.exit_code == 1
    assert "offered by DRA alone" in " ".join(result.stdout.split())


def test_requests_at_once_give_the_bytes_to_pin(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "m.yaml", model_deployment(engine={"maxModelLen": 8192}))
    result = run("plan", "-f", path, "--gpu", "A100-80GB", "--concurrency", "16", "-o", "json")
    (one,) = json.loads(result.stdout)["models"]
    pinned = one["at_once"]["pinned"]

    assert result.exit_code == 0
    # Mistral 7B: 2 MiB in a block of 16 tokens; 512 blocks a request, and the null block.
    assert pinned == {
        "concurrency": 16,
        "max_model_len": 8192,
        "kv_cache_memory_bytes": 2 * 2**20 * (512 * 16 + 1),
    }
    text = " ".join(run("plan", "-f", path, "--gpu", "A100-80GB", "--concurrency", "16").stdout.split())
    assert f"--kv-cache-memory-bytes {pinned['kv_cache_memory_bytes']}" in text


def test_more_requests_at_once_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "m.yaml", model_deployment(engine={"maxModelLen": 32768}))
    result = run(
        "plan", "-f", path, "--gpu", "A10", "--gpus-per-node", "1", "--concurrency", "9", "-o", "json"
    )
    document = json.loads(result.stdout)

    assert (result.exit_code, document["verdict"]) == (1, "refused")
    assert "for 9 requests at once" in document["models"][0]["at_once"]["refusal"]["message"]


def test_an_estimate_says_what_to_pin(tmp_path: Path) -> None:
    arguments = ("estimate", "mistralai/Mistral-7B-Instruct-v0.3", "--gpu", "A10", "--max-model-len", "8192")
    document = json.loads(run(*arguments, "--concurrency", "2", "-o", "json").stdout)
    bytes_to_pin = document["pinned"]["kv_cache_memory_bytes"]
    again = json.loads(run(*arguments, "--kv-cache-memory-bytes", str(bytes_to_pin), "-o", "json").stdout)

    assert bytes_to_pin == 2 * 2**20 * (512 * 2 + 1)
    assert 2 <= again["kv_cache"]["max_concurrency"] < 3
    assert "Pinned" in run(*arguments, "--concurrency", "2").stdout
    assert "Pinned" not in run(*arguments).stdout


def test_a_choice_of_gpu_that_does_not_fit_names_the_nodes_that_do(tmp_path: Path) -> None:
    path = write_yaml(
        tmp_path / "m.yaml",
        model_deployment(
            "large", "meta-llama/Llama-3.1-70B-Instruct", hardware={"gpu": {"product": "A10", "count": 1}}
        ),
    )
    a100 = node("a100-0", 8, "NVIDIA-A100-SXM4-80GB", 81920)
    a100["metadata"]["labels"]["nvidia.com/gpu.compute.minor"] = "0"
    nodes = write_nodes(tmp_path / "nodes.json", node(), a100)
    fixed = json.loads(run("plan", "-f", path, "--nodes-file", nodes, "-o", "json").stdout)["models"][0]

    assert fixed["reason"] == "DoesNotFit"
    assert not any("leaves out" in clause for clause in fixed["refusal"]["would_fit"])  # count 1 stays
    path = write_yaml(
        tmp_path / "m.yaml",
        model_deployment("large", "meta-llama/Llama-3.1-70B-Instruct", hardware={"gpu": {"product": "A10"}}),
    )
    free = json.loads(run("plan", "-f", path, "--nodes-file", nodes, "-o", "json").stdout)["models"][0]
    assert any(
        "A100-80GB" in clause and "which hardware.gpu leaves out" in clause
        for clause in free["refusal"]["would_fit"]
    )


def test_a_slice_is_planned_as_one_gpu_of_its_own() -> None:
    arguments = ("estimate", "--gpu", "A100-80GB-MIG-1g.10gb", "-o", "json")
    small = json.loads(run(*arguments, "facebook/opt-125m").stdout)
    large = run(*arguments, "mistralai/Mistral-7B-Instruct-v0.3")
    refusal = json.loads(large.stdout)["refusal"]

    assert (small["verdict"], small["gpu"]["name"], small["gpus"]) == ("fits", "A100-80GB-MIG-1g.10gb", 1)
    assert (large.exit_code, refusal["reason"]) == (1, "DoesNotFit")
    assert "On 1 x A100-80GB-MIG-1g.10gb (TP 1, PP 1)" in refusal["message"]
