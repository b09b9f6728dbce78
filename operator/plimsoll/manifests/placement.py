"""Where pods may run: the plan's nodes, the user's wishes, and the node of a volume that only one can mount."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests.labels import VOLUME
from plimsoll.manifests.names import claim_label_value

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context

_NVIDIA: Final = "nvidia.com/"
_WHOLE_GPU: Final = "nvidia.com/gpu"
_HOSTNAME: Final = "kubernetes.io/hostname"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What the state of the volume asks of every pod that mounts it.

    Attributes:
        co_locate_with_volume_users: run on the node of the volume's other users: the scheduler does not keep the
            users of a ReadWriteOnce volume together, and they would hang in Multi-Attach. The first of them is
            free: a pod that its own affinity term selects satisfies it while no other pod does.
    """

    co_locate_with_volume_users: bool = False


def affinity(ctx: Context, placement: Placement, *, on_planned_nodes: bool) -> dict[str, Any]:
    """The user's affinity with ours added, empty where there is neither; the plan's node labels only if asked."""
    merged: dict[str, Any] = copy.deepcopy(dict(ctx.pod.affinity or {}))
    wanted = ctx.plan.hardware.node_labels or {}
    if on_planned_nodes and wanted:
        merged["nodeAffinity"] = _with_node_labels(_map(merged, "nodeAffinity"), wanted)
    if placement.co_locate_with_volume_users:
        merged["podAffinity"] = _with_volume_users(_map(merged, "podAffinity"), ctx.claim_name)
    return merged


def tolerations(ctx: Context) -> list[dict[str, Any]]:
    """The user's, and that for the taint with which clusters keep other pods off their GPU nodes."""
    found: list[dict[str, Any]] = [dict(toleration) for toleration in ctx.pod.tolerations or ()]
    resource = ctx.plan.hardware.resource_name
    if ctx.plan.gpus and resource is not None:
        for key in tolerated_taints(resource):
            ours = {"key": key, "operator": "Exists", "effect": "NoSchedule"}
            if ours not in found:
                found.append(ours)
    return found


def tolerated_taints(resource: str) -> tuple[str, ...]:
    """The taints that keep other pods off nodes with this resource; nodes with slices or shares carry the whole GPU's."""
    if resource.startswith(_NVIDIA) and resource != _WHOLE_GPU:
        return resource, _WHOLE_GPU
    return (resource,)


def _map(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _list(parent: Mapping[str, Any], key: str) -> list[Any]:
    value = parent.get(key)
    return list(value) if isinstance(value, list | tuple) else []


def _with_node_labels(node_affinity: dict[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    ours = [{"key": key, "operator": "In", "values": [wanted[key]]} for key in sorted(wanted)]
    required = _map(node_affinity, _REQUIRED)
    terms = _list(required, "nodeSelectorTerms")
    # Terms are alternatives, so each has to ask for our labels; an empty one selects no node and stays as it is.
    merged = [
        {**term, "matchExpressions": [*_list(term, "matchExpressions"), *ours]} if term else term
        for term in terms
    ]
    return {
        **node_affinity,
        _REQUIRED: {**required, "nodeSelectorTerms": merged or [{"matchExpressions": ours}]},
    }


def _with_volume_users(pod_affinity: dict[str, Any], claim: str) -> dict[str, Any]:
    term = {
        "labelSelector": {"matchLabels": {VOLUME: claim_label_value(claim)}},
        "topologyKey": _HOSTNAME,
    }
    return {**pod_affinity, _REQUIRED: [*_list(pod_affinity, _REQUIRED), term]}
