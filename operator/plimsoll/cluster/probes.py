"""Two small HTTP servers that operator and webhook both need: health for the kubelet, numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve_health(port: int | None, problem: Callable[[], str | None]) -> AsyncIterator[None]:
    """Answer /healthz: 200 while `problem` gives None, else 503 with its sentence; None: no server."""

    async def healthz(_: web.Request) -> web.Response:
        sentence = problem()
        return web.Response(text=sentence or "ok", status=503 if sentence else 200)

    async with _serve(port, "/healthz", healthz):
        yield


@asynccontextmanager
async def serve_metrics(
    port: int | None, exposition: Callable[[], str], content_type: str
) -> AsyncIterator[None]:
    """Answer /metrics; None: no server."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition().encode(), headers={"Content-Type": content_type})

    async with _serve(port, "/metrics", metrics):
        yield


@asynccontextmanager
async def _serve(port: int | None, path: str, handler: Handler) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if port is not None:
            app = web.Application()
            app.router.add_get(path, handler)
            runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, None, port).start()
        yield
