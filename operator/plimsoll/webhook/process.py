"""The webhook's process: kopf with admission handlers and nothing to watch."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import kopf

from plimsoll.cluster.client import ClusterClient, Limits
from plimsoll.cluster.connection import load_configuration, login_facts
from plimsoll.cluster.probes import serve_health
from plimsoll.hub.cache import HubCache
from plimsoll.hub.client import HubClient
from plimsoll.webhook.cached import CachedReads
from plimsoll.webhook.handlers import add_handlers
from plimsoll.webhook.modeldeployments import ModelDeploymentReview
from plimsoll.webhook.pods import PodReview
from plimsoll.webhook.server import AdmissionServer, Listen

if TYPE_CHECKING:
    from pathlib import Path

    from plimsoll.manifests.context import Settings

# An answer later than the API server waits for is of no use.
_REQUEST_SECONDS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOptions:
    """The webhook's settings; `settings` are the operator's."""

    settings: Settings
    listen: Listen
    kubeconfig: Path | None = None
    liveness_port: int | None = None


class NoMemories:
    """kopf's memory of objects, without memory.

    kopf keeps a record of every object that an UPDATE was reviewed of, until a watch tells that it is gone; a
    process without a watch would keep them for ever.
    """

    async def recall_memo(self, *_: Any, memobase: Any = None, **__: Any) -> Any:
        """What a handler may find under `memo`."""
        return memobase

    def iter_all_memories(self) -> tuple[()]:
        """None."""
        return ()

    def iter_all_daemon_memories(self) -> tuple[()]:
        """None."""
        return ()


async def run_webhook(options: WebhookOptions) -> None:
    """Serve until a signal.

    Raises:
        CertificateError: there is no usable certificate.
        NoConnectionError: there is no cluster to connect to.
    """
    server = AdmissionServer(options.listen)
    configuration = await load_configuration(options.kubeconfig)
    limits = Limits(timeout_seconds=_REQUEST_SECONDS, num_attempts=1)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(ClusterClient(configuration, limits=limits))
        await stack.enter_async_context(serve_health(options.liveness_port, server.problem))
        reads = CachedReads(client)
        hub = HubCache(HubClient(options.settings.hub_endpoint))
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.ConnectionInfo:
            return kopf.ConnectionInfo(**await login_facts(options.kubeconfig))

        kopf.on.login(registry=registry, id="login", errors=kopf.ErrorsMode.PERMANENT)(login)
        add_handlers(
            registry,
            PodReview(reads=reads, hub=hub),
            ModelDeploymentReview(reads=reads, hub=hub, settings=options.settings),
        )
        await kopf.operator(
            registry=registry,
            settings=_kopf_settings(server),
            memories=cast("Any", NoMemories()),
            # Else kopf asks for the user's name, and a container's number may have none.
            identity=cast("Any", "plimsoll-webhook"),
            standalone=True,
            clusterwide=True,
        )


def _kopf_settings(server: AdmissionServer) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.admission.server = server
    settings.admission.managed = None  # the chart writes the configurations
    settings.networking.request_timeout = 30
    settings.process.ultimate_exiting_timeout = 30
    return settings
