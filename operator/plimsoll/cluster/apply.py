"""Children by server-side apply, and only when something would come of it.

A manifest that was applied, and whose fields still stand in the cluster as that apply left them, is not sent
again: a reconcile with nothing to change writes nothing. A field that somebody edited, or a child that
somebody deleted, differs from what the apply left, and so is applied once more.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from plimsoll.cluster.errors import ClusterError, NotFoundError, RejectedError
from plimsoll.cluster.kinds import CLAIM, JOB, kind_of
from plimsoll.manifests import labels

if TYPE_CHECKING:
    from plimsoll.cluster.client import ClusterClient, Object
    from plimsoll.cluster.kinds import Kind
    from plimsoll.cluster.store import Store

_logger = logging.getLogger(__name__)

# Their specs are fixed once made: a Job is replaced under another name, a claim keeps what it was made with.
_FIXED_ONCE_MADE = frozenset({JOB, CLAIM})


class ForeignObjectError(ClusterError):
    """The name of a child is taken by an object that is not this ModelDeployment's."""


class _Applied(NamedTuple):
    wanted: str
    left: Any


class Applier:
    """Applies manifests and remembers what came of it."""

    def __init__(self, client: ClusterClient, store: Store) -> None:
        """Write through the client, compare with the store, feed it the answers."""
        self._client = client
        self._store = store
        self._applied: dict[tuple[Kind, str, str], _Applied] = {}

    async def apply(self, manifest: Object) -> bool:
        """Make the cluster say what the manifest says; False if it did already and nothing was sent.

        Raises:
            ForeignObjectError: an object of that name belongs to somebody else.
            ClusterError: the API server said no, or nothing.
        """
        kind = kind_of(manifest)
        metadata = manifest["metadata"]
        key = (kind, str(metadata.get("namespace") or ""), str(metadata["name"]))
        live = self._store.get(kind, key[1], key[2])
        wanted = _digest(manifest)
        why = self._why(live, manifest, self._applied.get(key), wanted)
        if why is None:
            return False
        _logger.info("applying", extra={"kind": kind.kind, "object": f"{key[1]}/{key[2]}", "why": why})
        await self._refuse_foreign(kind, manifest, live)
        try:
            answer = await self._client.apply(kind, manifest)
        except RejectedError:
            if live is None or kind not in _FIXED_ONCE_MADE:
                raise
            answer = live
        self._store.put(kind, answer)
        self._applied[key] = _Applied(wanted, projection(answer, manifest))
        return True

    def forget(self, kind: Kind, namespace: str, name: str) -> None:
        """Drop what is remembered of an object that is gone."""
        self._applied.pop((kind, namespace, name), None)

    @staticmethod
    def _why(live: Object | None, manifest: Object, applied: _Applied | None, wanted: str) -> str | None:
        """Why the manifest has to be sent; None: it need not be."""
        if live is None:
            return "it is not there"
        if applied is None:
            return "this process has not applied it yet"
        if applied.wanted != wanted:
            return "what is wanted changed"
        path = first_difference(applied.left, projection(live, manifest))
        return None if path is None else f"{path} was changed by somebody else"

    async def _refuse_foreign(self, kind: Kind, manifest: Object, live: Object | None) -> None:
        """Server-side apply would quietly take over any object of the name: look whose it is first."""
        metadata = manifest["metadata"]
        if live is None:
            try:
                live = await self._client.get_metadata(kind, metadata["name"], metadata.get("namespace"))
            except NotFoundError:
                return
        ours, theirs = _controller(manifest), _controller(live)
        if ours == theirs or (theirs is None and _same_owner_label(manifest, live)):
            return
        raise ForeignObjectError(
            f"{kind.kind} {metadata.get('namespace')}/{metadata['name']} exists and is not this ModelDeployment's: "
            "delete it, or give the ModelDeployment another name"
        )


def projection(live: Any, manifest: Any) -> Any:
    """The part of a live object that a manifest speaks of: its keys, and lists as a whole."""
    if isinstance(manifest, dict):
        if not isinstance(live, dict):
            return live
        return {key: projection(live.get(key), value) for key, value in manifest.items()}
    return live


def first_difference(before: Any, now: Any) -> str | None:
    """The path of the first field that differs ("spec.replicas"); None: nothing does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            found = first_difference(before.get(key), now.get(key))
            if found is not None:
                return f"{key}.{found}".rstrip(".")
        return None
    return None if before == now else ""


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _controller(item: Object) -> str | None:
    for owner in item["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner.get("uid"))
    return None


def _same_owner_label(manifest: Object, live: Object) -> bool:
    """A retained volume has no owner, only the label: a new ModelDeployment of the name takes it up."""
    ours = (manifest["metadata"].get("labels") or {}).get(labels.MODEL_DEPLOYMENT)
    theirs = (live["metadata"].get("labels") or {}).get(labels.MODEL_DEPLOYMENT)
    return ours is not None and ours == theirs
