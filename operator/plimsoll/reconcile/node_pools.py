"""From Node objects to pools of alike nodes, and which nodes are left out for what reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll.api.spec import GpuSpec, ModelDeploymentSpec, PodSpec
from plimsoll.manifests.engine import runs_on_cpu
from plimsoll.reconcile.node_match import labels_of, selects, untolerated
from plimsoll.sizing.accelerators import Accelerator, NodePool
from plimsoll.sizing.gpus import UnknownAccelerator, find, from_label
from plimsoll.units import QuantityError, parse_bytes, parse_millicores, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from plimsoll.api.status import PlanStatus

DEFAULT_RESOURCE: Final = "nvidia.com/gpu"
# Labels of GPU Feature Discovery; memory is in MiB.
PRODUCT: Final = "nvidia.com/gpu.product"
MEMORY: Final = "nvidia.com/gpu.memory"
_COMPUTE_MAJOR: Final = "nvidia.com/gpu.compute.major"
_COMPUTE_MINOR: Final = "nvidia.com/gpu.compute.minor"
_REPLICAS: Final = "nvidia.com/gpu.replicas"
_SHARING: Final = "nvidia.com/gpu.sharing-strategy"
_MIG_RESOURCE: Final = "nvidia.com/mig-"
_SHARED_SUFFIX: Final = "-SHARED"
# nvidia.com/mig.strategy says nothing by itself: the GPU operator sets it on nodes without any slice too.
_MIG_PRODUCT: Final = "-MIG-"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSurvey:
    """What a look at the nodes gives.

    Attributes:
        left_out: clauses such as "2 nodes: GPUs are shared by time slicing", most nodes first.
    """

    pools: tuple[NodePool, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Usable:
    """One node that a pod may land on."""

    accelerator: Accelerator | None
    gpus: int
    memory_label: str | None
    millicores: int
    memory_bytes: int


def pools_from_nodes(nodes: Iterable[Manifest], spec: ModelDeploymentSpec) -> tuple[NodePool, ...]:
    """The pools that the pods of this spec may land on."""
    return survey_nodes(nodes, spec).pools


def survey_nodes(nodes: Iterable[Manifest], spec: ModelDeploymentSpec) -> NodeSurvey:
    """The pools, and why the other nodes are out."""
    usable: list[_Usable] = []
    reasons: Counter[str] = Counter()
    for node in nodes:
        result = _look_at(node, spec)
        if isinstance(result, _Usable):
            usable.append(result)
        else:
            reasons[result] += 1
    left_out = tuple(
        f"{count} node{'s' if count > 1 else ''}: {reason}"
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    )
    return NodeSurvey(pools=_pools(usable, _resource_name(spec)), left_out=left_out)


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


def _resource_name(spec: ModelDeploymentSpec) -> str:
    return _gpu(spec).resource_name or DEFAULT_RESOURCE


def _look_at(node: Manifest, spec: ModelDeploymentSpec) -> _Usable | str:
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
    if not cpu_only:  # the server's pods carry this one by themselves
        tolerations.append({"key": _resource_name(spec), "operator": "Exists", "effect": "NoSchedule"})
    taint = untolerated(node, tolerations)
    if taint is not None:
        return f"the taint {taint} is not tolerated by spec.pod.tolerations"
    return _host(node) if cpu_only else _with_gpus(node, spec)


def _ready(node: Manifest) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _host(node: Manifest) -> _Usable:
    allocatable = _allocatable(node)
    return _Usable(
        accelerator=None,
        gpus=0,
        memory_label=None,
        millicores=_amount(allocatable, "cpu"),
        memory_bytes=_amount(allocatable, "memory"),
    )


def _with_gpus(node: Manifest, spec: ModelDeploymentSpec) -> _Usable | str:
    labels, allocatable = labels_of(node), _allocatable(node)
    resource = _resource_name(spec)
    gpus = _amount(allocatable, resource)
    product = labels.get(PRODUCT)
    shared = _shared(labels, allocatable, gpus)
    if shared is not None:
        return shared
    if gpus < 1:
        return f"no {resource}"
    if product is None:
        return f"no label {PRODUCT}: run GPU Feature Discovery on it"
    try:
        accelerator = from_label(
            product,
            _number(labels, MEMORY),
            _number(labels, _COMPUTE_MAJOR),
            _number(labels, _COMPUTE_MINOR),
        )
    except UnknownAccelerator as error:
        return str(error).rstrip(".")
    wanted = _gpu(spec).product
    if wanted is not None and not _is_product(wanted, product):
        return f"{product}, not the {wanted} of spec.hardware.gpu.product"
    return replace(_host(node), accelerator=accelerator, gpus=gpus, memory_label=labels.get(MEMORY))


def _shared(labels: Mapping[str, str], allocatable: Mapping[str, Any], gpus: int) -> str | None:
    """Why the GPUs are no whole ones: an engine reckons with the memory of a whole card."""
    product = labels.get(PRODUCT, "")
    slices = [name for name in allocatable if name.startswith(_MIG_RESOURCE) and _amount(allocatable, name)]
    if _MIG_PRODUCT in product or (slices and gpus < 1):
        return "GPUs are cut into MIG slices, which are not planned with: use whole GPUs"
    replicas = _number(labels, _REPLICAS) or 1
    if replicas > 1 or labels.get(_SHARING) in {"time-slicing", "mps"} or product.endswith(_SHARED_SUFFIX):
        strategy = "MPS" if labels.get(_SHARING) == "mps" else "time slicing"
        return f"GPUs are shared by {strategy}, which the memory of a plan does not allow: use whole GPUs"
    return None


def _is_product(wanted: str, label: str) -> bool:
    """Whether the user's word is this label, or both are one card of the catalogue."""
    if wanted.casefold() == label.casefold():
        return True
    try:
        return find(wanted).alias == find(label).alias
    except UnknownAccelerator:
        return False


def _allocatable(node: Manifest) -> Mapping[str, Any]:
    status = node.get("status", {})
    found: Mapping[str, Any] = status.get("allocatable") or status.get("capacity") or {}
    return found


def _amount(amounts: Mapping[str, Any], name: str) -> int:
    """Bytes, millicores or a count; what cannot be read is not there."""
    text = amounts.get(name, 0)
    try:
        if name == "cpu":
            return parse_millicores(text)
        return parse_bytes(text) if name == "memory" else int(parse_quantity(text))
    except QuantityError:
        return 0


def _number(labels: Mapping[str, str], key: str) -> int | None:
    text = labels.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _pools(usable: Iterable[_Usable], resource_name: str) -> tuple[NodePool, ...]:
    """Alike nodes together: one card with one memory, one number of GPUs."""
    groups: dict[tuple[str, int, int], list[_Usable]] = {}
    for node in usable:
        card = node.accelerator
        key = (card.product, card.memory_bytes, node.gpus) if card is not None else ("", 0, 0)
        groups.setdefault(key, []).append(node)
    memories: dict[str, set[int]] = {}
    for product, memory, _ in groups:
        memories.setdefault(product, set()).add(memory)
    return tuple(
        _pool(groups[key], resource_name, by_memory=len(memories[key[0]]) > 1) for key in sorted(groups)
    )


def _pool(nodes: Sequence[_Usable], resource_name: str, *, by_memory: bool) -> NodePool:
    first = nodes[0]
    plural = "node" if len(nodes) == 1 else "nodes"
    card = first.accelerator
    labels: list[tuple[str, str]] = []
    if card is not None:
        labels.append((PRODUCT, card.product))
        # One label for two memories (a rebuilt card, a vGPU): the pod must land on the one it was planned for.
        if by_memory and first.memory_label is not None:
            labels.append((MEMORY, first.memory_label))
    what = f"{first.gpus} x {card.product}" if card is not None else "CPU only"
    return NodePool(
        name=f"{len(nodes)} {plural} with {what}",
        accelerator=card,
        gpus_per_node=first.gpus,
        nodes=len(nodes),
        resource_name=resource_name,
        node_labels=tuple(labels),
        allocatable_millicores=max(node.millicores for node in nodes),
        allocatable_bytes=max(node.memory_bytes for node in nodes),
    )
