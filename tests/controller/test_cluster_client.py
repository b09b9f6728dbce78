"""The cluster client when the API server is slow, busy or gone: a small HTTP server plays it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from plimsoll.cluster.client import ClusterClient, Limits
from plimsoll.cluster.errors import BusyError, UnreachableError
from plimsoll.cluster.kinds import CONFIG_MAP, DEPLOYMENT, LEASE, POD

MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}


class Server:
    """Answers as told, one answer after the other, the last one for ever."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.requests = []
        self.at_once = 0
        self.most_at_once = 0

    async def handle(self, request):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.requests.append((request.method, request.path_qs, await request.text()))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            return await answer() if callable(answer) else answer.clone()
        finally:
            self.at_once -= 1


class Answer:
    def __init__(self, status=200, body=None, headers=None):
        self.status, self.body, self.headers = status, body or {}, headers

    def clone(self):
        return web.json_response(self.body, status=self.status, headers=self.headers)


def failure(status, *, headers=None, **details):
    return Answer(status, {"kind": "Status", "message": "no", "reason": "No", "details": details}, headers)


@asynccontextmanager
async def talking_to(*answers, **limits):
    server = Server(answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    configuration = Configuration(host=f"http://127.0.0.1:{port}")
    async with ClusterClient(configuration, limits=Limits(**limits), sleep=sleep) as client:
        yield client, server, waits
    await runner.cleanup()


async def test_a_busy_server_is_asked_again_after_the_time_that_it_names():
    async with talking_to(failure(429, headers={"Retry-After": "2"}), Answer(body=MANIFEST)) as (
        client,
        _,
        waits,
    ):
        assert await client.apply(CONFIG_MAP, MANIFEST) == MANIFEST
    assert waits == [2.0]


async def test_after_a_few_attempts_the_caller_is_told():
    async with talking_to(failure(503)) as (client, server, waits):
        with pytest.raises(BusyError, match="cannot read Pod n/a: no"):
            await client.get(POD, "a", "n")
    assert (len(server.requests), len(waits)) == (3, 2)


async def test_a_long_wait_is_handed_up_instead_of_slept_through():
    async with talking_to(failure(429, retryAfterSeconds=60)) as (client, server, waits):
        with pytest.raises(BusyError) as caught:
            await client.get(POD, "a", "n")
    assert (caught.value.retry_after_seconds, len(server.requests), waits) == (60.0, 1, [])


async def test_what_may_have_been_done_is_not_sent_twice_after_a_server_error():
    async with talking_to(failure(500), Answer(body=MANIFEST)) as (client, server, _):
        with pytest.raises(BusyError):
            await client.create(CONFIG_MAP, MANIFEST)
    assert len(server.requests) == 1


async def test_what_was_not_looked_at_is_sent_again():
    async with talking_to(failure(429), Answer(body=MANIFEST)) as (client, server, _):
        await client.create(CONFIG_MAP, MANIFEST)
    assert len(server.requests) == 2


async def test_a_server_that_does_not_answer_is_left_after_the_timeout():
    async def never():
        await asyncio.Event().wait()

    async with talking_to(never, timeout_seconds=0.05) as (client, _, _):
        with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
            await client.get(POD, "a", "n")


async def test_a_server_that_is_not_there_is_unreachable_in_one_line():
    async with ClusterClient(Configuration(host="http://127.0.0.1:9")) as client:
        with pytest.raises(UnreachableError) as caught:
            await client.get(POD, "a", "n")
    assert "\n" not in str(caught.value)


async def test_no_more_requests_are_under_way_than_allowed():
    async def slowly():
        await asyncio.sleep(0.01)
        return web.json_response({})

    async with talking_to(slowly, num_concurrent=3) as (client, server, _):
        await asyncio.gather(*(client.get(POD, str(number), "n") for number in range(20)))
    assert server.most_at_once == 3


async def test_an_answer_that_is_no_json_is_still_a_sentence():
    async def page():
        return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")

    async with talking_to(page, num_attempts=1) as (client, _, _):
        with pytest.raises(BusyError, match=r"HTTP 502"):
            await client.get(POD, "a", "n")


async def test_a_page_that_is_no_json_in_a_success_is_unreachable():
    async def page():
        return web.Response(status=200, text="<html>Welcome</html>", content_type="text/html")

    async with talking_to(page, num_attempts=1) as (client, _, _):
        with pytest.raises(UnreachableError):
            await client.get(POD, "a", "n")


@pytest.mark.parametrize(
    ("ask", "method", "path"),
    [
        pytest.param(
            lambda client: client.apply(CONFIG_MAP, MANIFEST),
            "PATCH",
            "/api/v1/namespaces/n/configmaps/a?fieldManager=plimsoll&force=true",
            id="apply",
        ),
        pytest.param(
            lambda client: client.list(LEASE),
            "GET",
            "/apis/coordination.k8s.io/v1/leases?limit=500",
            id="list",
        ),
        pytest.param(
            lambda client: client.scale(DEPLOYMENT, "a", "n", 3),
            "PATCH",
            "/apis/apps/v1/namespaces/n/deployments/a/scale?fieldManager=plimsoll",
            id="scale",
        ),
        pytest.param(
            lambda client: client.delete(CONFIG_MAP, "a", "n", {"propagationPolicy": "Background"}),
            "DELETE",
            "/api/v1/namespaces/n/configmaps/a",
            id="delete",
        ),
        pytest.param(
            lambda client: client.tail_log("a", "n", num_lines=5),
            "GET",
            "/api/v1/namespaces/n/pods/a/log?tailLines=5&limitBytes=65536",
            id="log",
        ),
        pytest.param(
            lambda client: client.tail_log("a", "n", num_lines=300, limit_bytes=32768, previous=True),
            "GET",
            "/api/v1/namespaces/n/pods/a/log?tailLines=300&limitBytes=32768&previous=true",
            id="log of the container before its restart",
        ),
    ],
)
async def test_requests_go_where_they_belong(ask, method, path):
    async with talking_to(Answer()) as (client, server, _):
        await ask(client)
    assert [(method, path)] == [one[:2] for one in server.requests]
