"""What a node's labels and allocatable resources say of its GPUs: whole ones, MIG slices, shared ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.reconcile.node_match import labels_of
from plimsoll.sizing.gpus import MIG_SUFFIX, UnknownAccelerator, find, from_label, mig_slice
from plimsoll.units import QuantityError, parse_bytes, parse_millicores, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.api.spec import GpuSpec
    from plimsoll.sizing.accelerators import Accelerator

DEFAULT_RESOURCE: Final = "nvidia.com/gpu"
# Labels of GPU Feature Discovery; memory is in MiB. Source: NVIDIA k8s-device-plugin, docs/gpu-feature-discovery.
PRODUCT: Final = "nvidia.com/gpu.product"
MEMORY: Final = "nvidia.com/gpu.memory"
_COMPUTE_MAJOR: Final = "nvidia.com/gpu.compute.major"
_COMPUTE_MINOR: Final = "nvidia.com/gpu.compute.minor"
# Of the mixed MIG strategy: the resource nvidia.com/mig-3g.40gb, and labels that begin with it.
MIG_RESOURCE: Final = "nvidia.com/mig-"
# Sharing: the plugin multiplies a card by `replicas`, and renames the resource or marks the product.
_SHARED_SUFFIX: Final = "-SHARED"
_SHARED_RESOURCE: Final = ".shared"
_MPS: Final = "mps"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One kind of GPU that a node offers under one resource.

    Attributes:
        gpus: how many of them one pod can use together. Of slices and shared cards it is one: CUDA shows a process one
            slice, and more shares of one card give it no more memory.
        product_label, memory_label: of the node, for the pod to select.
        shared: several pods get the same card, by time slicing.
    """

    resource_name: str
    accelerator: Accelerator
    gpus: int
    product_label: str
    memory_label: str | None = None
    shared: bool = False


def offers(node: Manifest, gpu: GpuSpec, *, by_dra: bool = False) -> tuple[Offer, ...] | str:
    """The GPUs of a node that a spec may use, or the reason why there are none, a clause."""
    labels, allocatable = labels_of(node), allocatable_of(node)
    resources = _resources(allocatable, gpu)
    if not resources:
        return _nothing(labels, gpu, by_dra=by_dra)
    if PRODUCT not in labels:
        return f"no label {PRODUCT}: run GPU Feature Discovery on it"
    found: list[Offer] = []
    reasons: list[str] = []
    for resource in resources:
        offer = _offer(labels, allocatable, resource, gpu)
        if isinstance(offer, Offer):
            found.append(offer)
        else:
            reasons.append(offer)
    return tuple(found) or reasons[0]


def allocatable_of(node: Manifest) -> Mapping[str, Any]:
    """What pods may take of the node."""
    status = node.get("status", {})
    found: Mapping[str, Any] = status.get("allocatable") or status.get("capacity") or {}
    return found


def amount(amounts: Mapping[str, Any], name: str) -> int:
    """Bytes, millicores or a count; what cannot be read is not there."""
    text = amounts.get(name, 0)
    try:
        if name == "cpu":
            return parse_millicores(text)
        return parse_bytes(text) if name == "memory" else int(parse_quantity(text))
    except QuantityError:
        return 0


def _resources(allocatable: Mapping[str, Any], gpu: GpuSpec) -> tuple[str, ...]:
    """The resources that count as GPUs: the one that is asked for, or whole cards and every size of slice."""
    if gpu.resource_name is not None:
        names = [gpu.resource_name]
    else:
        slices = sorted(name for name in allocatable if name.startswith(MIG_RESOURCE))
        names = [DEFAULT_RESOURCE, f"{DEFAULT_RESOURCE}{_SHARED_RESOURCE}", *slices]
    return tuple(name for name in names if amount(allocatable, name) > 0)


def _nothing(labels: Mapping[str, str], gpu: GpuSpec, *, by_dra: bool) -> str:
    """A node without the resource; labels of a card say that there is one all the same."""
    resource = gpu.resource_name or DEFAULT_RESOURCE
    product = labels.get(PRODUCT)
    if by_dra:
        return (
            f"no {resource}: its GPUs are offered by DRA alone (ResourceSlices of gpu.nvidia.com), whose claims are not "
            "planned with; run the NVIDIA device plugin there"
        )
    if product is None:
        return f"no {resource}"
    return (
        f"no {resource} although its labels say {product}: no device plugin offers it, or DRA alone does, whose claims "
        "are not planned with; run the NVIDIA device plugin there"
    )


def _offer(
    labels: Mapping[str, str], allocatable: Mapping[str, Any], resource: str, gpu: GpuSpec
) -> Offer | str:
    product = labels[PRODUCT]
    profile = _profile(resource)
    prefix = resource.removesuffix(_SHARED_RESOURCE) if profile else DEFAULT_RESOURCE
    sharing = _sharing(labels, resource, prefix, product)
    if sharing == _MPS:
        return "GPUs are shared by MPS, which divides their memory by itself and is not planned with"
    if sharing and not gpu.shared:
        return (
            "GPUs are shared by time slicing, which keeps no memory apart: use whole GPUs, or set "
            "spec.hardware.gpu.shared and gpuMemoryUtilization"
        )
    if gpu.shared and not sharing:
        return "its GPUs are not shared, which spec.hardware.gpu.shared asks for"
    try:
        accelerator = _accelerator(labels, product.removesuffix(_SHARED_SUFFIX), profile)
    except UnknownAccelerator as error:
        return str(error).rstrip(".")
    if gpu.product is not None and not _is_product(gpu, accelerator, product):
        return f"{accelerator.product}, not the {gpu.product} of spec.hardware.gpu.product"
    divided = bool(sharing) or MIG_SUFFIX in accelerator.product
    return Offer(
        resource_name=resource,
        accelerator=accelerator,
        gpus=1 if divided else amount(allocatable, resource),
        product_label=product,
        memory_label=None if profile else labels.get(MEMORY),
        shared=bool(sharing),
    )


def _profile(resource: str) -> str | None:
    """The MIG profile that a resource of the mixed strategy names; None for whole cards."""
    if not resource.startswith(MIG_RESOURCE):
        return None
    return resource.removeprefix(MIG_RESOURCE).removesuffix(_SHARED_RESOURCE)


def _sharing(labels: Mapping[str, str], resource: str, prefix: str, product: str) -> str | None:
    """How the plugin shares this resource, "time-slicing" or "mps"; None where a pod has it alone."""
    strategy = labels.get(f"{prefix}.sharing-strategy")
    if strategy in {"time-slicing", _MPS}:
        return strategy
    of_slice = labels.get(f"{prefix}.product", "") if prefix != DEFAULT_RESOURCE else product
    marked = resource.endswith(_SHARED_RESOURCE) or of_slice.endswith(_SHARED_SUFFIX)
    return "time-slicing" if marked or (_number(labels, f"{prefix}.replicas") or 1) > 1 else None


def _accelerator(labels: Mapping[str, str], product: str, profile: str | None) -> Accelerator:
    """The card or the slice that the labels tell of.

    Raises:
        UnknownAccelerator: they do not say enough.
    """
    capability = _number(labels, _COMPUTE_MAJOR), _number(labels, _COMPUTE_MINOR)
    if profile is None:
        return from_label(product, _number(labels, MEMORY), *capability)
    whole = from_label(product, _number(labels, MEMORY), *capability)
    return mig_slice(whole, profile, _number(labels, f"{MIG_RESOURCE}{profile}.memory"))


def _is_product(gpu: GpuSpec, accelerator: Accelerator, label: str) -> bool:
    """Whether the user's word is this card or slice; a slice that is asked for by its resource may go by its card."""
    wanted = gpu.product or ""
    names = [accelerator.product, label if MIG_SUFFIX not in accelerator.product else accelerator.alias]
    if gpu.resource_name is not None:
        names.append(accelerator.product.partition(MIG_SUFFIX)[0])
    return any(_same(wanted, name) for name in names)


def _same(wanted: str, name: str) -> bool:
    """Whether two words are one, or name one card of the catalogue."""
    if wanted.casefold() == name.casefold():
        return True
    try:
        return find(wanted).alias == find(name).alias
    except UnknownAccelerator:
        return False


def _number(labels: Mapping[str, str], key: str) -> int | None:
    text = labels.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None
