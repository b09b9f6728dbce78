"""One leader at a time, by a Lease; whatever ends the leadership ends the process.

The Lease is written with its resourceVersion, so of two candidates one fails. Whether it is held is judged
by how long its record has stood still on our own clock: clocks of machines are never compared. A leader that
could not renew for `renew_deadline_seconds` gives up, well before `duration_seconds` after which another may
take over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from plimsoll.cluster.errors import ClusterError, NotFoundError
from plimsoll.cluster.kinds import LEASE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plimsoll.cluster.client import ClusterClient, Object

_logger = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """The Lease could not be renewed in time, or somebody else holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a Lease is held.

    Attributes:
        name, namespace: of the Lease.
        identity: who we are; unique among all that may ever lead.
        duration_seconds: how long after its last renewal a Lease counts as held.
        renew_deadline_seconds: how long a leader goes on without a renewal.
        retry_seconds: between two attempts.
    """

    name: str
    namespace: str
    identity: str
    duration_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0


class Election:
    """One candidate."""

    def __init__(
        self,
        client: ClusterClient,
        terms: Terms,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Stand for election with a client, the terms, and a clock that never goes back."""
        self._client = client
        self._terms = terms
        self._clock = clock
        self._sleep = sleep
        self._observed: tuple[Any, float] | None = None
        self._held: Object | None = None

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        waiting_for: str | None = None
        while True:
            try:
                holder = await self._try()
            except ClusterError as error:
                _logger.warning("%s; trying again in %g s", error, self._terms.retry_seconds)
            else:
                if holder is None:
                    _logger.info("leading as %s", self._terms.identity)
                    return
                if holder != waiting_for:
                    _logger.info("waiting for the Lease: %s leads", holder)
                    waiting_for = holder
            await self._sleep(self._terms.retry_seconds)

    async def renew(self) -> None:
        """Keep the Lease for as long as we can; never returns.

        Raises:
            LeadershipLostError: that came to an end.
        """
        renewed = self._clock()
        while True:
            await self._sleep(self._terms.retry_seconds)
            left = renewed + self._terms.renew_deadline_seconds - self._clock()
            try:
                # A request that hangs must not outlive the deadline: another may lead by then.
                holder = await asyncio.wait_for(self._try(), max(left, 0.001))
            except (ClusterError, TimeoutError) as error:
                if self._clock() - renewed >= self._terms.renew_deadline_seconds:
                    raise LeadershipLostError(
                        f"the Lease was not renewed for {self._terms.renew_deadline_seconds:g} s: {error}"
                    ) from error
                continue
            if holder is not None:
                raise LeadershipLostError(f"{holder} took the Lease")
            renewed = self._clock()

    async def release(self) -> None:
        """Give the Lease up, so that the next one need not wait for it to run out; never raises."""
        if self._held is None:
            return
        spec = {**self._held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._client.replace(LEASE, {**self._held, "spec": spec})
        except ClusterError as error:
            _logger.warning("the Lease was not released and runs out by itself: %s", error)
        self._held = None

    async def _try(self) -> str | None:
        """Take or renew the Lease; gives who holds it instead, or None if it is ours.

        Raises:
            ClusterError: no answer, or another candidate was faster.
        """
        terms = self._terms
        try:
            lease = await self._client.get(LEASE, terms.name, terms.namespace)
        except NotFoundError:
            lease = None
        if lease is not None:
            holder = self._holder(lease)
            if holder is not None and holder != terms.identity:
                self._held = None
                return holder
        record = self._record(lease)
        write = self._client.create if lease is None else self._client.replace
        self._held = await write(LEASE, record)
        return None

    def _holder(self, lease: Object) -> str | None:
        """Who holds the Lease at this moment, as far as we can tell; None: it is free."""
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or None
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        now = self._clock()
        if self._observed is None or self._observed[0] != record:
            self._observed = (record, now)
        stood_still = now - self._observed[1]
        duration = spec.get("leaseDurationSeconds") or self._terms.duration_seconds
        return None if stood_still >= duration else holder

    def _record(self, lease: Object | None) -> Object:
        terms, now = self._terms, _now()
        spec = dict((lease or {}).get("spec") or {})
        if spec.get("holderIdentity") != terms.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (lease is not None)
        spec |= {
            "holderIdentity": terms.identity,
            "leaseDurationSeconds": terms.duration_seconds,
            "renewTime": now,
        }
        base = lease or {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": terms.name, "namespace": terms.namespace},
        }
        return {**base, "spec": spec}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
