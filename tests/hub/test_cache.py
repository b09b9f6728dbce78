from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from plimsoll.hub.cache import FAILURE_TTL_SECONDS, REVISION_TTL_SECONDS, HubCache
from plimsoll.hub.client import HubClient, RepoMetadata
from plimsoll.hub.errors import HubProblem, problem
from plimsoll.reconcile.sources import HubFailureKind as Kind
from plimsoll.sandbox.hubstandin import GOOD_TOKEN, HubStandIn
from plimsoll.sizing.facts import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = "a" * 40, "b" * 40


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Answers from a table, counts, and can be held until a test lets go."""

    endpoint = "http://hub"

    def __init__(self) -> None:
        self.commits = {"main": A}
        self.failure: HubProblem | None = None
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def metadata(self, model_id: str, revision: str, token: str | None = None) -> RepoMetadata:
        self.asked.append(f"metadata {model_id}@{revision} {token}")
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return RepoMetadata(
            model_id=model_id,
            requested_revision=revision,
            commit=self.commits.get(revision, revision),
            files=(),
            parameters_by_dtype={},
            has_chat_template=False,
        )

    async def complete(self, metadata: RepoMetadata, token: str | None = None) -> ModelFacts:
        self.asked.append(f"config {metadata.model_id}@{metadata.commit} {token}")
        return ModelFacts(
            model_id=metadata.model_id,
            requested_revision=metadata.requested_revision,
            commit=metadata.commit,
            config={},
            files=(),
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def cache(source: Source, clock: Clock) -> HubCache:
    return HubCache(source, clock=clock)


async def kind_of(ask: Callable[[], object]) -> Kind:
    with pytest.raises(HubProblem) as caught:
        await ask()  # type: ignore[misc]
    return caught.value.kind


async def test_a_second_question_is_answered_from_memory(cache: HubCache, source: Source) -> None:
    first = await cache.fetch("m", "main")
    assert await cache.fetch("m", "main") == first
    assert source.asked == ["metadata m@main None", f"config m@{A} None"]


async def test_a_branch_is_asked_again_after_its_time_and_the_config_only_if_it_moved(
    cache: HubCache, source: Source, clock: Clock
) -> None:
    await cache.fetch("m", "main")
    clock.now += REVISION_TTL_SECONDS
    assert (await cache.fetch("m", "main")).commit == A
    source.commits["main"] = B
    clock.now += REVISION_TTL_SECONDS
    assert (await cache.fetch("m", "main")).commit == B
    assert [asked.split()[0] for asked in source.asked] == [
        "metadata",
        "config",
        "metadata",
        "metadata",
        "config",
    ]


async def test_a_commit_is_never_asked_again(cache: HubCache, source: Source, clock: Clock) -> None:
    await cache.fetch("m", A)
    clock.now += 100 * REVISION_TTL_SECONDS
    await cache.fetch("m", A)
    assert len(source.asked) == 2


async def test_facts_carry_the_revision_that_was_asked_for(cache: HubCache) -> None:
    by_branch, by_commit = await cache.fetch("m", "main"), await cache.fetch("m", A)
    assert replace(by_branch, requested_revision=A) == by_commit


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.INVALID_REFERENCE])
async def test_a_failure_is_remembered_for_a_time_of_its_own(
    cache: HubCache, source: Source, clock: Clock, kind: Kind
) -> None:
    source.failure = problem(kind, "no")
    for seconds in (0.0, FAILURE_TTL_SECONDS[kind] - 0.5):
        clock.now = 1000.0 + seconds
        assert await kind_of(lambda: cache.fetch("m", "main")) is kind
    assert len(source.asked) == 1
    source.failure = None
    clock.now = 1000.0 + FAILURE_TTL_SECONDS[kind] + 0.5
    assert (await cache.fetch("m", "main")).commit == A


@pytest.mark.parametrize(("kind", "wait"), [(Kind.RATE_LIMITED, 17.0), (Kind.UNREACHABLE, 90.0)])
async def test_the_wait_that_the_hub_asks_for_is_kept_and_counted_down(
    cache: HubCache, source: Source, clock: Clock, kind: Kind, wait: float
) -> None:
    source.failure = problem(kind, "later", wait)
    await kind_of(lambda: cache.fetch("m", "main"))
    clock.now += wait - 5
    with pytest.raises(HubProblem) as caught:
        await cache.fetch("m", "main")
    assert caught.value.failure.retry_after_seconds == 5.0
    assert len(source.asked) == 1
    clock.now += 6
    await kind_of(lambda: cache.fetch("m", "main"))
    assert len(source.asked) == 2


async def test_a_rate_limit_holds_for_every_model_of_the_same_token_and_for_no_other(
    cache: HubCache, source: Source
) -> None:
    source.failure = problem(Kind.RATE_LIMITED, "later", 30.0)
    await kind_of(lambda: cache.fetch("m", "main", "one"))
    source.failure = None
    assert await kind_of(lambda: cache.fetch("other", "main", "one")) is Kind.RATE_LIMITED
    assert (await cache.fetch("other", "main", "two")).commit == A


async def test_many_who_ask_at_once_share_one_flight(cache: HubCache, source: Source) -> None:
    source.gate = asyncio.Event()
    waiting = [asyncio.create_task(cache.fetch("m", "main")) for _ in range(20)]
    await asyncio.sleep(0)
    source.gate.set()
    assert {facts.commit for facts in await asyncio.gather(*waiting)} == {A}
    assert len(source.asked) == 2


async def test_a_failed_flight_fails_all_who_wait_and_not_those_who_come_later(
    cache: HubCache, source: Source, clock: Clock
) -> None:
    source.gate, source.failure = asyncio.Event(), problem(Kind.UNREACHABLE, "no")
    waiting = [asyncio.create_task(cache.fetch("m", "main")) for _ in range(3)]
    await asyncio.sleep(0)
    source.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [HubProblem] * 3
    source.failure = None
    clock.now += 60
    assert (await cache.fetch("m", "main")).commit == A


async def test_one_who_gives_up_waiting_does_not_stop_the_flight(cache: HubCache, source: Source) -> None:
    source.gate = asyncio.Event()
    quitter, patient = (asyncio.create_task(cache.fetch("m", "main")) for _ in range(2))
    await asyncio.sleep(0)
    quitter.cancel()
    source.gate.set()
    assert (await patient).commit == A
    assert quitter.cancelled() or quitter.cancelling()
    assert len(source.asked) == 2


async def test_what_one_token_may_see_is_not_shown_to_another(hub: HubStandIn) -> None:
    cache = HubCache(HubClient(hub.url))
    gated = "meta-llama/Llama-3.1-8B-Instruct"
    await cache.fetch(gated, "main", GOOD_TOKEN)
    commit = hub.commit_of(gated)
    for revision in ("main", commit):
        assert await kind_of(lambda revision=revision: cache.fetch(gated, revision)) is Kind.GATED


async def test_the_token_itself_is_not_kept(cache: HubCache) -> None:
    await cache.fetch("m", "main", "hf_very_secret")
    assert "hf_very_secret" not in repr(vars(cache)) + repr([vars(b) for b in (cache._facts, cache._commits)])


async def test_the_least_recently_used_is_forgotten_first(source: Source, clock: Clock) -> None:
    cache = HubCache(source, clock=clock, max_entries=2)
    for model in ("one", "two", "one", "three"):
        await cache.fetch(model, "main")
    source.asked.clear()
    await cache.fetch("one", "main")
    assert source.asked == []
    await cache.fetch("two", "main")
    assert len(source.asked) == 2


async def test_a_name_that_can_be_none_is_refused_without_asking(cache: HubCache, source: Source) -> None:
    assert await kind_of(lambda: cache.fetch("a b", "main")) is Kind.INVALID_REFERENCE
    assert source.asked == []
