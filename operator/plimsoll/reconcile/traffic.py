"""Stage: which revision the public Service points to, and what may go once it has moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll.api.conditions import Reason
from plimsoll.api.spec import Gate, ModelDeployment
from plimsoll.manifests.context import SERVED_PORT
from plimsoll.manifests.names import public_service_name
from plimsoll.manifests.service import public_service
from plimsoll.reconcile.situation import (
    Finding,
    Situation,
    deletion,
    find_server,
    no,
    paused,
    yes,
)

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context
    from plimsoll.reconcile.decision import Deletion, Manifest
    from plimsoll.reconcile.observed import Identity, Observed
    from plimsoll.reconcile.testing import Tested


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Where traffic goes.

    Attributes:
        good: the revision that the public Service is given; None: none was good yet.
        pointed_at: the revision that it selects now.
        ready: ready replicas of that revision.
    """

    good: str | None
    pointed_at: str | None
    ready: int

    @property
    def answers(self) -> bool:
        """Whether a request to the public Service is answered."""
        return self.pointed_at is not None and self.ready > 0


def direct(situation: Situation, *, loaded: bool, tested: Tested) -> Traffic:
    """Give traffic to the requested revision once it is good, and leave it where it was until then."""
    proven = situation.gate is not Gate.REQUIRED or tested.stage.finding.holds
    good = situation.revision if loaded and proven else situation.last_good
    return look(situation.deployment, situation.observed, good)


def look(deployment: ModelDeployment, observed: Observed, good: str | None) -> Traffic:
    """See where the public Service points now."""
    name = public_service_name(deployment.name)
    pointed_at = next((service.id.revision for service in observed.services if service.id.name == name), None)
    server = find_server(deployment, observed, pointed_at) if pointed_at is not None else None
    return Traffic(good=good, pointed_at=pointed_at, ready=server.ready if server is not None else 0)


def service_manifests(context: Context, traffic: Traffic) -> tuple[Manifest, ...]:
    """The public Service, from the first good revision on."""
    return (public_service(context, traffic.good),) if traffic.good is not None else ()


def url(context: Context, traffic: Traffic) -> str | None:
    """Where the public Service answers inside the cluster."""
    if traffic.good is None:
        return None
    deployment = context.deployment
    service = deployment.spec.service
    port = service.port if service is not None and service.port is not None else SERVED_PORT
    host = (
        f"{public_service_name(deployment.name)}.{deployment.namespace}.svc.{context.settings.cluster_domain}"
    )
    return f"http://{host}:{port}/v1"


def availability(deployment: ModelDeployment, traffic: Traffic, requested: str | None) -> Finding:
    """Whether the public Service answers, and with what."""
    if paused(deployment):
        return no(
            Reason.SUSPENDED, "No server runs, so nothing answers; set suspend to false and replicas to 1."
        )
    if traffic.good is None:
        return no(Reason.NOT_SERVING, "No revision was good yet, so there is no public Service; see Ready.")
    name = public_service_name(deployment.name)
    if traffic.pointed_at is None:
        return no(
            Reason.NOT_SERVING, f"Service {name} is being made for revision {traffic.good}; wait a moment."
        )
    if not traffic.answers:
        return no(
            Reason.NOT_SERVING,
            f"Service {name} has no ready replica of revision {traffic.pointed_at}; see conditions Loaded and Ready.",
        )
    if traffic.pointed_at != requested:
        return yes(
            Reason.SERVING_LAST_GOOD,
            f"Service {name} answers with the last good revision {traffic.pointed_at}; see Ready for what the "
            "requested one lacks.",
        )
    return yes(
        Reason.SERVING,
        f"Service {name} answers with revision {traffic.pointed_at}; send requests to status.url.",
    )


def superseded(situation: Situation, traffic: Traffic, suites: frozenset[str]) -> tuple[Deletion, ...]:
    """Servers, private Services and suites of revisions that are neither wanted nor serving."""
    keep = {situation.revision, traffic.good, traffic.pointed_at}
    observed = situation.observed
    public = public_service_name(situation.deployment.name)
    return (
        *(
            deletion("apps/v1", "Deployment", server.id)
            for server in observed.servers
            if server.id.revision not in keep and _ours(situation, server.id)
        ),
        *(
            deletion("v1", "Service", service.id)
            for service in observed.services
            if service.id.revision not in keep and service.id.name != public and _ours(situation, service.id)
        ),
        *(
            deletion("v1", "ConfigMap", item.id)
            for item in observed.config_maps
            if item.id.name not in suites and _ours(situation, item.id)
        ),
    )


def _ours(situation: Situation, child: Identity) -> bool:
    """Nothing is deleted that this very object does not own."""
    return child.owner_uid == situation.deployment.uid and not child.deleting


def serving_replicas(deployment: ModelDeployment, observed: Observed, revision: str | None) -> int:
    """Ready replicas of the revision that has the traffic, or of the one on its way."""
    server = find_server(deployment, observed, revision) if revision is not None else None
    return server.ready if server is not None else 0
