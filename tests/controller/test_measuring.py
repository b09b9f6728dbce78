"""Reading a running engine, against a server that answers as vLLM does, and beside the reconciles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from plimsoll.cluster.engine import MAX_METRICS_BYTES, EngineSilentError, read_engine
from plimsoll.controller.keys import Key
from plimsoll.controller.measuring import Measuring
from plimsoll.controller.metrics import Metrics
from plimsoll.reconcile.measured import CacheConfig, Engine, EngineReport, ReportError

RECORDED = (Path(__file__).parent / "data" / "vllm-0.32.0.metrics").read_bytes()
HERE = Engine(revision="r", address="127.0.0.1")
KEY = Key("team", "m")
CACHE = CacheConfig(blocks=2288, block_size=128, tokens=210_598)


async def _hang(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def _answer(body: bytes, status: int = 200, **headers: str) -> Callable[[web.Request], object]:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=headers)

    return handler


METRICS = _answer(RECORDED)
VERSION = _answer(b'{"version":"0.32.0"}')


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., object]]:
    """An engine on a free port of this machine."""
    runners: list[web.AppRunner] = []

    async def start(metrics: object = METRICS, version: object = VERSION) -> int:
        app = web.Application()
        app.router.add_get("/metrics", metrics)  # type: ignore[arg-type]
        app.router.add_get("/version", version)  # type: ignore[arg-type]
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_an_engine_says_its_cache_and_its_release(serve) -> None:
    assert await read_engine(HERE, port=await serve()) == EngineReport(
        revision="r", cache=CACHE, version="0.32.0"
    )


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(_answer(b"", 404), id="absent"),
        pytest.param(_answer(b"no JSON"), id="no JSON"),
        pytest.param(_answer(b" " * 5000), id="too long"),
    ],
)
async def test_an_engine_that_does_not_say_its_release_is_measured_all_the_same(serve, version) -> None:
    report = await read_engine(HERE, port=await serve(version=version))
    assert (report.cache, report.version) == (CACHE, None)


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        pytest.param(_answer(b"", 503), "answered 503", id="not ready"),
        pytest.param(_answer(b"", 302, Location="http://127.0.0.1:1/"), "answered 302", id="elsewhere"),
        pytest.param(_answer(b"x" * (MAX_METRICS_BYTES + 1)), "with more than 4194304 bytes", id="endless"),
        pytest.param(_answer(b"\xff\xfe"), "have no vllm:cache_config_info", id="no text"),
    ],
)
async def test_what_is_no_report_is_told(serve, metrics, says: str) -> None:
    with pytest.raises(ReportError, match=says):
        await read_engine(HERE, port=await serve(metrics))


@pytest.mark.parametrize("part", ["metrics", "version"])
async def test_an_engine_that_hangs_holds_nobody_up(serve, part: str) -> None:
    port = await serve(**{part: _hang})
    with pytest.raises(EngineSilentError, match="TimeoutError"):
        await read_engine(HERE, port=port, seconds=0.2)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "no address", "127.0.0.1/x"])
async def test_where_nothing_listens_the_engine_is_silent(address: str, unused_tcp_port: int) -> None:
    with pytest.raises(EngineSilentError):
        await read_engine(Engine(revision="r", address=address), port=unused_tcp_port)


# Beside the reconciles.


@dataclass
class Scene:
    """A Measuring with a clock of its own, and answers by script."""

    now: float = 0.0
    answers: list[EngineReport | Exception] = field(default_factory=list)
    asked: list[Engine] = field(default_factory=list)
    woken: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.measuring = Measuring(read=self._read, clock=lambda: self.now)
        self.measuring.wake_with(self.woken.append)

    async def _read(self, engine: Engine) -> EngineReport:
        self.asked.append(engine)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def look(self, engine: Engine | None = HERE) -> int:
        """Look once and let what began end; how often an engine was asked so far."""
        self.measuring.look(KEY, engine)
        for _ in range(5):
            await asyncio.sleep(0)
        return len(self.asked)


REPORT = EngineReport(revision="r", cache=CACHE, version="0.32.0")


async def test_a_report_wakes_its_key_and_is_there_for_the_next_pass() -> None:
    scene = Scene(answers=[REPORT])
    assert await scene.look() == 1
    assert (scene.woken, scene.measuring.report(KEY)) == ([KEY], REPORT)


async def test_what_stands_in_the_status_is_forgotten() -> None:
    scene = Scene(answers=[REPORT])
    await scene.look()
    scene.measuring.forget(KEY)
    assert scene.measuring.report(KEY) is None


async def test_without_an_engine_nothing_is_asked() -> None:
    assert await Scene().look(None) == 0


@pytest.mark.parametrize("error", [EngineSilentError("away"), ReportError("no report")])
async def test_a_failure_is_asked_again_later_and_later(error: Exception) -> None:
    scene = Scene(answers=[error, error, REPORT])
    asked = []
    for now in (0.0, 14.9, 15.0, 44.9, 45.0):
        scene.now = now
        asked.append(await scene.look())
    assert asked == [1, 1, 2, 2, 3]
    assert scene.measuring.report(KEY) == REPORT


async def test_another_engine_is_asked_at_once() -> None:
    scene = Scene(answers=[EngineSilentError("away"), REPORT])
    await scene.look()
    assert await scene.look(Engine(revision="r2", address="127.0.0.1")) == 2


async def test_an_engine_that_takes_the_place_of_one_under_way_is_asked_instead() -> None:
    asked: list[str] = []

    async def read(engine: Engine) -> EngineReport:
        asked.append(engine.address)
        if engine is HERE:
            await asyncio.Event().wait()
        return REPORT

    measuring = Measuring(read=read)
    for engine in (HERE, Engine(revision="r", address="127.0.0.2")):
        measuring.look(KEY, engine)
        for _ in range(5):
            await asyncio.sleep(0)
    assert (asked, measuring.report(KEY)) == (["127.0.0.1", "127.0.0.2"], REPORT)


async def test_an_engine_is_asked_one_question_at_a_time() -> None:
    asked: list[Engine] = []
    answered = asyncio.Event()

    async def read(engine: Engine) -> EngineReport:
        asked.append(engine)
        await answered.wait()
        return REPORT

    measuring = Measuring(read=read)
    for _ in range(3):
        measuring.look(KEY, HERE)
        await asyncio.sleep(0)
    assert len(asked) == 1
    measuring.forget(KEY)
    await asyncio.sleep(0)
    answered.set()
    await asyncio.sleep(0)
    assert measuring.report(KEY) is None


def test_the_error_of_each_plan_is_exported_until_it_is_gone() -> None:
    metrics = Metrics()
    metrics.plan_error("a", "m", "+1.25")
    metrics.plan_error("b", "m", "-0.40")
    name = "plimsoll_plan_error_percent"
    assert metrics.exposition().splitlines() == [
        f"# TYPE {name} gauge",
        f'{name}{{name="m",namespace="a"}} 1.25',
        f'{name}{{name="m",namespace="b"}} -0.40',
    ]
    metrics.plan_error("a", "m", None)
    metrics.plan_error("a", "never known", None)
    assert metrics.exposition().splitlines()[1:] == [f'{name}{{name="m",namespace="b"}} -0.40']
