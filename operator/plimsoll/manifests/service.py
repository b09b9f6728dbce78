"""The private Service of a revision, which the test calls, and the public one, which clients call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plimsoll.manifests import labels
from plimsoll.manifests.context import SERVED_PORT
from plimsoll.manifests.labels import Component
from plimsoll.manifests.names import public_service_name, server_name
from plimsoll.manifests.pod_template import metadata

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context

PORT_NAME = "http"


def private_service(ctx: Context, revision: str) -> dict[str, Any]:
    """The Service of one revision, there before the revision is good."""
    about = metadata(
        ctx, server_name(ctx.name, revision), labels.component(ctx.name, Component.SERVER, revision)
    )
    return _service(about, labels.server_selector(ctx.name, revision), SERVED_PORT)


def public_service(ctx: Context, revision: str) -> dict[str, Any]:
    """The Service that moves to a revision when it is good."""
    service = ctx.spec.service
    port = service.port if service is not None and service.port is not None else SERVED_PORT
    about = metadata(
        ctx, public_service_name(ctx.name), labels.component(ctx.name, Component.SERVER, revision)
    )
    return _service(about, labels.server_selector(ctx.name, revision), port)


def private_base_url(ctx: Context, revision: str) -> str:
    """Where the revision's API answers inside the cluster."""
    host = f"{server_name(ctx.name, revision)}.{ctx.deployment.namespace}.svc.{ctx.settings.cluster_domain}"
    return f"http://{host}:{SERVED_PORT}/v1"


def _service(about: dict[str, Any], selector: dict[str, str], port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about,
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": PORT_NAME, "port": port, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    }
