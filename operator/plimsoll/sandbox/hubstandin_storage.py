"""The storage behind the Hub stand-in: another origin, which gives content by ranges and knows no token."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from plimsoll.sandbox.hubstandin_repos import StandInFile

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_TAG_LENGTH: Final = 32


@dataclass(slots=True, kw_only=True)
class Fault:
    """What to do instead of answering, or to the content on its way.

    Attributes:
        match: a part of the request's path, which holds the model's id and the file's path; "" for every request.
        status: answered instead; None for the ordinary answer.
        after: how many requests it lets pass before.
        times: how many requests it hits; None for all.
        delay_seconds: waited before the answer.
        cut_after_bytes: the connection is closed after so many bytes of a file.
        bytes_per_second: the content comes no faster.
        wrong_bytes: the content comes with its first byte changed.
        no_ranges: the content comes whole, whatever range is asked for.
    """

    match: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: int = 0
    times: int | None = None
    delay_seconds: float = 0.0
    cut_after_bytes: int | None = None
    bytes_per_second: int | None = None
    wrong_bytes: bool = False
    no_ranges: bool = False

    @property
    def of_content(self) -> bool:
        """Whether it acts on a file's bytes, rather than on a request."""
        return (
            self.cut_after_bytes is not None
            or self.bytes_per_second is not None
            or self.wrong_bytes
            or self.no_ranges
        )

    def take(self, path: str) -> bool:
        """Whether it hits this request; counts it."""
        if self.match not in path or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True, kw_only=True)
class Served:
    """The bytes of a file that one request got."""

    path: str
    start: int
    sent_bytes: int = 0


async def send_file(
    request: web.Request,
    file: StandInFile,
    headers: Mapping[str, str],
    *,
    faults: Sequence[Fault],
    served: list[Served],
    told: Callable[[Served], None] | None = None,
) -> web.StreamResponse:
    """Answer with a file or a range of it (RFC 9110: Range, If-Range, 206, 416).

    Args:
        request: what was asked.
        file: what is given; it has content.
        headers: of the answer.
        faults: of the content; those that hit are counted.
        served: the log of bytes, which gets one entry.
        told: called with the entry when the request has ended, also where the client has gone.
    """
    path = unquote(request.rel_url.raw_path)
    hits = [f for f in faults if request.method == "GET" and f.of_content and f.take(path)]
    tag = headers["ETag"]
    asked = None if any(fault.no_ranges for fault in hits) else _asked_range(request, tag, file.size_bytes)
    if asked is not None and asked[0] >= min(asked[1], file.size_bytes):
        return web.Response(status=416, headers={"Content-Range": f"bytes */{file.size_bytes}"})
    start, end = asked or (0, file.size_bytes)
    response = web.StreamResponse(
        status=200 if asked is None else 206, headers={**headers, "Accept-Ranges": "bytes"}
    )
    response.content_length = end - start
    if asked is not None:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    await response.prepare(request)
    if request.method == "GET":
        entry = Served(path=file.path, start=start)
        served.append(entry)
        try:
            with contextlib.suppress(ConnectionResetError):  # the client has gone
                await _Sender(request, response, hits, entry).send(file, start, end)
        finally:  # aiohttp cancels the handler of a connection that was closed
            if told is not None:
                told(entry)
    return response


def storage_tag(file: StandInFile) -> str:
    """The store's own ETag, which is not the Hub's hash."""
    return f'"{file.etag[::-1][:_TAG_LENGTH]}"'


def _asked_range(request: web.Request, tag: str, size_bytes: int) -> tuple[int, int] | None:
    """Start and end of the one range asked for; None for the whole file, as where If-Range names another."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or match.group(0) == "bytes=-" or request.headers.get("If-Range", tag) != tag:
        return None
    if not match[1]:
        return max(0, size_bytes - int(match[2])), size_bytes
    end = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
    return int(match[1]), end


class _Sender:
    """Sends content under faults, and counts what went out."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, faults: Sequence[Fault], entry: Served
    ) -> None:
        self._request = request
        self._response = response
        self._entry = entry
        self._cut = min((f.cut_after_bytes for f in faults if f.cut_after_bytes is not None), default=None)
        self._rate = min((f.bytes_per_second for f in faults if f.bytes_per_second is not None), default=None)
        self._spoil = any(fault.wrong_bytes for fault in faults)

    async def send(self, file: StandInFile, start: int, end: int) -> None:
        left = end - start
        for chunk in file.read(start):
            piece = chunk[:left]
            left -= len(piece)
            if self._spoil and piece:
                piece, self._spoil = bytes([piece[0] ^ 0xFF]) + piece[1:], False
            if not await self._write(piece) or left == 0:
                return

    async def _write(self, data: bytes) -> bool:
        """Send; False where the connection is cut by a fault."""
        step = len(data) if self._rate is None else max(1, self._rate // 10)
        for offset in range(0, len(data), step or 1):
            piece = data[offset : offset + step]
            room = None if self._cut is None else self._cut - self._entry.sent_bytes
            if room is not None and room < len(piece):
                await self._out(piece[:room])
                if self._request.transport is not None:
                    self._request.transport.close()
                return False
            await self._out(piece)
            if self._rate is not None:
                await asyncio.sleep(len(piece) / self._rate)
        return True

    async def _out(self, data: bytes) -> None:
        if data:
            await self._response.write(data)
            self._entry.sent_bytes += len(data)
