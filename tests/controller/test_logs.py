"""Which logs are read, how often, and that a kubelet out of reach stops nothing."""

from __future__ import annotations

import pytest

from plimsoll.cluster.errors import UnreachableError
from plimsoll.controller.keys import Key
from plimsoll.controller.logs import ENGINE_BYTES, ENGINE_LINES, LOG_SECONDS, PodLogs

KEY = Key("n", "m")


class Client:
    """Answers with the next text; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def tail_log(self, name, namespace, **options):
        self.asked.append((name, options))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def pod(name="p", *, component="server", phase="Running", **status):
    return {
        "kind": "Pod",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"plimsoll.dev/component": component}},
        "status": {"phase": phase, "containerStatuses": [status]},
    }


def ended(code=1):
    return {"terminated": {"exitCode": code, "reason": "Error"}}


CRASHED = {"ready": False, "restartCount": 1, "state": {"waiting": {}}, "lastState": ended()}


@pytest.fixture
def clock():
    return Clock()


async def test_the_previous_life_of_an_engine_that_crashed_is_read_once(clock):
    client = Client("why")
    logs = PodLogs(client, clock)

    first = await logs.engines(KEY, [pod(**CRASHED)])
    clock.now += 10 * LOG_SECONDS
    second = await logs.engines(KEY, [pod(**CRASHED)])

    assert first == second == {"p": "why"}
    options = {"num_lines": ENGINE_LINES, "limit_bytes": ENGINE_BYTES, "previous": True}
    assert client.asked == [("p", options)]


async def test_another_life_is_read_half_a_minute_later(clock):
    client = Client("why", "why not")
    logs = PodLogs(client, clock)
    again = CRASHED | {"restartCount": 2}

    await logs.engines(KEY, [pod(**CRASHED)])
    soon = await logs.engines(KEY, [pod(**again)])
    clock.now += LOG_SECONDS
    later = await logs.engines(KEY, [pod(**again)])

    assert (soon, later) == ({"p": "why"}, {"p": "why not"})


async def test_an_engine_that_ended_and_was_not_restarted_is_read_as_it_is(clock):
    client = Client("why")

    await PodLogs(client, clock).engines(KEY, [pod(ready=False, restartCount=0, state=ended())])

    assert client.asked[0][1]["previous"] is False


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(pod(ready=True, restartCount=1, state={}, lastState=ended()), id="it answers again"),
        pytest.param(pod(ready=False, restartCount=0, state={"running": {}}), id="it loads"),
        pytest.param(pod(ready=False, restartCount=1, state={}, lastState=ended(0)), id="it ended well"),
        pytest.param(pod(component="test", **CRASHED), id="it is no engine"),
        pytest.param({"kind": "Service", "metadata": {"name": "p"}}, id="it is no pod"),
    ],
)
async def test_nothing_is_read_of(clock, item):
    client = Client()

    assert await PodLogs(client, clock).engines(KEY, [item]) == {}
    assert client.asked == []


async def test_a_kubelet_out_of_reach_is_asked_again_half_a_minute_later(clock):
    client = Client(UnreachableError("read pods/p"), "why")
    logs = PodLogs(client, clock)

    first = await logs.engines(KEY, [pod(**CRASHED)])
    soon = await logs.engines(KEY, [pod(**CRASHED)])
    clock.now += LOG_SECONDS
    later = await logs.engines(KEY, [pod(**CRASHED)])

    assert (first, soon, later) == ({}, {}, {"p": "why"})
    assert len(client.asked) == 2


async def test_what_is_known_of_a_life_stays_when_the_next_reading_fails(clock):
    client = Client("why", UnreachableError("read pods/p"))
    logs = PodLogs(client, clock)

    await logs.engines(KEY, [pod(**CRASHED)])
    clock.now += LOG_SECONDS
    later = await logs.engines(KEY, [pod(**(CRASHED | {"restartCount": 2}))])

    assert later == {"p": "why"}


async def test_of_many_pods_the_newest_are_read(clock):
    client = Client("newest", "newer")
    replicas = [pod(name, **CRASHED) for name in "abcd"]
    for minute, replica in enumerate(replicas):
        replica["metadata"]["creationTimestamp"] = f"2026-11-21T10:0{minute}:00Z"

    found = await PodLogs(client, clock).engines(KEY, replicas)

    assert found == {"d": "newest", "c": "newer"}


async def test_progress_is_read_every_half_minute(clock):
    client = Client("1", "2")
    logs = PodLogs(client, clock)
    running = pod("d", component="download")

    first = await logs.download(KEY, [running])
    soon = await logs.download(KEY, [running])
    clock.now += LOG_SECONDS
    later = await logs.download(KEY, [running])

    assert (first, soon, later) == ("1", "1", "2")
    assert await logs.download(KEY, []) is None


async def test_progress_that_cannot_be_read_is_what_it_was(clock):
    client = Client("1", UnreachableError("read pods/d"))
    logs = PodLogs(client, clock)
    running = pod("d", component="download")

    await logs.download(KEY, [running])
    clock.now += LOG_SECONDS

    assert await logs.download(KEY, [running]) == "1"
