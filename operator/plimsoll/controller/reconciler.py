"""`reconcile(key)`: read the present state, compute the whole of what should be, write what differs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from plimsoll.api.conditions import Reason
from plimsoll.api.spec import ModelDeployment
from plimsoll.api.status import ModelDeploymentStatus
from plimsoll.cluster.errors import NotFoundError
from plimsoll.cluster.kinds import CLAIM, CONFIG_MAP, CORE_EVENT, MODEL_DEPLOYMENT
from plimsoll.controller.logs import PodLogs
from plimsoll.manifests.names import label_value
from plimsoll.reconcile.decide import decide
from plimsoll.reconcile.decision import Event
from plimsoll.reconcile.measured import engine_to_read
from plimsoll.reconcile.observed import observe, references
from plimsoll.reconcile.outcome import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from plimsoll.cluster.client import ClusterClient, Object
    from plimsoll.cluster.store import Store
    from plimsoll.controller.executor import Executor
    from plimsoll.controller.keys import Key
    from plimsoll.controller.measuring import Measuring
    from plimsoll.controller.metrics import Metrics
    from plimsoll.controller.sizer import Sizer
    from plimsoll.manifests.context import Settings
    from plimsoll.reconcile.observed import Observed

_logger = logging.getLogger(__name__)

# What the user names and we do not watch: a Secret (its label is asked for by name, see cluster/secrets.py:
# a watch would need the right to read all of them), an existing claim, a suite of tests.
POLL_SECONDS: Final = 10.0
_REFERENCED: Final = {CLAIM.kind: CLAIM, CONFIG_MAP.kind: CONFIG_MAP}
_POLLED_REASONS: Final = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_NOT_USABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a reconcile came to.

    Attributes:
        waits_for: the reason of `Sized`, where it waits for something outside.
        requeue_after_seconds: when to look again although nothing is reported.
        applied: whether a child was written, so that another pass has to look at what came of it.
    """

    waits_for: Reason | None = None
    requeue_after_seconds: float | None = None
    applied: bool = False


class Reconciler:
    """Brings one ModelDeployment to where its spec says; any number of them at a time, each key once."""

    def __init__(
        self,
        *,
        client: ClusterClient,
        store: Store,
        sizer: Sizer,
        executor: Executor,
        measuring: Measuring,
        metrics: Metrics,
        settings: Settings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Put the two halves together."""
        self._client = client
        self._store = store
        self._sizer = sizer
        self._executor = executor
        self._measuring = measuring
        self._metrics = metrics
        self._settings = settings
        self._now = now
        self._logs = PodLogs(client)

    async def reconcile(self, key: Key) -> Outcome:
        """One pass.

        Raises:
            ClusterError: the API server did not answer, or said no.
        """
        body = self._store.get(MODEL_DEPLOYMENT, key.namespace, key.name)
        if body is None or body["metadata"].get("deletionTimestamp") is not None:
            # The children have owner references: they are collected without our doing.
            self._logs.forget(key)
            self._measuring.forget(key)
            self._metrics.plan_error(key.namespace, key.name, None)
            return Outcome()
        try:
            deployment = ModelDeployment.from_object(body)
        except ValidationError as error:
            return await self._report_unreadable(key, body, error)
        previous = _status(body)
        sized = await self._sizer.size(deployment, previous)
        objects, missing = await self._objects(key, deployment)
        observed = observe(
            objects,
            progress_log=await self._logs.download(key, objects),
            engine_logs=await self._logs.engines(key, objects),
            engine=self._measuring.report(key),
        )
        decision = decide(deployment, previous, sized, observed, self._settings, self._now())
        applied = await self._executor.carry_out(deployment, body, decision)
        self._measure(key, deployment, observed, decision.status or body.get("status") or {})
        waits_for = sized.reason if isinstance(sized, Waiting) else None
        polled = missing or waits_for in _POLLED_REASONS
        waits = [decision.requeue_after_seconds, POLL_SECONDS if polled else None]
        requeue = min((seconds for seconds in waits if seconds is not None), default=None)
        return Outcome(waits_for=waits_for, requeue_after_seconds=requeue, applied=applied)

    def _measure(
        self, key: Key, deployment: ModelDeployment, observed: Observed, status: Mapping[str, Any]
    ) -> None:
        """Export the plan's error; read the engine that is up, if the status has nothing of it yet."""
        measured = status.get("measured")
        self._metrics.plan_error(key.namespace, key.name, (measured or {}).get("errorPercent"))
        if measured is not None:
            self._measuring.forget(key)
            return
        revision = (status.get("revision") or {}).get("hash")
        self._measuring.look(key, engine_to_read(deployment, revision, observed))

    async def tell_user(self, key: Key, sentence: str) -> None:
        """Post a warning about a failure that the user or an administrator has to mend."""
        body = self._store.get(MODEL_DEPLOYMENT, key.namespace, key.name)
        if body is None:
            return
        event = Event(type="Warning", reason="ApplyFailed", message=sentence)
        await self._executor.post(key.namespace, body, event)

    async def read_anew(self, key: Key) -> None:
        """Take the ModelDeployment from the API server: what the watch told is behind."""
        try:
            self._store.put(
                MODEL_DEPLOYMENT, await self._client.get(MODEL_DEPLOYMENT, key.name, key.namespace)
            )
        except NotFoundError:
            known = self._store.get(MODEL_DEPLOYMENT, key.namespace, key.name)
            if known is not None:
                self._store.remove(MODEL_DEPLOYMENT, known)

    async def _objects(self, key: Key, deployment: ModelDeployment) -> tuple[list[Object], bool]:
        """Our children, and the user's objects that the spec names; whether one of those is missing."""
        objects = list(self._store.children(key.namespace, label_value(key.name)))
        missing = False
        for kind_name, name in references(deployment.spec):
            kind = _REFERENCED[kind_name]
            try:
                found = await self._client.get(kind, name, key.namespace)
            except NotFoundError:
                missing = True
                continue
            objects.append({"apiVersion": kind.api_version, "kind": kind.kind, **found})
        objects += await self._claim_events(key, objects)
        return objects, missing

    async def _claim_events(self, key: Key, objects: list[Object]) -> list[Object]:
        """What Kubernetes says about a volume that does not come."""
        found: list[Object] = []
        for item in objects:
            if item["kind"] == CLAIM.kind and (item.get("status") or {}).get("phase") != "Bound":
                name = item["metadata"]["name"]
                selector = f"involvedObject.kind={CLAIM.kind},involvedObject.name={name}"
                listed = await self._client.list(CORE_EVENT, key.namespace, field_selector=selector)
                found += listed.items
        return found

    async def _report_unreadable(self, key: Key, body: Object, error: ValidationError) -> Outcome:
        """A spec that the schema would refuse today, stored before it did."""
        text = "; ".join(
            f"spec.{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
        )
        sentence = f"{text}; correct the spec, or delete the ModelDeployment."
        _logger.warning("%s", sentence, extra={"key": str(key)})
        if (body.get("status") or {}).get("observedGeneration") != body["metadata"].get("generation"):
            await self._executor.write_invalid(body, sentence, self._now())
            await self.tell_user(key, sentence)
        return Outcome(waits_for=Reason.INVALID_SPEC)


def _status(body: Object) -> ModelDeploymentStatus:
    try:
        return ModelDeploymentStatus.model_validate(body.get("status") or {})
    except ValidationError:
        # Written by another version: everything in it can be computed again.
        return ModelDeploymentStatus()
