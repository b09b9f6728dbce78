"""From Node objects to pools of alike nodes, and which nodes are left out for what reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimsoll.api.spec import GpuSpec, ModelDeploymentSpec, PodSpec
from plimsoll.manifests.engine import runs_on_cpu
from plimsoll.manifests.placement import tolerated_taints
from plimsoll.reconcile.node_gpus import (
    DEFAULT_RESOURCE,
    MEMORY,
    PRODUCT,
    Offer,
    allocatable_of,
    amount,
    offers,
)
from plimsoll.reconcile.node_match import selects, untolerated
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.gpus import MIG_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from plimsoll.api.status import PlanStatus

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSurvey:
    """What a look at the nodes gives.

    Attributes:
        left_out: clauses such as "2 nodes: GPUs are shared by time slicing", most nodes first.
        elsewhere: pools that only spec.hardware.gpu keeps out.
    """

    pools: tuple[NodePool, ...]
    left_out: tuple[str, ...] = ()
    elsewhere: tuple[NodePool, ...] = ()


@dataclass(frozen=True, slots=True)
class _Usable:
    """One node that a pod may land on, once for each kind of GPU that it offers."""

    offer: Offer | None
    millicores: int
    memory_bytes: int


def survey_nodes(
    nodes: Iterable[Manifest], spec: ModelDeploymentSpec, by_dra: Container[str] = ()
) -> NodeSurvey:
    """The pools, and why the other nodes are out; `by_dra` names nodes whose GPUs DRA offers."""
    nodes = tuple(nodes)
    usable: list[_Usable] = []
    reasons: Counter[str] = Counter()
    for node in nodes:
        result = _look_at(node, spec, by_dra)
        if isinstance(result, str):
            reasons[result] += 1
        else:
            usable += result
    left_out = tuple(
        f"{count} node{'s' if count > 1 else ''}: {reason}"
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    )
    pools = _pools(usable)
    return NodeSurvey(pools=pools, left_out=left_out, elsewhere=_elsewhere(nodes, spec, pools))


def _elsewhere(
    nodes: Sequence[Manifest], spec: ModelDeploymentSpec, pools: Sequence[NodePool]
) -> tuple[NodePool, ...]:
    """What the nodes would offer if any whole GPU or slice were welcome."""
    gpu = _gpu(spec)
    if runs_on_cpu(spec) or (gpu.resource_name is None and gpu.product is None and gpu.min_memory is None):
        return ()
    anywhere = spec.model_copy(update={"hardware": None})
    found = (_look_at(node, anywhere) for node in nodes)
    usable = [one for one in found if not isinstance(one, str)]
    known = {(pool.accelerator, pool.resource_name) for pool in pools}
    return tuple(
        pool
        for pool in _pools(node for one in usable for node in one)
        if (pool.accelerator, pool.resource_name) not in known
    )


def placeable(plan: PlanStatus, pools: Sequence[NodePool]) -> bool:
    """Whether a pool still has what a plan was made for."""
    if plan.gpus == 0:
        return bool(pools)
    wanted = plan.hardware
    return any(
        pool.accelerator is not None
        and pool.accelerator.product == wanted.product
        and pool.resource_name == wanted.resource_name
        and pool.accelerator.memory_bytes >= (wanted.memory_bytes or 0)
        and pool.gpus_per_node >= -(-plan.gpus // plan.nodes)
        and pool.nodes >= plan.nodes
        for pool in pools
    )


def _gpu(spec: ModelDeploymentSpec) -> GpuSpec:
    return (spec.hardware.gpu if spec.hardware is not None else None) or GpuSpec()


def _look_at(
    node: Manifest, spec: ModelDeploymentSpec, by_dra: Container[str] = ()
) -> tuple[_Usable, ...] | str:
    """The node as supply, or the reason why it is none."""
    pod = spec.pod or PodSpec()
    cpu_only = runs_on_cpu(spec)
    if not _ready(node):
        return "not Ready"
    if node.get("spec", {}).get("unschedulable"):
        return "cordoned"
    if not selects(pod, node):
        return "not selected by spec.pod.nodeSelector and spec.pod.affinity"
    tolerations: list[Mapping[str, Any]] = list(pod.tolerations or ())
    if not cpu_only:  # the server's pods carry these by themselves
        tolerations += [
            {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
            for resource in tolerated_taints(_gpu(spec).resource_name or DEFAULT_RESOURCE)
        ]
    taint = untolerated(node, tolerations)
    if taint is not None:
        return f"the taint {taint} is not tolerated by spec.pod.tolerations"
    if cpu_only:
        return (_usable(node, None),)
    found = offers(node, _gpu(spec), by_dra=node.get("metadata", {}).get("name") in by_dra)
    return found if isinstance(found, str) else tuple(_usable(node, offer) for offer in found)


def _ready(node: Manifest) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _usable(node: Manifest, offer: Offer | None) -> _Usable:
    allocatable = allocatable_of(node)
    return _Usable(
        offer=offer, millicores=amount(allocatable, "cpu"), memory_bytes=amount(allocatable, "memory")
    )


def _pools(usable: Iterable[_Usable]) -> tuple[NodePool, ...]:
    """Alike nodes together: one card with one memory under one resource, one number of GPUs."""
    groups: dict[tuple[str, str, int, int], list[_Usable]] = {}
    for node in usable:
        offer = node.offer
        key = (
            (offer.product_label, offer.resource_name, offer.accelerator.memory_bytes, offer.gpus)
            if offer is not None
            else ("", "", 0, 0)
        )
        groups.setdefault(key, []).append(node)
    memories: dict[tuple[str, str], set[int]] = {}
    for product, resource, memory, _ in groups:
        memories.setdefault((product, resource), set()).add(memory)
    return tuple(_pool(groups[key], by_memory=len(memories[key[:2]]) > 1) for key in sorted(groups))


def _pool(nodes: Sequence[_Usable], *, by_memory: bool) -> NodePool:
    offer = nodes[0].offer
    plural = "node" if len(nodes) == 1 else "nodes"
    labels: list[tuple[str, str]] = []
    if offer is not None:
        labels.append((PRODUCT, offer.product_label))
        # One label for two memories (a rebuilt card, a vGPU): the pod must land on the one it was planned for.
        if by_memory and offer.memory_label is not None:
            labels.append((MEMORY, offer.memory_label))
    return NodePool(
        name=f"{len(nodes)} {plural} with {_what(offer)}",
        accelerator=offer.accelerator if offer is not None else None,
        gpus_per_node=offer.gpus if offer is not None else 0,
        nodes=len(nodes),
        resource_name=offer.resource_name if offer is not None else DEFAULT_RESOURCE,
        node_labels=tuple(labels),
        allocatable_millicores=max(node.millicores for node in nodes),
        allocatable_bytes=max(node.memory_bytes for node in nodes),
        shared=offer is not None and offer.shared,
    )


def _what(offer: Offer | None) -> str:
    if offer is None:
        return "CPU only"
    product = offer.accelerator.product
    if offer.shared:
        return f"{product}, shared by time slicing"
    if MIG_SUFFIX in product:
        return f"slices {product}"
    return f"{offer.gpus} x {product}"
