"""Reading an engine's /metrics and /version, in its pod: bounded in time and in bytes."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Final

import aiohttp

from plimsoll.manifests.context import SERVED_PORT
from plimsoll.reconcile.measured import (
    EngineReport,
    ReportError,
    parse_cache_config,
    parse_version_answer,
)

if TYPE_CHECKING:
    from plimsoll.reconcile.measured import Engine

READ_SECONDS: Final = 3.0
# vLLM 0.32.0 answers with some 50 kB on a model without requests, and a few hundred with adapters and ranks.
MAX_METRICS_BYTES: Final = 4 * 2**20
_MAX_VERSION_BYTES: Final = 4096
_OK: Final = 200


class EngineSilentError(Exception):
    """No answer: nothing listens there, or not in time."""


async def read_engine(
    engine: Engine, *, port: int = SERVED_PORT, seconds: float = READ_SECONDS
) -> EngineReport:
    """Ask one engine what it measured.

    Raises:
        EngineSilentError: it did not answer.
        ReportError: it answered with something else than a report.
    """
    try:
        address = ipaddress.ip_address(engine.address)
        host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            metrics = await _get(session, f"http://{host}:{port}/metrics", MAX_METRICS_BYTES)
            version = await _version(session, f"http://{host}:{port}/version")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        if isinstance(error, ReportError):
            raise
        raise EngineSilentError(f"{engine.address}: {type(error).__name__}: {error}") from error
    return EngineReport(revision=engine.revision, cache=parse_cache_config(metrics), version=version)


async def _version(session: aiohttp.ClientSession, url: str) -> str | None:
    """The release; an engine that does not say it is no worse for that."""
    try:
        return parse_version_answer(await _get(session, url, _MAX_VERSION_BYTES))
    except ReportError:
        return None


async def _get(session: aiohttp.ClientSession, url: str, limit_bytes: int) -> str:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != _OK:
            raise ReportError(f"{url} answered {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            body += chunk
            if len(body) > limit_bytes:
                raise ReportError(f"{url} answered with more than {limit_bytes} bytes")
    return body.decode("utf-8", errors="replace")
