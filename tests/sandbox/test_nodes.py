"""The simulated nodes carry what GPU Feature Discovery sets, and a wrong file gets one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.nodes import load_nodes

ZONE = "topology.kubernetes.io/zone"


def write(folder: Path, text: str) -> Path:
    path = folder / "nodes.yaml"
    path.write_text(text)
    return path


def test_the_default_nodes_are_those_of_the_sandbox() -> None:
    nodes = load_nodes()
    found = {
        node["metadata"]["name"]: (
            node["metadata"]["labels"].get("nvidia.com/gpu.product"),
            node["status"]["allocatable"].get("nvidia.com/gpu"),
        )
        for node in nodes
    }

    assert found == {
        "a100-0": ("NVIDIA-A100-SXM4-80GB", "8"),
        "a10-0": ("NVIDIA-A10", "4"),
        "a10-1": ("NVIDIA-A10", "4"),
        "l4-0": ("NVIDIA-L4", "4"),
        "cpu-0": (None, None),
    }


def test_a_cpu_only_node_is_in_another_zone_than_the_large_gpus() -> None:
    zones = {node["metadata"]["name"]: node["metadata"]["labels"][ZONE] for node in load_nodes()}

    assert zones["cpu-0"] != zones["a100-0"] == zones["a10-0"] == zones["a10-1"]


def test_labels_of_a_card_of_the_catalogue(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "nodes: [{name: a, zone: z1, cpu: '8', memory: 32Gi, gpu: {product: A100-80GB, count: 2}}]",
    )
    labels = load_nodes(path)[0]["metadata"]["labels"]

    expected = {
        "product": "NVIDIA-A100-SXM4-80GB",
        "memory": "81920",
        "count": "2",
        "family": "ampere",
        "compute.major": "8",
        "compute.minor": "0",
        "replicas": "1",
        "sharing-strategy": "none",
        "present": "true",
    }
    assert expected == {name: labels[f"nvidia.com/gpu.{name}"] for name in expected}


def test_a_card_that_nobody_knows_needs_its_memory_and_capability(tmp_path: Path) -> None:
    gpu = "product: NVIDIA-X1, count: 1"
    text = "nodes: [{{name: a, zone: z, cpu: '8', memory: 32Gi, gpu: {{{}}}}}]"

    with pytest.raises(SandboxError, match="'NVIDIA-X1' is not in the catalogue: give memoryMiB"):
        load_nodes(write(tmp_path, text.format(gpu)))

    given = f"{gpu}, memoryMiB: 1000, computeCapability: '9.0'"
    labels = load_nodes(write(tmp_path, text.format(given)))[0]["metadata"]["labels"]
    assert (labels["nvidia.com/gpu.memory"], labels["nvidia.com/gpu.family"]) == ("1000", "hopper")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nodes: []", r"nodes is '\[\]': List should have at least 1 item"),
        (
            "nodes: [{name: a, zone: z, cpu: '8'}]",
            r"nodes\[0\]\.memory is missing",
        ),
        (
            "nodes: [{name: a, zone: z, cpu: eight, memory: 1Gi}]",
            r"nodes\[0\]\.cpu is 'eight'.*is not a quantity",
        ),
        (
            "nodes: [{name: a, zone: z, cpu: '0', memory: 1Gi}]",
            r"nodes\[0\]\.cpu is '0'.*not above zero",
        ),
        (
            "nodes: [{name: a, zone: z, cpu: '8', memory: 1Gi, gpu: {product: A10, count: 0}}]",
            r"nodes\[0\]\.gpu\.count is '0'",
        ),
        ("nodes: [{name: A_b, zone: z, cpu: '8', memory: 1Gi}]", r"nodes\[0\]\.name is 'A_b'"),
        ("nodes: [{name: a, zone: z, cpu: '8', memory: 1Gi, gpus: 1}]", r"nodes\[0\]\.gpus is '1'"),
        (
            "nodes: [{name: a, zone: z, cpu: '1', memory: 1Gi}, {name: a, zone: z, cpu: '1', memory: 1Gi}]",
            "the node a-0 is named twice",
        ),
        (
            "nodes: [{name: a, nodes: 150, zone: z, cpu: '1', memory: 1Gi}, {name: b, nodes: 150, zone: z, cpu: '1', memory: 1Gi}]",
            "300 nodes are more than the sandbox takes",
        ),
        ("- [", "is no YAML"),
        ("just text", "the file is 'just text'"),
    ],
    ids=[
        "none",
        "missing",
        "no quantity",
        "zero",
        "no gpu",
        "name",
        "unknown field",
        "twice",
        "too many",
        "no yaml",
        "text",
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SandboxError, match=sentence) as caught:
        load_nodes(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"none\.yaml: No such file"):
        load_nodes(tmp_path / "none.yaml")
