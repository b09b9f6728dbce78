"""What the sandbox's provisioner answers a claim: a volume with its topology, or why there is none. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROVISIONER: Final = "volumes.sandbox.plimsoll.dev"
BLOCK_CLASS: Final = "plimsoll-sandbox"
SHARED_CLASS: Final = "plimsoll-sandbox-rwx"

_HOSTNAME: Final = "kubernetes.io/hostname"
_ZONE: Final = "topology.kubernetes.io/zone"
_SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
_STORAGE_PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
_ONE_NODE_MODES: Final = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a claim gets no volume; with `reschedule` the scheduler is asked to select another node."""

    message: str
    reschedule: bool = False

    @property
    def annotation(self) -> str:
        """The annotation that holds the scheduler's selection."""
        return _SELECTED_NODE

    def event(self, claim: Mapping[str, Any]) -> dict[str, Any]:
        """The event that a real provisioner writes."""
        meta = claim["metadata"]
        return {
            "metadata": {"generateName": f"{meta['name'][:200]}.", "namespace": meta["namespace"]},
            "type": "Warning",
            "reason": "ProvisioningFailed",
            "message": self.message,
            "source": {"component": PROVISIONER},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
        }


def storage_objects() -> tuple[dict[str, Any], ...]:
    """The driver and the two storage classes; that of block volumes is the cluster's default."""
    return (
        # Simulated nodes mount nothing, so nothing has to be attached first.
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": PROVISIONER},
            "spec": {"attachRequired": False},
        },
        _storage_class(BLOCK_CLASS, "WaitForFirstConsumer", default=True),
        _storage_class(SHARED_CLASS, "Immediate", default=False),
    )


def is_ours(claim: Mapping[str, Any]) -> bool:
    """Whether a claim waits for this provisioner."""
    annotations = claim["metadata"].get("annotations") or {}
    return (
        annotations.get(_STORAGE_PROVISIONER) == PROVISIONER
        and not claim["spec"].get("volumeName")
        and not claim["metadata"].get("deletionTimestamp")
    )


def is_released(volume: Mapping[str, Any]) -> bool:
    """Whether a volume of ours has lost its claim and is to be deleted."""
    annotations = volume["metadata"].get("annotations") or {}
    return (
        annotations.get(_PROVISIONED_BY) == PROVISIONER
        and (volume.get("status") or {}).get("phase") == "Released"
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        and not volume["metadata"].get("deletionTimestamp")
    )


def answer(
    claim: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], folder: Path | None = None
) -> dict[str, Any] | Refusal | None:
    """The volume for a claim of ours, why there is none, or None: the scheduler has selected no node yet.

    Args:
        claim: waits for a volume.
        nodes: by name.
        folder: on a real node, where block volumes are folders of that node; None: nothing mounts them.
    """
    spec = claim["spec"]
    if spec.get("storageClassName") == SHARED_CLASS:
        return _volume(claim, SHARED_CLASS, zone=None)
    modes = set(spec.get("accessModes") or ())
    if not modes <= _ONE_NODE_MODES:
        return Refusal(
            message=f"{BLOCK_CLASS} makes block volumes, which one node can mount: access mode "
            f"{', '.join(sorted(modes - _ONE_NODE_MODES))} needs the storage class {SHARED_CLASS}"
        )
    selected = (claim["metadata"].get("annotations") or {}).get(_SELECTED_NODE)
    if selected is None:
        return None
    node = nodes.get(selected)
    if node is None:
        return Refusal(message=f"the selected node {selected} is gone", reschedule=True)
    if folder is not None:
        return _folder_volume(claim, selected, folder)
    return _volume(claim, BLOCK_CLASS, zone=node["metadata"]["labels"][_ZONE])


def folder_of(volume: Mapping[str, Any]) -> str | None:
    """The folder that a volume is; None where it is none."""
    return (volume["spec"].get("local") or {}).get("path")


def _storage_class(name: str, binding: str, *, default: bool) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": binding,
        "allowVolumeExpansion": True,
    }


def _folder_volume(claim: Mapping[str, Any], node: str, folder: Path) -> dict[str, Any]:
    volume = _volume(claim, BLOCK_CLASS, zone=None)
    del volume["spec"]["csi"]
    volume["spec"]["local"] = {"path": str(folder / volume["metadata"]["name"])}
    volume["spec"]["nodeAffinity"] = _only_where(_HOSTNAME, node)
    return volume


def _only_where(label: str, value: str) -> dict[str, Any]:
    term = {"key": label, "operator": "In", "values": [value]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}}


def _volume(claim: Mapping[str, Any], storage_class: str, *, zone: str | None) -> dict[str, Any]:
    meta, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{meta['uid']}"
    volume: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "storageClassName": storage_class,
            "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": PROVISIONER, "volumeHandle": name},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
        },
    }
    if zone is not None:
        volume["metadata"]["labels"] = {_ZONE: zone}
        volume["spec"]["nodeAffinity"] = _only_where(_ZONE, zone)
    return volume
