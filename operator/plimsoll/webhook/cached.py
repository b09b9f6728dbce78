"""What admission needs of the cluster, read at most every few seconds: requests come in bursts and must be quick."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from plimsoll.cluster.kinds import LIMIT_RANGE, NODE, RESOURCE_QUOTA

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimsoll.cluster.client import ClusterClient, Object
    from plimsoll.cluster.kinds import Kind

FRESH_SECONDS: Final = 10.0
_MAX_ENTRIES: Final = 256


class CachedReads:
    """Lists of nodes, quotas and limit ranges; one request at a time for each."""

    def __init__(self, client: ClusterClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read through the client."""
        self._client = client
        self._clock = clock
        self._lists: dict[tuple[Kind, str | None], tuple[float, tuple[Object, ...]]] = {}
        self._locks: dict[tuple[Kind, str | None], asyncio.Lock] = {}

    async def nodes(self) -> tuple[Object, ...]:
        """Every node."""
        return await self._list(NODE, None)

    async def quotas(self, namespace: str) -> tuple[Object, ...]:
        """The ResourceQuotas of a namespace."""
        return await self._list(RESOURCE_QUOTA, namespace)

    async def limit_ranges(self, namespace: str) -> tuple[Object, ...]:
        """The LimitRanges of a namespace."""
        return await self._list(LIMIT_RANGE, namespace)

    async def _list(self, kind: Kind, namespace: str | None) -> tuple[Object, ...]:
        key = (kind, namespace)
        async with self._locks.setdefault(key, asyncio.Lock()):
            found = self._lists.get(key)
            now = self._clock()
            if found is not None and now - found[0] < FRESH_SECONDS:
                return found[1]
            items = (await self._client.list(kind, namespace)).items
            if len(self._lists) >= _MAX_ENTRIES:
                self._lists = {
                    kept: entry for kept, entry in self._lists.items() if now - entry[0] < FRESH_SECONDS
                }
                self._locks = {
                    kept: lock for kept, lock in self._locks.items() if lock.locked() or kept in self._lists
                }
            self._lists[key] = (now, items)
            return items
