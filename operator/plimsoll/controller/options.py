"""What the operator's process is started with: made once by the command line, and passed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from plimsoll.manifests.context import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorOptions:
    """The operator's settings.

    Attributes:
        settings: images and the Hub; the webhook has the same, or the two would come to other plans.
        kubeconfig: None: the service account of the pod.
        namespace: the only one that is watched; None: all of them.
        lease_namespace: where the Lease of the leader election is.
        liveness_port, metrics_port: None: not served.
        num_workers: reconciles at a time.
        resync_seconds: how often every ModelDeployment is looked at although nothing was reported.
        relist_seconds: how often the watches are checked against fresh lists.
    """

    settings: Settings
    lease_namespace: str
    kubeconfig: Path | None = None
    namespace: str | None = None
    liveness_port: int | None = None
    metrics_port: int | None = None
    num_workers: int = 10
    resync_seconds: float = 60.0
    relist_seconds: float = 300.0
