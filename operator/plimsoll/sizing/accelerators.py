"""A card and the nodes that hold it: the supply side of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plimsoll.sizing.facts import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One kind of GPU.

    Attributes:
        alias: the catalogue's short name ("A100-80GB"), or the label's value for a card that is not in it.
        product: the value of the node label nvidia.com/gpu.product.
        memory_bytes: what the driver shows to the engine, not the marketing figure.
        compute_capability: (major, minor).
        platform: "cuda", "rocm" where the engine runs on AMD's stack, "other" on one of which nothing was fitted.
    """

    alias: str
    product: str
    memory_bytes: int
    compute_capability: tuple[int, int]
    provenance: Provenance
    source: str
    platform: str = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """Nodes that are alike: one product, one number of GPUs per node.

    Attributes:
        name: for people ("2 nodes with 4 x NVIDIA-A10").
        accelerator: None for nodes without a GPU.
        node_labels: what a pod must select to land here, as (label, value) pairs.
        allocatable_millicores, allocatable_bytes: of the largest node, for CPU and host memory.
        shared: several pods get the same card at a time, which keeps no memory apart for them.
    """

    name: str
    accelerator: Accelerator | None
    gpus_per_node: int
    nodes: int
    resource_name: str = "nvidia.com/gpu"
    node_labels: tuple[tuple[str, str], ...] = ()
    allocatable_millicores: int | None = None
    allocatable_bytes: int | None = None
    shared: bool = False
