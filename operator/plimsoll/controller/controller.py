"""The loop around `reconcile`: events wake keys, workers run them, failures wait, and a slow resync misses nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import Reason
from plimsoll.cluster.errors import ClusterError, NotFoundError
from plimsoll.cluster.kinds import MODEL_DEPLOYMENT, NODE, RESOURCE_QUOTA
from plimsoll.controller.faults import FaultKind, judge
from plimsoll.controller.keys import CANARY, Key
from plimsoll.controller.watching import WATCHED
from plimsoll.controller.workqueue import QueueClosedError, WorkQueue
from plimsoll.manifests import labels
from plimsoll.manifests.names import label_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimsoll.cluster.apply import Applier
    from plimsoll.cluster.client import ClusterClient, Object, ObjectList
    from plimsoll.cluster.kinds import Kind
    from plimsoll.cluster.store import Store
    from plimsoll.controller.metrics import Metrics
    from plimsoll.controller.options import OperatorOptions
    from plimsoll.controller.reconciler import Reconciler

_logger = logging.getLogger(__name__)

# A burst of node events becomes one look at every ModelDeployment.
NODE_SETTLE_SECONDS: Final = 1.0
# Resyncs that may fail to get through before the process counts as stuck.
_MISSED_CANARIES: Final = 5
# Every request has its own limit; this one is for what nobody thought of, and frees the worker.
_RECONCILE_SECONDS: Final = 180.0
_CRD_RETRY_SECONDS: Final = 5.0
_CHILDREN_SELECTOR: Final = labels.MODEL_DEPLOYMENT


class Controller:
    """Keeps every ModelDeployment moving."""

    def __init__(
        self,
        *,
        client: ClusterClient,
        store: Store,
        reconciler: Reconciler,
        applier: Applier,
        metrics: Metrics,
        options: OperatorOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put the parts together; nothing runs yet."""
        self._client = client
        self._store = store
        self._reconciler = reconciler
        self._applier = applier
        self._metrics = metrics
        self._options = options
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._owners: dict[tuple[str, str], Key] = {}
        self._waits: dict[Key, Reason] = {}
        self._canary_at: float | None = None
        metrics.gauge("plimsoll_queue_depth", lambda: len(self.queue))
        metrics.gauge("plimsoll_queue_delayed", lambda: self.queue.num_delayed)
        metrics.gauge("plimsoll_reconciles_running", lambda: self.queue.num_running)
        metrics.gauge("plimsoll_known_objects", lambda: len(store))

    def saw(self, kind: Kind, item: Object, gone: bool) -> None:  # noqa: FBT001 - the shape of kopf's news
        """Take in one watch event, and wake what it concerns."""
        changed = self._store.remove(kind, item) if gone else self._store.put(kind, item)
        if _logger.isEnabledFor(logging.DEBUG):
            metadata = item["metadata"]
            name = f"{metadata.get('namespace') or ''}/{metadata['name']}"
            _logger.debug("saw", extra={"kind": kind.kind, "object": name, "gone": gone, "changed": changed})
        if changed:
            self._wake(kind, item)
        if gone and kind != MODEL_DEPLOYMENT:
            metadata = item["metadata"]
            self._applier.forget(kind, metadata.get("namespace") or "", metadata["name"])

    def problem(self) -> str | None:
        """Why the process should be restarted: work is queued and none gets done."""
        if self._canary_at is None:
            return None
        silent = self._clock() - self._canary_at
        if silent <= _MISSED_CANARIES * self._options.resync_seconds:
            return None
        return f"no reconcile has got through for {silent:.0f} s"

    async def fill(self) -> None:
        """Learn everything that is there before the first reconcile decides on it; waits for the CRD."""
        told = False
        while True:
            try:
                for kind in WATCHED:
                    self._take_in(kind, await self._list(kind))
            except NotFoundError:
                if not told:
                    _logger.warning(
                        "the cluster does not know modeldeployments.plimsoll.dev; install the CRD (crds/ or the chart)"
                    )
                    told = True
            except ClusterError as error:
                _logger.warning("%s; trying again", error)
            else:
                self._canary_at = self._clock()
                return
            await asyncio.sleep(_CRD_RETRY_SECONDS)

    async def work(self) -> None:
        """Run keys until the queue is closed."""
        while True:
            try:
                key = await self.queue.get()
            except QueueClosedError:
                return
            try:
                if key == CANARY:
                    self._canary_at = self._clock()
                else:
                    await self._run(key)
            finally:
                self.queue.done(key)

    async def resync(self) -> None:
        """Look at every ModelDeployment from time to time, and send the canary along."""
        while True:
            await asyncio.sleep(self._options.resync_seconds)
            for item in self._store.all(MODEL_DEPLOYMENT):
                self.queue.add(_key(item))
            self.queue.add(CANARY)

    async def relist(self) -> None:
        """Hold the watches against fresh lists from time to time: a watch can lose a deletion."""
        while True:
            await asyncio.sleep(self._options.relist_seconds)
            for kind in WATCHED:
                try:
                    self._take_in(kind, await self._list(kind))
                except ClusterError as error:
                    _logger.warning("%s; trying again in %g s", error, self._options.relist_seconds)

    async def _run(self, key: Key) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(_RECONCILE_SECONDS):
                outcome = await self._reconciler.reconcile(key)
        except Exception as error:  # noqa: BLE001 - every failure of a key is judged in one place, none ends the loop
            result = await self._failed(key, error)
        else:
            self.queue.forget(key)
            if outcome.waits_for is None:
                self._waits.pop(key, None)
            else:
                self._waits[key] = outcome.waits_for
            if outcome.applied:
                self.queue.add(key)
            elif outcome.requeue_after_seconds is not None:
                self.queue.add_after(key, outcome.requeue_after_seconds)
            result = "applied" if outcome.applied else "settled"
        seconds = self._clock() - began
        self._metrics.reconciled(result, seconds)
        _logger.debug("reconciled", extra={"key": str(key), "outcome": result, "seconds": round(seconds, 3)})

    async def _failed(self, key: Key, error: Exception) -> str:
        fault = judge(error)
        first = not self.queue.failures(key)
        extra = {"key": str(key)}
        match fault.kind:
            case FaultKind.BUG:
                _logger.error("%s", fault.sentence, exc_info=error, extra=extra)
            case FaultKind.STALE:
                _logger.debug("%s", fault.sentence, extra=extra)
            case _:
                _logger.warning("%s", fault.sentence, extra=extra)
        try:
            if fault.fresh_read:
                await self._reconciler.read_anew(key)
            if fault.tell_user and first:
                await self._reconciler.tell_user(key, fault.sentence)
        except ClusterError as again:
            _logger.warning("%s", again, extra=extra)
        self.queue.add_failed(key, at_least_seconds=fault.at_least_seconds)
        return fault.kind.value

    def _wake(self, kind: Kind, item: Object) -> None:
        metadata = item["metadata"]
        if kind == MODEL_DEPLOYMENT:
            key = _key(item)
            owner = (key.namespace, label_value(key.name))
            if self._store.get(kind, key.namespace, key.name) is None:
                self._owners.pop(owner, None)
            else:
                self._owners[owner] = key
            self.queue.add(key)
        elif kind == NODE:
            for known in self._store.all(MODEL_DEPLOYMENT):
                self.queue.add_after(_key(known), NODE_SETTLE_SECONDS)
        elif kind == RESOURCE_QUOTA:
            for waiting, reason in self._waits.items():
                if reason is Reason.QUOTA_EXCEEDED and waiting.namespace == metadata.get("namespace"):
                    self.queue.add(waiting)
        else:
            label = (metadata.get("labels") or {}).get(labels.MODEL_DEPLOYMENT)
            parent = self._owners.get((metadata.get("namespace") or "", str(label)))
            if parent is not None:
                self.queue.add(parent)

    def _take_in(self, kind: Kind, listed: ObjectList) -> None:
        for item in self._store.replace(kind, listed):
            self._wake(kind, item)

    async def _list(self, kind: Kind) -> ObjectList:
        ours = kind not in {MODEL_DEPLOYMENT, NODE, RESOURCE_QUOTA}
        return await self._client.list(
            kind,
            self._options.namespace if kind.namespaced else None,
            label_selector=_CHILDREN_SELECTOR if ours else None,
        )


def _key(item: Object) -> Key:
    return Key(item["metadata"]["namespace"], item["metadata"]["name"])
