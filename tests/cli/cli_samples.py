"""Manifests and nodes that several tests of the command line write into files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from click.testing import CliRunner, Result

from plimsoll.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
# Nothing may be asked of a network here: an address at which nobody answers.
NOWHERE = "http://127.0.0.1:9"


def model_deployment(name: str = "mistral-7b", model: str = MISTRAL, **spec: Any) -> dict[str, Any]:
    """A ModelDeployment as a user writes it."""
    return {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"id": model}, **spec},
    }


def node(
    name: str = "a10-0", gpus: int = 4, product: str = "NVIDIA-A10", memory: int = 23028
) -> dict[str, Any]:
    """A Ready node with the labels of GPU Feature Discovery."""
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "nvidia.com/gpu.product": product,
                "nvidia.com/gpu.memory": str(memory),
                "nvidia.com/gpu.count": str(gpus),
                "nvidia.com/gpu.compute.major": "8",
                "nvidia.com/gpu.compute.minor": "6",
            },
        },
        "spec": {},
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def write_yaml(path: Path, *documents: dict[str, Any]) -> str:
    """Several documents in one file."""
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def write_nodes(path: Path, *nodes: dict[str, Any]) -> str:
    """Nodes as `kubectl get nodes -o json` prints them."""
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(nodes)}))
    return str(path)


def run(*arguments: str) -> Result:
    """The command line, with no network."""
    return CliRunner().invoke(
        cli, list(arguments), env={"COLUMNS": "80", "HF_ENDPOINT": NOWHERE, "HF_TOKEN": None}
    )


def estimate(*arguments: str) -> dict[str, Any]:
    """The document of `plimsoll estimate`; whatever it says, it says nothing else."""
    result = run("estimate", *arguments, "-o", "json")
    assert result.stderr == ""
    document: dict[str, Any] = json.loads(result.stdout)
    assert {"fits": 0, "refused": 1}[document["verdict"]] == result.exit_code
    return document
