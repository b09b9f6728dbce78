"""Facts kept by commit, revisions for a while, failures for a shorter while; one flight for each question.

A commit never changes, so its facts are kept until room is needed; a branch is asked again after its time.
What one token may see is not shown to another: a token's fingerprint is part of every key.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from plimsoll.hub.errors import HubProblem
from plimsoll.reconcile.sources import HubFailure, HubFailureKind, check_reference, is_commit

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimsoll.hub.client import RepoMetadata
    from plimsoll.sizing.facts import ModelFacts

REVISION_TTL_SECONDS: Final = 300.0
FAILURE_TTL_SECONDS: Final[dict[HubFailureKind, float]] = {
    HubFailureKind.INVALID_REFERENCE: 0.0,  # costs no request
    HubFailureKind.NOT_FOUND: 60.0,
    HubFailureKind.REVISION_NOT_FOUND: 60.0,
    HubFailureKind.GATED: 60.0,
    HubFailureKind.TOKEN_REFUSED: 60.0,
    HubFailureKind.RATE_LIMITED: 60.0,  # where the Hub asks for no other wait
    HubFailureKind.UNREACHABLE: 10.0,
    HubFailureKind.NOT_A_TRANSFORMER: 300.0,
    HubFailureKind.CONFIG_NOT_JSON: 300.0,
    HubFailureKind.CONFIG_TOO_LARGE: 300.0,
}
_MAX_ENTRIES: Final = 512

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Source(Protocol):
    """What the cache asks: `HubClient`, or another in tests."""

    @property
    def endpoint(self) -> str:
        """The Hub's base URL."""

    async def metadata(self, model_id: str, revision: str, token: str | None = None) -> RepoMetadata:
        """Resolve a revision."""

    async def complete(self, metadata: RepoMetadata, token: str | None = None) -> ModelFacts:
        """Read the config at the resolved commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    model_id: str
    revision: str
    fingerprint: str


class HubCache:
    """Asks the Hub as seldom as it can."""

    def __init__(
        self,
        source: Source,
        *,
        clock: Callable[[], float] = time.monotonic,
        revision_ttl_seconds: float = REVISION_TTL_SECONDS,
        max_entries: int = _MAX_ENTRIES,
    ) -> None:
        """Set the source, the clock (seconds that never go back) and the bounds."""
        self._source = source
        self._clock = clock
        self._revision_ttl_seconds = revision_ttl_seconds
        self._salt = secrets.token_bytes(16)
        self._commits: _Bounded[_Question, tuple[float, str]] = _Bounded(max_entries)
        self._facts: _Bounded[tuple[str, str, str], ModelFacts] = _Bounded(max_entries)
        self._failures: _Bounded[_Question, tuple[float, HubFailure]] = _Bounded(max_entries)
        self._limited_until: _Bounded[str, tuple[float, HubFailure]] = _Bounded(max_entries)
        self._flights: dict[_Question, asyncio.Task[ModelFacts]] = {}

    @property
    def endpoint(self) -> str:
        """The Hub's base URL."""
        return self._source.endpoint

    async def fetch(self, model_id: str, revision: str, token: str | None = None) -> ModelFacts:
        """The facts of one revision of a model, from memory where they are fresh.

        Raises:
            HubProblem: they could not be had, now or a short while ago.
        """
        failure = check_reference(model_id, revision)
        if failure is not None:
            raise HubProblem(failure)
        question = _Question(model_id=model_id, revision=revision, fingerprint=self._fingerprint(token))
        known = self._fresh_facts(question)
        if known is not None:
            return known
        self._raise_fresh_failure(question)
        flight = self._flights.get(question)
        if flight is None:
            flight = asyncio.create_task(self._ask(question, token))
            self._flights[question] = flight
            flight.add_done_callback(lambda done: self._landed(question, done))
        # A waiter that is cancelled leaves the flight to the others.
        return await asyncio.shield(flight)

    def _fingerprint(self, token: str | None) -> str:
        return "" if token is None else hashlib.blake2b(token.encode(), key=self._salt).hexdigest()

    def _fresh_facts(self, question: _Question) -> ModelFacts | None:
        found = self._commits.get(question)
        if found is None or (found[0] <= self._clock() and not is_commit(question.revision)):
            return None
        return self._of_commit(question, found[1])

    def _of_commit(self, question: _Question, commit: str) -> ModelFacts | None:
        facts = self._facts.get((question.model_id, commit, question.fingerprint))
        return None if facts is None else replace(facts, requested_revision=question.revision)

    def _raise_fresh_failure(self, question: _Question) -> None:
        now = self._clock()
        for found in (self._limited_until.get(question.fingerprint), self._failures.get(question)):
            if found is not None and found[0] > now:
                raise HubProblem(replace(found[1], retry_after_seconds=found[0] - now))

    async def _ask(self, question: _Question, token: str | None) -> ModelFacts:
        try:
            metadata = await self._source.metadata(question.model_id, question.revision, token)
            facts = self._of_commit(question, metadata.commit)
            if facts is None:
                facts = await self._source.complete(metadata, token)
        except HubProblem as error:
            self._remember_failure(question, error.failure)
            raise
        self._facts.put((question.model_id, facts.commit, question.fingerprint), facts)
        self._commits.put(question, (self._clock() + self._revision_ttl_seconds, facts.commit))
        self._failures.drop(question)
        return facts

    def _remember_failure(self, question: _Question, failure: HubFailure) -> None:
        seconds = FAILURE_TTL_SECONDS[failure.kind]
        if failure.retry_after_seconds is not None:
            seconds = max(
                seconds if failure.kind is not HubFailureKind.RATE_LIMITED else 0.0,
                failure.retry_after_seconds,
            )
        until = (self._clock() + seconds, failure)
        self._failures.put(question, until)
        if failure.kind is HubFailureKind.RATE_LIMITED:
            # The limit is on the caller, not on the repository: nothing more is asked with this token meanwhile.
            self._limited_until.put(question.fingerprint, until)

    def _landed(self, question: _Question, flight: asyncio.Task[ModelFacts]) -> None:
        self._flights.pop(question, None)
        if not flight.cancelled():
            flight.exception()  # seen here, so that a flight whose waiters all left does not complain


class _Bounded(Generic[_Key, _Value]):
    """A map that forgets what was used least recently."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[_Key, _Value] = OrderedDict()

    def get(self, key: _Key) -> _Value | None:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: _Key, value: _Value) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def drop(self, key: _Key) -> None:
        self._entries.pop(key, None)
