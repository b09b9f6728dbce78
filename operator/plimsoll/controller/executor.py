"""The second half of a reconcile: carry out a Decision, in its order, and nothing of the domain."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from plimsoll import api
from plimsoll.api.conditions import Reason
from plimsoll.api.status import Condition
from plimsoll.cluster.errors import ClusterError, ConflictError, NamespaceEndingError, NotFoundError
from plimsoll.cluster.kinds import DEPLOYMENT, EVENT, MODEL_DEPLOYMENT, kind_of

if TYPE_CHECKING:
    from plimsoll.api.spec import ModelDeployment
    from plimsoll.cluster.apply import Applier
    from plimsoll.cluster.client import ClusterClient, Object
    from plimsoll.cluster.store import Store
    from plimsoll.controller.metrics import Metrics
    from plimsoll.reconcile.decision import Decision, Deletion, Event

_logger = logging.getLogger(__name__)

REPORTING_CONTROLLER: Final = "plimsoll.dev/operator"
_MAX_NOTE_LENGTH: Final = 1024


class Executor:
    """Writes to the cluster what was decided."""

    def __init__(
        self, *, client: ClusterClient, store: Store, applier: Applier, metrics: Metrics, identity: str
    ) -> None:
        """Write through the client, and keep the store as new as the answers."""
        self._client = client
        self._store = store
        self._applier = applier
        self._metrics = metrics
        self._identity = identity

    async def carry_out(self, deployment: ModelDeployment, body: Object, decision: Decision) -> bool:
        """Deletions, children in stage order, scales, one status write, then events; True if a child was applied.

        What an apply answers is in the store at once, and so no news when the watch tells it: a pass that applied
        something has to be followed by another that looks at it.

        Raises:
            ClusterError: one of them failed; what comes after it was not done, and is done the next time.
        """
        applied = False
        for deletion in decision.delete:
            await self._delete(deployment.namespace, deletion)
        for manifest in decision.apply:
            applied |= await self._applier.apply(manifest)
        for scale in decision.scale:
            await self._client.scale(DEPLOYMENT, scale.name, deployment.namespace, scale.replicas)
        if decision.status is not None:
            await self._write_status(body, decision.status)
        for event in decision.events:
            await self.post(deployment.namespace, body, event)
        return applied

    async def post(self, namespace: str, body: Object, event: Event) -> None:
        """Post one event about a ModelDeployment; one that cannot be posted is not worth a retry: the status says it."""
        now = datetime.now(UTC)
        metadata = body["metadata"]
        name = metadata["name"]
        unique = hashlib.blake2b(f"{metadata.get('uid')}{event}{now}".encode(), digest_size=8).hexdigest()
        # An event's name may be as long as the object's, but not longer than any name.
        manifest = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": f"{name[:230].rstrip('.-')}.{unique}", "namespace": namespace},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._identity[:128],
            "type": event.type,
            "reason": event.reason[:128],
            "action": "Reconcile",
            "note": event.message[:_MAX_NOTE_LENGTH],
            "regarding": {
                "apiVersion": api.API_VERSION,
                "kind": api.KIND,
                "name": name,
                "namespace": namespace,
                "uid": metadata.get("uid"),
            },
        }
        try:
            await self._client.create(EVENT, manifest)
        except ClusterError as error:
            level = logging.DEBUG if isinstance(error, NamespaceEndingError) else logging.WARNING
            _logger.log(level, "%s", error)

    async def write_invalid(self, body: Object, sentence: str, now: datetime) -> None:
        """Say in the status that the spec cannot be read; the rest of the status stands."""
        generation = int(body["metadata"].get("generation") or 0)
        status = dict(body.get("status") or {})
        old = {one.get("type"): one for one in status.get("conditions") or ()}
        for kind, word in (("Sized", "False"), ("Ready", "False"), ("Stalled", "True")):
            since = now.strftime("%Y-%m-%dT%H:%M:%SZ")
            if old.get(kind, {}).get("status") == word:
                since = old[kind].get("lastTransitionTime") or since
            old[kind] = Condition(
                type=kind,
                status="True" if word == "True" else "False",
                reason=Reason.INVALID_SPEC,
                message=sentence,
                observed_generation=generation,
                last_transition_time=since,
            ).to_json()
        old.pop("Reconciling", None)
        status |= {"observedGeneration": generation, "conditions": list(old.values())}
        await self._write_status(body, status)

    async def _delete(self, namespace: str, deletion: Deletion) -> None:
        kind = kind_of({"apiVersion": deletion.api_version, "kind": deletion.kind})
        options: Object = {"propagationPolicy": deletion.propagation}
        if deletion.uid is not None:
            options["preconditions"] = {"uid": deletion.uid}
        try:
            await self._client.delete(kind, deletion.name, namespace, options)
        except NotFoundError:
            pass  # gone already
        except ConflictError:
            if deletion.uid is None:
                raise
            # Another object has the name by now: what had to go is gone.
        self._applier.forget(kind, namespace, deletion.name)

    async def _write_status(self, body: Object, status: Object) -> None:
        metadata = body["metadata"]
        written = await self._client.write_status(
            MODEL_DEPLOYMENT,
            {
                **body,
                "metadata": {
                    name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")
                },
                "status": status,
            },
        )
        _logger.debug("wrote the status", extra={"object": f"{metadata['namespace']}/{metadata['name']}"})
        self._metrics.status_written()
        self._store.put(MODEL_DEPLOYMENT, written)
