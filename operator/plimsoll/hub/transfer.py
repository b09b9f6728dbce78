"""Bytes of one repository's files over HTTP, by ranges: retried, renewed when a signed address has expired.

The token goes to the Hub only, never to the host that the Hub redirects to for content.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from plimsoll import __version__
from plimsoll.hub.checks import WrongBytesError
from plimsoll.hub.client import LIBRARY
from plimsoll.hub.errors import HubProblem, problem
from plimsoll.hub.ranges import Span
from plimsoll.hub.translate import EXPECTED_ERRORS, host_of, storage_refusal, translate
from plimsoll.reconcile.sources import HubFailureKind
from plimsoll.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

    from plimsoll.hub.retries import Retries

_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class StoppedError(Exception):
    """Something else has failed: this transfer need not go on."""


class NoRangesError(Exception):
    """The host gives the file from its beginning only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where files come from."""

    endpoint: str
    model_id: str
    commit: str
    token: str | None


class RemoteFile:
    """One file at the Hub, and the address where its content is now."""

    def __init__(self, path: str, size_bytes: int) -> None:
        """Name it, with the size that the Hub lists."""
        self.path = path
        self.size_bytes = size_bytes
        self.lock = threading.Lock()
        self.address: str | None = None
        self.etag: str | None = None  # by which the Hub names the content
        self.tag: str | None = None  # the strong ETag of the content at that address


class Transfer:
    """Fetches spans of files; may be used from any number of threads."""

    def __init__(
        self,
        repository: Repository,
        retries: Retries,
        *,
        stop: threading.Event,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """Set what to fetch from.

        Args:
            repository: where files come from.
            retries: how often and after what wait.
            stop: set when all transfers are to end.
            pause: waits so many seconds; unset: until then or until `stop` is set.
        """
        self._repository = repository
        self._retries = retries
        self._stop = stop
        self._pause = pause or stop.wait
        self._not_limited = threading.Event()
        self._not_limited.set()

    def end(self) -> None:
        """End every transfer: the download has failed."""
        self._stop.set()

    @property
    def tries(self) -> int:
        """How often a request that brings nothing is made."""
        return self._retries.tries

    def fetch(self, file: RemoteFile, span: Span, write: Callable[[int, bytes], None]) -> None:
        """Fetch a span; `write` gets an offset and the bytes that belong there, in order.

        Raises:
            HubProblem: it did not come, however often it was asked for.
            WrongBytesError: the file at the Hub has another size.
            NoRangesError: it can only be had from its beginning.
            StoppedError: `stop` was set.
        """
        reached, failures = span.start, 0
        while reached < span.end:
            before = reached
            try:
                for data in self._stream(file, Span(start=reached, end=span.end)):
                    write(reached, data)
                    reached += len(data)
                failure = None if reached > before else self.nothing_came(file)
            except HubProblem as error:
                failure = error
            except EXPECTED_ERRORS as error:
                failure = self._explained(error)
            if failure is not None:
                # What brings bytes is not failing: a connection that breaks every few megabytes gets there.
                failures = 1 if reached > before else failures + 1
                self._wait(failures, failure)

    def _stream(self, file: RemoteFile, span: Span) -> Iterator[bytes]:
        address = self._address(file)
        headers = self._headers(file, address, span)
        left = span.size_bytes
        timeout = self._retries.stall_seconds
        with get_session().stream("GET", address, headers=headers, timeout=timeout) as response:
            self._check_answer(file, response, span)
            for data in response.iter_raw():  # as it comes: of a connection that breaks, no byte is lost
                self._go_on()
                yield data[:left]
                left -= len(data[:left])
                if left == 0:
                    return

    def _headers(self, file: RemoteFile, address: str, span: Span) -> dict[str, str]:
        token = self._repository.token if self._is_hub(address) else None
        headers: dict[str, str] = build_hf_headers(
            token=token or False, library_name=LIBRARY, library_version=__version__
        )
        headers["Accept-Encoding"] = "identity"
        if span.size_bytes < file.size_bytes:
            headers["Range"] = f"bytes={span.start}-{span.end - 1}"
            if file.tag is not None:
                headers["If-Range"] = file.tag
        return headers

    def _check_answer(self, file: RemoteFile, response: httpx2.Response, span: Span) -> None:
        """Take only an answer that holds the file's bytes from the span's start on."""
        status = response.status_code
        if status == _PARTIAL:
            told = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if told is None or int(told[1]) != span.start:
                raise NoRangesError
            self._check_size(file, told[3])
        elif status == _OK:
            self._check_size(file, response.headers.get("Content-Length", "*"))
            if span.size_bytes < file.size_bytes:
                raise NoRangesError
        elif status == _UNSATISFIABLE:
            self._check_size(file, response.headers.get("Content-Range", "").rpartition("/")[2] or "0")
            raise NoRangesError
        else:
            self._refuse(file, response)
        tag = response.headers.get("ETag", "")
        if file.tag is None and tag.startswith('"'):
            file.tag = tag

    def _check_size(self, file: RemoteFile, told: str) -> None:
        if told.isdigit() and int(told) != file.size_bytes:
            raise WrongBytesError(
                f"{file.path} of {self._repository.model_id} at {self._repository.commit[:12]} is listed with "
                f"{file.size_bytes} bytes ({format_size(file.size_bytes)}) and {told} were offered: check that no proxy "
                "answers in the Hub's place, or name another revision."
            )

    def _refuse(self, file: RemoteFile, response: httpx2.Response) -> None:
        if not self._is_hub(str(response.url)):
            file.address = None  # signed addresses expire: the next try asks the Hub for a new one
            raise storage_refusal(response, file.path)
        response.read()
        hf_raise_for_status(response)
        raise self.nothing_came(file)

    def nothing_came(self, file: RemoteFile) -> HubProblem:
        """The failure for answers without bytes."""
        return problem(
            HubFailureKind.UNREACHABLE,
            f"{host_of(self._repository.endpoint)} gave no bytes of {file.path}: it is tried again by itself; if it stays "
            "so, check the proxy.",
        )

    def _address(self, file: RemoteFile) -> str:
        """Where the content is; asked once, and again after a refusal."""
        self._not_limited.wait()
        self._go_on()
        with file.lock:
            if file.address is None:
                repository = self._repository
                told = get_hf_file_metadata(
                    hf_hub_url(
                        repository.model_id,
                        file.path,
                        revision=repository.commit,
                        endpoint=repository.endpoint,
                    ),
                    token=repository.token or False,
                    timeout=self._retries.stall_seconds,
                    library_name=LIBRARY,
                    library_version=__version__,
                    endpoint=repository.endpoint,
                )
                file.address, file.etag, file.tag = told.location, told.etag, None
            return file.address

    def _is_hub(self, address: str) -> bool:
        return _origin(address) == _origin(self._repository.endpoint)

    def _explained(self, error: Exception) -> HubProblem:
        repository = self._repository
        return translate(
            error,
            endpoint=repository.endpoint,
            model_id=repository.model_id,
            revision=repository.commit,
            has_token=repository.token is not None,
        )

    def _wait(self, failures: int, failure: HubProblem) -> None:
        seconds = self._retries.wait_seconds(failures, failure.failure)
        if seconds is None:
            raise failure
        limited = failure.kind is HubFailureKind.RATE_LIMITED
        if limited:  # the others need not learn it for themselves
            self._not_limited.clear()
        try:
            self._pause(seconds)
        finally:
            if limited:
                self._not_limited.set()
        self._go_on()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise StoppedError


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
