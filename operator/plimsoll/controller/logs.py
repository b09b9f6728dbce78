"""The ends of pods' logs that the operator reads: the progress of a download, and why an engine ended.

Each is asked for at most every half minute; a node whose kubelet is not reached stops nothing. The termination
message alone would not do for an engine: it holds the last 2 KiB, and vLLM's parent process writes more than that
after the child has said why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.cluster.errors import ClusterError
from plimsoll.cluster.kinds import POD
from plimsoll.manifests import labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from plimsoll.cluster.client import ClusterClient, Object
    from plimsoll.controller.keys import Key

_logger = logging.getLogger(__name__)

LOG_SECONDS: Final = 30.0
LOG_TIMEOUT_SECONDS: Final = 3.0
PROGRESS_LINES: Final = 5
# A start-up that fails writes some 170 lines (20 KiB) with one process; each further rank adds its traceback.
ENGINE_LINES: Final = 300
ENGINE_BYTES: Final = 32768
# Replicas of one revision fail alike; the newest pods are those of the requested one.
_MAX_ENGINE_PODS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What was read last of one pod; `life` tells the container's lives apart."""

    pod: str
    life: tuple[str, int]
    at: float
    text: str | None


class PodLogs:
    """The ends of logs, kept until they can have changed."""

    def __init__(self, client: ClusterClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Read through the client."""
        self._client = client
        self._clock = clock
        self._progress: dict[Key, tuple[float, str | None]] = {}
        self._engines: dict[Key, tuple[_Read, ...]] = {}

    def forget(self, key: Key) -> None:
        """Drop what is kept of a ModelDeployment that is gone."""
        self._progress.pop(key, None)
        self._engines.pop(key, None)

    async def download(self, key: Key, objects: Sequence[Object]) -> str | None:
        """The end of the running download's log; None where none runs."""
        pod = next((item for item in objects if _is_running_download(item)), None)
        if pod is None:
            self._progress.pop(key, None)
            return None
        read_at, text = self._progress.get(key, (-LOG_SECONDS, None))
        if self._clock() - read_at < LOG_SECONDS:
            return text
        found = await self._tail(key, pod, lines=PROGRESS_LINES)
        text = text if found is None else found
        self._progress[key] = (self._clock(), text)
        return text

    async def engines(self, key: Key, objects: Sequence[Object]) -> dict[str, str]:
        """The ends of the logs of engines that ended, by the name of the pod."""
        ended = [item for item in objects if _ended_engine(item) is not None]
        failed = sorted(ended, key=_created, reverse=True)[:_MAX_ENGINE_PODS]
        if not failed:
            self._engines.pop(key, None)
            return {}
        known = {read.pod: read for read in self._engines.get(key, ())}
        reads = tuple([await self._engine(key, pod, known.get(pod["metadata"]["name"])) for pod in failed])
        self._engines[key] = reads
        return {read.pod: read.text for read in reads if read.text is not None}

    async def _engine(self, key: Key, pod: Object, last: _Read | None) -> _Read:
        """The log of the container's last life, read once for each life, and again where that failed."""
        metadata = pod["metadata"]
        restarts, previous = _ended_engine(pod) or (0, False)
        life = (str(metadata.get("uid") or ""), restarts)
        if last is not None:
            same = last.life == life and last.text is not None
            if same or (last.life[0] == life[0] and self._clock() - last.at < LOG_SECONDS):
                return last
        text = await self._tail(key, pod, lines=ENGINE_LINES, limit_bytes=ENGINE_BYTES, previous=previous)
        if text is None and last is not None and last.life[0] == life[0]:
            text = last.text
        return _Read(pod=metadata["name"], life=life, at=self._clock(), text=text)

    async def _tail(
        self, key: Key, pod: Object, *, lines: int, limit_bytes: int | None = None, previous: bool = False
    ) -> str | None:
        try:
            async with asyncio.timeout(LOG_TIMEOUT_SECONDS):
                return await self._client.tail_log(
                    pod["metadata"]["name"],
                    key.namespace,
                    num_lines=lines,
                    limit_bytes=limit_bytes,
                    previous=previous,
                )
        except (ClusterError, TimeoutError) as error:
            _logger.debug("%s", error, extra={"key": str(key)})
            return None


def _created(item: Object) -> str:
    return str(item["metadata"].get("creationTimestamp") or "")


def _component(item: Object) -> str | None:
    found: str | None = (item["metadata"].get("labels") or {}).get(labels.COMPONENT)
    return found


def _is_running_download(item: Object) -> bool:
    return (
        item["kind"] == POD.kind
        and _component(item) == labels.Component.DOWNLOAD
        and (item.get("status") or {}).get("phase") == "Running"
    )


def _ended_engine(item: Object) -> tuple[int, bool] | None:
    """How often the engine's container ended in error before, and whether that is its previous life; else None."""
    if item["kind"] != POD.kind or _component(item) != labels.Component.SERVER:
        return None
    if item["metadata"].get("deletionTimestamp") is not None:
        return None
    for status in (item.get("status") or {}).get("containerStatuses") or ():
        if status.get("ready"):
            continue
        now, before = _terminated(status, "state"), _terminated(status, "lastState")
        ended = now or before
        if ended and ended.get("exitCode"):
            return int(status.get("restartCount") or 0), not now
    return None


def _terminated(status: Mapping[str, Any], state: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (status.get(state) or {}).get("terminated") or {}
    return found
