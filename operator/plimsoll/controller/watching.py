"""kopf's part: it logs in, watches and hands over every event; nothing is decided here.

Only low-level event handlers are used, so that there are no finalizers, no annotations and no handling state
of the framework (docs/decisions/0002). What bites in kopf 1.45.2 is turned off in `kopf_settings`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import kopf

from plimsoll.cluster.connection import login_facts
from plimsoll.cluster.kinds import MODEL_DEPLOYMENT, NODE, RESOURCE_QUOTA, WATCHED_CHILDREN
from plimsoll.manifests import labels

if TYPE_CHECKING:
    from pathlib import Path

    from plimsoll.cluster.client import Object
    from plimsoll.cluster.kinds import Kind

WATCHED: Final = (MODEL_DEPLOYMENT, *WATCHED_CHILDREN, NODE, RESOURCE_QUOTA)
_SERVER_TIMEOUT_SECONDS: Final = 300  # whole: the API server reads no fractions

WATCH_CHECK_SECONDS: Final = 15.0


class WatchDiedError(Exception):
    """A kind is no longer watched: the process has to start anew."""


# What is told of an object, and whether it is gone.
Sink = Callable[["Kind", "Object", bool], None]


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf with everything off that would write to the cluster or watch what is not ours."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # events are ours, on transitions only
    settings.scanning.disabled = True  # the kinds are known: no watch on CRDs and namespaces
    settings.peering.standalone = True  # a Lease elects the leader
    settings.admission.managed = None  # the chart writes the webhook configurations
    settings.watching.server_timeout = _SERVER_TIMEOUT_SECONDS
    settings.watching.client_timeout = _SERVER_TIMEOUT_SECONDS + 10
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.process.ultimate_exiting_timeout = 30
    for kind in WATCHED_CHILDREN:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = labels.MODEL_DEPLOYMENT
    return settings


def dead_watches() -> tuple[str, ...]:
    """The kinds that nobody watches any more.

    A watch of kopf that fails for good ends its own task and nothing else: the process would live on, deaf.
    Source: kopf 1.45.2 names the tasks so, in its orchestration.
    """
    names = {task.get_name() for task in asyncio.all_tasks()}
    return tuple(
        kind.plural
        for kind in WATCHED
        if not any(name.startswith(f"watcher for {kind.plural}.") for name in names)
    )


async def guard_watches(*, check_seconds: float = WATCH_CHECK_SECONDS) -> None:
    """Look from time to time whether every kind is watched; never returns.

    Raises:
        WatchDiedError: one was not, twice in a row (kopf needs a moment to start them).
    """
    before: frozenset[str] = frozenset()
    while True:
        await asyncio.sleep(check_seconds)
        dead = frozenset(dead_watches())
        if dead & before:
            raise WatchDiedError(f"nobody watches {', '.join(sorted(dead & before))} any more")
        before = dead


def watching_registry(sink: Sink, kubeconfig: Path | None) -> kopf.OperatorRegistry:
    """Handlers that pass every event of every watched kind to the sink."""
    registry = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**await login_facts(kubeconfig))

    kopf.on.login(registry=registry, id="login", errors=kopf.ErrorsMode.PERMANENT)(login)
    for kind in WATCHED:
        _watch(registry, kind, sink)
    return registry


def _watch(registry: kopf.OperatorRegistry, kind: Kind, sink: Sink) -> None:
    async def passed_on(event: kopf.RawEvent, **_: Any) -> None:
        sink(kind, dict(event["object"]), event["type"] == "DELETED")

    kopf.on.event(
        group=kind.group,
        version=kind.version,
        plural=kind.plural,
        id=f"watch-{kind.plural}",
        registry=registry,
    )(passed_on)
