"""What one reconcile decided: children to apply and delete, the status to write, the events to post. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One child that has to go.

    Attributes:
        uid: a precondition, so that a child which was made anew in between stays; None: whatever has the name.
        propagation: Jobs deleted through the API orphan their pods unless it says otherwise.
    """

    api_version: str
    kind: str
    name: str
    uid: str | None = None
    propagation: Literal["Background", "Foreground", "Orphan"] = "Background"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A Deployment of an older revision that takes another number of replicas, through its scale subresource.

    What made its template is gone (the spec was edited since), so it cannot be applied anew: a server-side
    apply with the replicas alone would remove every field that is left out.
    """

    name: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A Kubernetes Event about the ModelDeployment; the note has at most 1,024 characters."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What has to be done, in this order: deletions, children, scales, one status write, events.

    Attributes:
        apply: whole manifests in stage order, for server-side apply.
        scale: see `Scale`.
        status: the whole status as JSON, or None when it is what it was.
        events: only what changed; empty when `status` is None. Post them after the status was written.
        requeue_after_seconds: when to look again although nothing reported a change; None: not needed.
    """

    apply: tuple[Manifest, ...] = ()
    delete: tuple[Deletion, ...] = ()
    scale: tuple[Scale, ...] = ()
    status: Manifest | None = None
    events: tuple[Event, ...] = ()
    requeue_after_seconds: float | None = None
