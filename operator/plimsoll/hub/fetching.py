"""One file from the Hub to its name: its missing ranges in parallel, its hash, and only then its place."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, Executor, wait
from typing import TYPE_CHECKING, Final

from plimsoll.hub.checks import Digest, WrongBytesError, digest_named_by
from plimsoll.hub.errors import HubProblem
from plimsoll.hub.parts import PartFile
from plimsoll.hub.ranges import Span, split
from plimsoll.hub.transfer import NoRangesError, RemoteFile, StoppedError, Transfer
from plimsoll.hub.workshop import FolderProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from pathlib import Path

    from plimsoll.hub.meter import Meter

# A wrong content is fetched once more from zero: the first may have been spoilt on its way or on the disk.
_ATTEMPTS: Final = 2


class FileFetch:
    """The fetching of one file; `run` is called once."""

    def __init__(
        self, *, remote: RemoteFile, part: Path, target: Path, digest: Digest | None, where: str
    ) -> None:
        """Set what is fetched.

        Args:
            remote: the file at the Hub.
            part: where its bytes are gathered.
            target: the name that it gets when it is whole.
            digest: the listed hash; None where the Hub lists none: then the file's own answer may name one.
            where: how messages call the repository and its commit.
        """
        self._remote = remote
        self._part_path = part
        self._target = target
        self._digest = digest
        self._where = where

    def run(self, transfer: Transfer, ranges: Executor, meter: Meter, range_bytes: int) -> None:
        """Fetch, check and land the file.

        Args:
            transfer: brings the bytes.
            ranges: runs the transfers of ranges; its size bounds how many run at once.
            meter: counts the bytes.
            range_bytes: the size of a range; a file of at most that size is fetched by one request.

        Raises:
            HubProblem: the bytes did not come.
            WrongBytesError: wrong ones came, twice.
            FolderProblem: the disk refuses.
            StoppedError: another transfer has failed.
        """
        part = PartFile(self._part_path, self._remote.size_bytes, self._target.parent)
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._gather(part, transfer, ranges, meter, range_bytes)
                    self._check(part)
                    break
                except WrongBytesError:
                    self._restart(part, meter)
                    if attempt == _ATTEMPTS:
                        part.remove()
                        raise
            part.land(self._target)
        finally:
            part.close()

    def _gather(
        self, part: PartFile, transfer: Transfer, ranges: Executor, meter: Meter, range_bytes: int
    ) -> None:
        try:
            missing = split(part.missing, range_bytes)
            self._all(ranges, lambda span: self._fetch(part, transfer, meter, span), missing)
        except NoRangesError:
            self._restart(part, meter)
            self._from_the_beginning(part, transfer, meter)

    def _fetch(self, part: PartFile, transfer: Transfer, meter: Meter, span: Span) -> None:
        def write(offset: int, data: bytes) -> None:
            part.write(offset, data)
            meter.add(len(data))

        try:
            transfer.fetch(self._remote, span, write)
            part.finish(span)
        except (HubProblem, FolderProblem):
            transfer.end()  # final: nothing else need go on
            raise

    def _from_the_beginning(self, part: PartFile, transfer: Transfer, meter: Meter) -> None:
        """Fetch from a host that knows no ranges: what breaks begins anew, as often as any request is tried."""
        whole = Span(start=0, end=self._remote.size_bytes)
        for _ in range(transfer.tries):
            try:
                self._fetch(part, transfer, meter, whole)
            except NoRangesError:
                self._restart(part, meter)
            else:
                return
        raise transfer.nothing_came(self._remote)

    def _restart(self, part: PartFile, meter: Meter) -> None:
        meter.add(-part.forget())

    @staticmethod
    def _all(ranges: Executor, work: Callable[[Span], None], spans: Iterable[Span]) -> None:
        """Run the work for every span; the first failure keeps the rest from beginning."""
        flights = [ranges.submit(work, span) for span in spans]
        try:
            wait(flights, return_when=FIRST_EXCEPTION)
        finally:
            for flight in flights:
                flight.cancel()
            wait(flights)
        raise_the_cause(flights)

    def _check(self, part: PartFile) -> None:
        expected = self._expected()
        got = None if expected is None else part.digest(expected)
        if got != expected:
            raise WrongBytesError(
                f"{self._remote.path} of {self._where} came with wrong bytes, twice: expected {expected}, got {got}; "
                "check that no proxy or mirror changes what the Hub sends, and start the download again."
            )

    def _expected(self) -> Digest | None:
        """The listed hash, else the one that the file's own answer named; a mirror may list LFS pointers' hashes."""
        named = digest_named_by(self._remote.etag)
        if self._digest is None or (
            named is not None and named.algorithm == "sha256" != self._digest.algorithm
        ):
            return named
        return self._digest


def raise_the_cause(flights: Iterable[Future[None]]) -> None:
    """Raise what made work fail, rather than that other work was stopped for it."""
    failures = [error for flight in flights if not flight.cancelled() and (error := flight.exception())]
    causes = [error for error in failures if not isinstance(error, StoppedError)]
    for error in causes or failures:
        raise error


__all__ = ["FileFetch", "raise_the_cause"]
