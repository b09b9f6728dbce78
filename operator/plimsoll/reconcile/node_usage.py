"""What of the nodes' GPUs is free: allocatable less what pods hold, and nodes whose GPUs only DRA offers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests.labels import MODEL_DEPLOYMENT
from plimsoll.manifests.names import label_value
from plimsoll.reconcile.node_gpus import allocatable_of, amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from plimsoll.api.spec import ModelDeployment

_OVER: Final = ("Succeeded", "Failed")
_DRA_DRIVER: Final = "gpu.nvidia.com"

Manifest = dict[str, Any]


def free_nodes(
    nodes: Sequence[Manifest], pods: Iterable[Manifest], deployment: ModelDeployment
) -> tuple[Manifest, ...]:
    """The nodes as they are for this ModelDeployment: what other pods hold of extended resources is taken off."""
    held: dict[str, Counter[str]] = {}
    for pod in pods:
        node = pod.get("spec", {}).get("nodeName")
        if node and pod.get("status", {}).get("phase") not in _OVER and not _is_ours(pod, deployment):
            held.setdefault(node, Counter()).update(_requests(pod))
    return tuple(
        _less(node, held.get(str(node.get("metadata", {}).get("name")), Counter())) for node in nodes
    )


def dra_nodes(slices: Iterable[Manifest]) -> frozenset[str]:
    """Names of the nodes whose GPUs NVIDIA's DRA driver offers."""
    specs = [one.get("spec") or {} for one in slices]
    return frozenset(str(spec["nodeName"]) for spec in specs if _of_driver(spec) and spec.get("nodeName"))


def _of_driver(spec: Mapping[str, Any]) -> bool:
    return spec.get("driver") == _DRA_DRIVER


def _is_ours(pod: Manifest, deployment: ModelDeployment) -> bool:
    metadata = pod.get("metadata", {})
    name = (metadata.get("labels") or {}).get(MODEL_DEPLOYMENT)
    return metadata.get("namespace") == deployment.namespace and name == label_value(deployment.name)


def _requests(pod: Manifest) -> Counter[str]:
    """Extended resources of a pod: containers together, or one init container if it asks for more."""
    spec = pod.get("spec", {})
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        total.update(_extended(container))
    for container in spec.get("initContainers") or ():
        total |= _extended(container)
    return total


def _extended(container: Manifest) -> Counter[str]:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return Counter({name: amount(amounts, name) for name in amounts if "/" in name})


def _less(node: Manifest, held: Mapping[str, int]) -> Manifest:
    allocatable = allocatable_of(node)
    rest = {name: str(max(0, amount(allocatable, name) - held[name])) for name in held if name in allocatable}
    return {**node, "status": {**node.get("status", {}), "allocatable": {**allocatable, **rest}}}
