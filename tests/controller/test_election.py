"""Leader election on a Lease with two clocks: who leads, who waits, who gives up."""

from __future__ import annotations

import asyncio
import copy

import pytest

from plimsoll.cluster.errors import ConflictError, NotFoundError, UnreachableError
from plimsoll.controller.election import Election, LeadershipLostError, Terms


class Leases:
    """One Lease with optimistic concurrency, as the API server keeps it."""

    def __init__(self):
        self.lease = None
        self.away = False
        self.hangs = False

    async def get(self, kind, name, namespace):
        await self._answer()
        if self.lease is None:
            raise NotFoundError("read", status=404, reason="NotFound", message="no lease")
        return copy.deepcopy(self.lease)

    async def create(self, kind, body):
        await self._answer()
        if self.lease is not None:
            raise ConflictError("create", status=409, reason="AlreadyExists", message="there is one")
        return self._store(body, 0)

    async def replace(self, kind, body):
        await self._answer()
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ConflictError("replace", status=409, reason="Conflict", message="changed")
        return self._store(body, int(self.lease["metadata"]["resourceVersion"]))

    async def _answer(self):
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise UnreachableError("away")

    def _store(self, body, version):
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(version + 1)
        return copy.deepcopy(self.lease)

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"]


class Time:
    """One clock for all candidates: it goes on when all of them sleep."""

    def __init__(self):
        self.now = 0.0
        self.sleepers = []

    def read(self):
        return self.now

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + seconds, woken))
        await woken

    async def go_on(self, until):
        while True:
            for _ in range(50):  # whatever can run, runs
                await asyncio.sleep(0)
            due = min((at for at, woken in self.sleepers if not woken.done()), default=None)
            if due is None or due > until:
                self.now = until
                return
            self.now = due
            for at, woken in self.sleepers:
                if at <= due and not woken.done():
                    woken.set_result(None)
            self.sleepers = [(at, woken) for at, woken in self.sleepers if not woken.done()]


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def leases():
    return Leases()


@pytest.fixture
async def start():
    """Start a step of an election as a task that ends with the test."""
    tasks = []

    def begin(step):
        tasks.append(asyncio.create_task(step))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def candidate(leases, clock, identity):
    terms = Terms(name="l", namespace="n", identity=identity)
    return Election(leases, terms, clock=clock.read, sleep=clock.sleep)


async def leading(leases, clock, identity):
    election = candidate(leases, clock, identity)
    await election.acquire()
    return election


async def test_the_first_candidate_leads(leases, clock):
    await leading(leases, clock, "a")
    assert (leases.holder, leases.lease["spec"]["leaseTransitions"]) == ("a", 0)


async def test_a_second_one_waits_until_the_record_has_stood_still_for_its_duration(leases, clock, start):
    await leading(leases, clock, "a")
    second = start(candidate(leases, clock, "b").acquire())
    await clock.go_on(14.9)
    assert (leases.holder, second.done()) == ("a", False)
    await clock.go_on(18)
    assert (leases.holder, leases.lease["spec"]["leaseTransitions"], second.done()) == ("b", 1, True)


async def test_a_second_one_never_leads_while_the_first_renews(leases, clock, start):
    first = await leading(leases, clock, "a")
    renewal = start(first.renew())
    waiting = start(candidate(leases, clock, "b").acquire())
    await clock.go_on(600)
    assert (waiting.done(), renewal.done(), leases.holder) == (False, False, "a")


async def test_a_released_lease_is_taken_soon(leases, clock, start):
    first = await leading(leases, clock, "a")
    waiting = start(candidate(leases, clock, "b").acquire())
    await clock.go_on(1)
    await first.release()
    await clock.go_on(5)
    assert (waiting.done(), leases.holder) == (True, "b")


async def test_a_leader_that_cannot_renew_gives_up_before_another_may_lead(leases, clock, start):
    first = await leading(leases, clock, "a")
    renewal = start(first.renew())
    leases.away = True
    await clock.go_on(9.9)
    assert not renewal.done()
    await clock.go_on(14)
    with pytest.raises(LeadershipLostError, match="not renewed for 10 s"):
        renewal.result()


async def test_a_request_that_hangs_does_not_keep_a_leader_in_office(leases):
    terms = Terms(name="l", namespace="n", identity="a", renew_deadline_seconds=0.05, retry_seconds=0.001)
    election = Election(leases, terms)
    await election.acquire()
    leases.hangs = True
    with pytest.raises(LeadershipLostError):
        await asyncio.wait_for(election.renew(), 2)


async def test_a_short_absence_of_the_server_ends_nothing(leases, clock, start):
    first = await leading(leases, clock, "a")
    renewal = start(first.renew())
    await clock.go_on(3)
    leases.away = True
    await clock.go_on(11)
    leases.away = False
    await clock.go_on(60)
    assert (renewal.done(), leases.holder) == (False, "a")


async def test_a_leader_that_finds_another_in_office_gives_up(leases, clock, start):
    first = await leading(leases, clock, "a")
    renewal = start(first.renew())
    leases.lease["spec"]["holderIdentity"] = "b"
    await clock.go_on(3)
    with pytest.raises(LeadershipLostError, match="b took the Lease"):
        renewal.result()


async def test_releasing_what_another_holds_by_now_leaves_it_alone(leases, clock):
    first = await leading(leases, clock, "a")
    leases.lease["spec"]["holderIdentity"] = "b"
    leases.lease["metadata"]["resourceVersion"] = "9"
    await first.release()
    assert leases.holder == "b"
