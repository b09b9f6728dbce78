"""The queue against generated schedules on a clock of its own, and against the mistakes that such queues make."""

from __future__ import annotations

import asyncio
import heapq
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.controller.workqueue import Backoff, QueueClosedError, WorkQueue


class FakeClock:
    """Time that moves only when told to."""

    def __init__(self):
        self.now = 0.0
        self._calls = []
        self._order = itertools.count()

    def time(self):
        return self.now

    def call_later(self, delay, callback):
        timer = FakeTimer()
        heapq.heappush(self._calls, (self.now + delay, next(self._order), timer, callback))
        return timer

    def advance(self, seconds):
        until = self.now + seconds
        while self._calls and self._calls[0][0] <= until:
            self.now, _, timer, callback = heapq.heappop(self._calls)
            if not timer.cancelled:
                callback()
        self.now = until


class FakeTimer:
    cancelled = False

    def cancel(self):
        self.cancelled = True


async def settle():
    """Let every task that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


KEYS = st.sampled_from(["a", "b", "c"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), KEYS),
        st.tuples(st.just("change after"), KEYS, st.floats(0.1, 5)),
        st.tuples(st.just("finish"), KEYS, st.booleans()),
        st.tuples(st.just("advance"), st.floats(0.1, 10)),
        st.tuples(st.just("settle")),
    ),
    max_size=60,
)


class World:
    """Keys that change, and workers that read them when they start and may fail."""

    def __init__(self, num_workers):
        self.clock = FakeClock()
        self.queue = WorkQueue(clock=self.clock, backoff=Backoff(first_seconds=1, most_seconds=8))
        self.version = dict.fromkeys("abc", 0)
        self.seen = dict.fromkeys("abc", 0)
        self.running = {}
        self.overlaps = []
        self.workers = [asyncio.create_task(self.work()) for _ in range(num_workers)]

    async def work(self):
        while True:
            try:
                key = await self.queue.get()
            except QueueClosedError:
                return
            if key in self.running:
                self.overlaps.append(key)
            read = self.version[key]
            finished = asyncio.get_running_loop().create_future()
            self.running[key] = finished
            try:
                if await finished:
                    self.seen[key] = max(self.seen[key], read)
                    self.queue.forget(key)
                else:
                    self.queue.add_failed(key)
            finally:
                self.running.pop(key, None)
                self.queue.done(key)

    async def act(self, action):
        match action:
            case ("change", key):
                self.version[key] += 1
                self.queue.add(key)
            case ("change after", key, delay):
                self.version[key] += 1
                self.queue.add_after(key, delay)
            case ("finish", key, succeeds):
                if key in self.running and not self.running[key].done():
                    self.running[key].set_result(succeeds)
                await settle()
            case ("advance", seconds):
                self.clock.advance(seconds)
            case ("settle",):
                await settle()

    async def run_out(self):
        """Let everything succeed from here on; ends when nothing is left, fails when that takes too long."""
        for _ in range(200):
            await settle()
            for finished in list(self.running.values()):
                if not finished.done():
                    finished.set_result(True)
            await settle()
            if not self.running and not len(self.queue) and not self.queue.num_delayed:
                return
            self.clock.advance(10)
        pytest.fail("the queue never came to rest")


@given(actions=ACTIONS, num_workers=st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_any_schedule_sees_the_last_change_and_never_runs_a_key_twice_at_once(actions, num_workers):
    async def schedule():
        world = World(num_workers)
        for action in actions:
            await world.act(action)
        await world.run_out()
        await asyncio.wait_for(world.queue.join(), 1)
        world.queue.close()
        await asyncio.wait_for(asyncio.gather(*world.workers), 1)
        return world

    world = asyncio.run(schedule())
    assert world.overlaps == []
    assert world.version == world.seen


class TestQueue:
    async def test_a_key_waits_only_once(self):
        queue = WorkQueue()
        for _ in range(5):
            queue.add("a")
        assert len(queue) == 1

    async def test_keys_come_out_in_the_order_they_went_in(self):
        queue = WorkQueue()
        for key in "cab":
            queue.add(key)
        assert [await queue.get() for _ in range(3)] == ["c", "a", "b"]

    async def test_a_key_added_while_it_runs_is_run_once_more_and_not_before_it_is_done(self):
        queue = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert len(queue) == 1
        await queue.get()
        queue.done("a")
        assert len(queue) == 0

    async def test_the_earliest_of_several_delays_counts(self):
        clock = FakeClock()
        queue = WorkQueue(clock=clock)
        queue.add_after("a", 10)
        queue.add_after("a", 2)
        queue.add_after("a", 5)
        clock.advance(1.9)
        assert len(queue) == 0
        clock.advance(0.2)
        assert len(queue) == 1
        clock.advance(20)
        assert (len(queue), queue.num_delayed) == (1, 0)

    async def test_a_delay_that_was_overtaken_does_not_fire_a_second_time(self):
        clock = FakeClock()
        queue = WorkQueue(clock=clock)
        queue.add_after("a", 10)
        queue.add_after("a", 2)
        clock.advance(3)
        await queue.get()
        queue.done("a")
        clock.advance(20)
        assert len(queue) == 0

    async def test_closing_leaves_no_timer_behind(self):
        clock = FakeClock()
        queue = WorkQueue(clock=clock)
        queue.add_after("a", 10)
        queue.close()
        assert all(timer.cancelled for _, _, timer, _ in clock._calls)

    async def test_joining_waits_for_the_last_of_several(self):
        queue = WorkQueue()
        queue.add("a")
        queue.add("b")
        for key in [await queue.get(), await queue.get()]:
            joined = asyncio.create_task(queue.join())
            await settle()
            assert not joined.done()
            queue.done(key)
            joined.cancel()
        await asyncio.wait_for(queue.join(), 1)

    async def test_dropping_what_waits_ends_a_join(self):
        queue = WorkQueue()
        queue.add("a")
        queue.close(drop_waiting=True)
        await asyncio.wait_for(queue.join(), 1)
        with pytest.raises(QueueClosedError):
            await queue.get()

    async def test_failures_in_a_row_double_the_wait_up_to_the_limit_and_success_resets_it(self):
        queue = WorkQueue(clock=FakeClock(), backoff=Backoff(first_seconds=1, most_seconds=5))
        assert [queue.add_failed("a") for _ in range(5)] == [1, 2, 4, 5, 5]
        queue.forget("a")
        assert queue.add_failed("a") == 1

    async def test_each_key_backs_off_for_itself(self):
        queue = WorkQueue(clock=FakeClock(), backoff=Backoff(first_seconds=1, most_seconds=5))
        queue.add_failed("a")
        queue.add_failed("a")
        assert queue.add_failed("b") == 1

    async def test_a_server_that_asks_for_more_time_gets_it(self):
        queue = WorkQueue(clock=FakeClock(), backoff=Backoff(first_seconds=1, most_seconds=5))
        assert queue.add_failed("a", at_least_seconds=60) == 60

    async def test_a_thousand_failures_do_not_overflow(self):
        queue = WorkQueue(clock=FakeClock(), backoff=Backoff(first_seconds=1, most_seconds=5))
        assert [queue.add_failed("a") for _ in range(1100)][-1] == 5

    async def test_closing_ends_idle_workers_hands_out_what_waits_and_forgets_what_is_delayed(self):
        queue = WorkQueue(clock=FakeClock())
        idle = asyncio.create_task(queue.get())
        await settle()
        queue.add_after("late", 5)
        queue.close()
        with pytest.raises(QueueClosedError):
            await asyncio.wait_for(idle, 1)
        queue.add("never")
        assert (len(queue), queue.num_delayed) == (0, 0)

    async def test_a_worker_cancelled_with_a_key_on_its_way_passes_it_on(self):
        queue = WorkQueue()
        first = asyncio.create_task(queue.get())
        second = asyncio.create_task(queue.get())
        await settle()
        queue.add("a")
        first.cancel()
        assert await asyncio.wait_for(second, 1) == "a"
        with pytest.raises(asyncio.CancelledError):
            await first

    async def test_joining_waits_for_what_waits_and_what_runs(self):
        queue = WorkQueue()
        queue.add("a")
        joined = asyncio.create_task(queue.join())
        await settle()
        assert not joined.done()
        await queue.get()
        await settle()
        assert not joined.done()
        queue.done("a")
        await asyncio.wait_for(joined, 1)
