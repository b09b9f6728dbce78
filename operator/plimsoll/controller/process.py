"""The operator's process: connect, lead, learn what is there, watch and work; then leave in good order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, cast

import kopf

from plimsoll.cluster.apply import Applier
from plimsoll.cluster.client import ClusterClient
from plimsoll.cluster.connection import load_configuration
from plimsoll.cluster.probes import serve_health, serve_metrics
from plimsoll.cluster.store import Store
from plimsoll.controller.controller import Controller
from plimsoll.controller.election import Election, Terms
from plimsoll.controller.executor import Executor
from plimsoll.controller.measuring import Measuring
from plimsoll.controller.metrics import CONTENT_TYPE, Metrics
from plimsoll.controller.reconciler import Reconciler
from plimsoll.controller.sizer import Sizer
from plimsoll.controller.watching import guard_watches, kopf_settings, watching_registry
from plimsoll.hub.cache import HubCache
from plimsoll.hub.client import HubClient

if TYPE_CHECKING:
    from plimsoll.controller.options import OperatorOptions

_logger = logging.getLogger(__name__)

LEASE_NAME: Final = "plimsoll-operator"
# Reconciles under way at a shutdown may end; what does not end is done again by the next leader.
_DRAIN_SECONDS: Final = 5.0
# Less than what is left of the Lease when its renewal is given up.
_EXIT_SECONDS: Final = 4.0


async def run_operator(options: OperatorOptions) -> None:
    """Run until a signal, or until something that must run ends.

    Raises:
        NoConnectionError: there is no cluster to connect to.
        LeadershipLostError, WatchDiedError: the process has to end, and to be started anew.
    """
    configuration = await load_configuration(options.kubeconfig)
    metrics = Metrics()
    identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(ClusterClient(configuration, log=metrics))
        controller = _assemble(client, metrics, options, identity)
        await stack.enter_async_context(serve_health(options.liveness_port, controller.problem))
        await stack.enter_async_context(serve_metrics(options.metrics_port, metrics.exposition, CONTENT_TYPE))
        terms = Terms(name=LEASE_NAME, namespace=options.lease_namespace, identity=identity)
        election = Election(client, terms)
        stopped = _stop_on_signals()
        if not await _until(asyncio.create_task(election.acquire()), stopped):
            return
        try:
            await _lead(controller, election, stopped, options)
        finally:
            await election.release()


def _assemble(client: ClusterClient, metrics: Metrics, options: OperatorOptions, identity: str) -> Controller:
    store = Store()
    applier = Applier(client, store)
    hub = HubCache(HubClient(options.settings.hub_endpoint))
    sizer = Sizer(client=client, store=store, hub=hub, settings=options.settings, metrics=metrics)
    executor = Executor(client=client, store=store, applier=applier, metrics=metrics, identity=identity)
    measuring = Measuring()
    reconciler = Reconciler(
        client=client,
        store=store,
        sizer=sizer,
        executor=executor,
        measuring=measuring,
        metrics=metrics,
        settings=options.settings,
    )
    controller = Controller(
        client=client, store=store, reconciler=reconciler, applier=applier, metrics=metrics, options=options
    )
    measuring.wake_with(controller.queue.add)
    return controller


async def _lead(
    controller: Controller, election: Election, stopped: asyncio.Event, options: OperatorOptions
) -> None:
    """Work for as long as we lead and nothing asks us to stop."""
    renewal = asyncio.create_task(election.renew(), name="renewal of the Lease")
    renewal.add_done_callback(_exit_when_lost)
    tasks = [renewal]
    try:
        if not await _until(asyncio.create_task(controller.fill()), stopped, renewal):
            _raise_first(tasks)
            return
        # The workers exist before kopf starts: it cancels every task that was made after it.
        workers = [asyncio.create_task(controller.work()) for _ in range(options.num_workers)]
        tasks += [
            *workers,
            asyncio.create_task(controller.resync(), name="resync"),
            asyncio.create_task(controller.relist(), name="relist"),
            asyncio.create_task(_wait(stopped), name="signal"),
            asyncio.create_task(_watch(controller, stopped, options), name="watches"),
            asyncio.create_task(guard_watches(), name="guard of the watches"),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        _raise_first(tasks)
        # Reconciles under way may end; no other is begun.
        controller.queue.close(drop_waiting=True)
        await asyncio.wait(workers, timeout=_DRAIN_SECONDS)
    finally:
        stopped.set()
        await _cancel(tasks)


def _exit_when_lost(renewal: asyncio.Task[None]) -> None:
    """Once the lead is lost another may write: what hangs in the shutdown must not go on for long."""
    if not renewal.cancelled():
        _logger.error("%s; ending", renewal.exception())
        asyncio.get_running_loop().call_later(_EXIT_SECONDS, os._exit, 1)


async def _watch(controller: Controller, stopped: asyncio.Event, options: OperatorOptions) -> None:
    _logger.info("watching %s", f"namespace {options.namespace}" if options.namespace else "all namespaces")
    await kopf.operator(
        registry=watching_registry(controller.saw, options.kubeconfig),
        settings=kopf_settings(),
        # Else kopf asks for the user's name, and a container's number may have none.
        identity=cast("Any", "plimsoll-operator"),
        standalone=True,
        clusterwide=options.namespace is None,
        namespaces=[options.namespace] if options.namespace else [],
        stop_flag=stopped,
    )


def _stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; kopf puts its own handlers in their place while it runs."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


async def _until(work: asyncio.Task[None], stopped: asyncio.Event, *others: asyncio.Task[None]) -> bool:
    """Wait for some work, unless a signal or one of the others comes first; whether it was done."""
    signalled = asyncio.create_task(_wait(stopped))
    await asyncio.wait([work, signalled, *others], return_when=asyncio.FIRST_COMPLETED)
    await _cancel([signalled])
    if not work.done():
        await _cancel([work])
        return False
    work.result()
    return True


async def _wait(stopped: asyncio.Event) -> None:
    await stopped.wait()


def _raise_first(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
