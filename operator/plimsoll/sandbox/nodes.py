"""The simulated nodes: a file of node pools, and the Node objects with the labels that GPU Feature Discovery sets."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from plimsoll.sandbox.errors import SandboxError
from plimsoll.sizing.gpus import UnknownAccelerator, find, label_memory_mib
from plimsoll.units import QuantityError, parse_quantity

if TYPE_CHECKING:
    from pathlib import Path

SIMULATED: Final = "kwok.x-k8s.io/node"
_MAX_NODES: Final = 200
_HOPPER: Final = 9
_ADA: Final = (8, 9)
_DRIVER: Final = ("580", "95", "05")
_CUDA: Final = ("13", "0")

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")]
_LabelValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Gpus(_Strict):
    """The GPUs of one node.

    Attributes:
        product: a name or label value of the catalogue, or any label value with the two fields below.
        memoryMiB: nvidia.com/gpu.memory; unset: the catalogue's.
        computeCapability: such as "8.6"; unset: the catalogue's.
    """

    product: _LabelValue
    count: Annotated[int, Field(ge=1, le=64)]
    memoryMiB: Annotated[int, Field(ge=1, le=2**24)] | None = None  # noqa: N815 - the file's spelling
    computeCapability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] | None = None  # noqa: N815


class NodePool(_Strict):
    """Nodes that are alike; `nodes` of them, named <name>-0 onwards."""

    name: _Name
    zone: _LabelValue
    cpu: str
    memory: str
    nodes: Annotated[int, Field(ge=1, le=_MAX_NODES)] = 1
    instanceType: _LabelValue = "simulated"  # noqa: N815
    labels: dict[str, str] = Field(default_factory=dict)
    gpu: Gpus | None = None

    @field_validator("cpu", "memory")
    @classmethod
    def _is_a_quantity(cls, value: str) -> str:
        try:
            positive = parse_quantity(value) > 0
        except QuantityError as error:
            raise ValueError(str(error)) from error
        if not positive:
            raise ValueError(f"{value!r} is not above zero")
        return value


class NodesFile(_Strict):
    """What a file of nodes holds."""

    nodes: Annotated[list[NodePool], Field(min_length=1)]


def load_nodes(file: Path | None = None) -> tuple[dict[str, Any], ...]:
    """The Node objects of a file of node pools; of the one in the package where none is named.

    Raises:
        SandboxError: the file cannot be read, or says something that no node can be.
    """
    name = str(file) if file is not None else "the package's nodes.yaml"
    try:
        text = file.read_text() if file is not None else _default_text()
        pools = NodesFile.model_validate(yaml.safe_load(text)).nodes
    except OSError as error:
        raise SandboxError(f"--nodes {name}: {error.strerror}; name a file that can be read.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SandboxError(f"--nodes {name} is no YAML ({' '.join(str(error).split())}).") from error
    except ValidationError as error:
        raise SandboxError(f"--nodes {name}: {_first_problem(error)}") from error
    nodes = [_node(pool, index, name) for pool in pools for index in range(pool.nodes)]
    names = [node["metadata"]["name"] for node in nodes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SandboxError(f"--nodes {name}: the node {twice[0]} is named twice; give the pools other names.")
    if len(nodes) > _MAX_NODES:
        raise SandboxError(
            f"--nodes {name}: {len(nodes)} nodes are more than the sandbox takes ({_MAX_NODES})."
        )
    return tuple(nodes)


def _default_text() -> str:
    return resources.files("plimsoll.sandbox").joinpath("nodes.yaml").read_text("utf-8")


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    what = f"is {str(first['input'])[:80]!r}: " if first["type"] != "missing" else "is missing: "
    return (
        f"{path or 'the file'} {what}{first['msg']}; see operator/plimsoll/sandbox/nodes.yaml for the form."
    )


def _node(pool: NodePool, index: int, file: str) -> dict[str, Any]:
    name = f"{pool.name}-{index}"
    resources_ = {"cpu": pool.cpu, "memory": pool.memory, "pods": "110", "ephemeral-storage": "1Ti"}
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        "node.kubernetes.io/instance-type": pool.instanceType,
        "topology.kubernetes.io/region": pool.zone.rstrip("abcdefghijklmnopqrstuvwxyz") or pool.zone,
        "topology.kubernetes.io/zone": pool.zone,
        "type": "simulated",
    }
    if pool.gpu is not None:
        resources_["nvidia.com/gpu"] = str(pool.gpu.count)
        labels |= _gpu_labels(pool.gpu, pool.instanceType, file)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels | pool.labels, "annotations": {SIMULATED: "fake"}},
        "status": {"capacity": resources_, "allocatable": dict(resources_)},
    }


def _gpu_labels(gpu: Gpus, machine: str, file: str) -> dict[str, str]:
    """What GPU Feature Discovery 0.17 sets, as installed by the GPU Operator; no card is split or shared."""
    product, memory_mib, (major, minor) = _card(gpu, file)
    can_be_split = (major, minor) == (8, 0) or major >= _HOPPER
    values = {
        "cuda.driver-version.full": ".".join(_DRIVER),
        "cuda.driver-version.major": _DRIVER[0],
        "cuda.driver-version.minor": _DRIVER[1],
        "cuda.driver-version.revision": _DRIVER[2],
        "cuda.runtime-version.full": ".".join(_CUDA),
        "cuda.runtime-version.major": _CUDA[0],
        "cuda.runtime-version.minor": _CUDA[1],
        "gpu.compute.major": str(major),
        "gpu.compute.minor": str(minor),
        "gpu.count": str(gpu.count),
        "gpu.family": _family(major, minor),
        "gpu.machine": machine,
        "gpu.memory": str(memory_mib),
        "gpu.mode": "compute",
        "gpu.present": "true",
        "gpu.product": product,
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "mig.capable": str(can_be_split).lower(),
        "mig.strategy": "single",  # the operator's default, also where no card is split
        "mps.capable": "false",
        "vgpu.present": "false",
    }
    return {f"nvidia.com/{key}": value for key, value in values.items()}


def _card(gpu: Gpus, file: str) -> tuple[str, int, tuple[int, int]]:
    """Label value, MiB and compute capability; what the file says wins over the catalogue."""
    if gpu.memoryMiB is not None and gpu.computeCapability is not None:
        major, _, minor = gpu.computeCapability.partition(".")
        return gpu.product, gpu.memoryMiB, (int(major), int(minor))
    try:
        known = find(gpu.product)
    except UnknownAccelerator as error:
        raise SandboxError(
            f"--nodes {file}: gpu.product {gpu.product!r} is not in the catalogue: give memoryMiB and "
            f"computeCapability with it. {error}"
        ) from error
    return known.product, gpu.memoryMiB or label_memory_mib(known), known.compute_capability


def _family(major: int, minor: int) -> str:
    if (major, minor) == _ADA:
        return "ada-lovelace"
    older = {5: "maxwell", 6: "pascal", 7: "turing" if (major, minor) == (7, 5) else "volta", 8: "ampere"}
    return older.get(major, "hopper" if major == _HOPPER else "blackwell")
