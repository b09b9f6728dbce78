"""The claim of the model volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plimsoll.api.spec import AccessMode
from plimsoll.manifests import labels
from plimsoll.manifests.names import volume_claim_name
from plimsoll.manifests.pod_template import metadata
from plimsoll.units import GIB, bytes_quantity, ceil_div, round_up

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context

# A file system keeps part of a volume for itself (ext4 by default 5 % for root and some 2 % for its inodes), and the
# downloader refuses to start without room for all files; a GiB more holds the test reports.
_OVERHEAD_PERCENT: Final = 10
_REPORTS_BYTES: Final = GIB


def volume_claim(ctx: Context) -> dict[str, Any] | None:
    """The PersistentVolumeClaim; None: the user named one of their own."""
    storage = ctx.storage
    if storage.existing_claim is not None:
        return None
    spec: dict[str, Any] = {
        "accessModes": [mode.value for mode in storage.access_modes or (AccessMode.READ_WRITE_ONCE,)],
        "resources": {"requests": {"storage": storage.size or bytes_quantity(needed_bytes(ctx))}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    about = metadata(ctx, volume_claim_name(ctx.name), labels.common(ctx.name))
    if storage.retain:
        del about["ownerReferences"]
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about, "spec": spec}


def needed_bytes(ctx: Context) -> int:
    """Room for the files of one commit, in whole GiB."""
    return volume_bytes(ctx.plan.download_bytes)


def volume_bytes(download_bytes: int) -> int:
    """Room for files of so many bytes, in whole GiB."""
    return round_up(ceil_div(download_bytes * (100 + _OVERHEAD_PERCENT), 100) + _REPORTS_BYTES, GIB)
