"""Stage: the requested revision's server and its private Service, and what keeps the engine from loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import Reason
from plimsoll.manifests.labels import Component
from plimsoll.manifests.resources import component_resources
from plimsoll.manifests.server import server_deployment
from plimsoll.manifests.service import private_service
from plimsoll.reconcile.decision import Scale
from plimsoll.reconcile.quoting import counted, quote, sentence
from plimsoll.reconcile.situation import (
    SERVER,
    Finding,
    Situation,
    Stage,
    find_server,
    foreign,
    no,
    paused,
    running_pods,
    yes,
)
from plimsoll.reconcile.volume import access_modes, bound_to_one_node, claim_name
from plimsoll.reconcile.words import PodWords, Trouble, trouble_of

if TYPE_CHECKING:
    from plimsoll.api.spec import ModelDeployment
    from plimsoll.reconcile.observed import Observed, Pod, Server

WORDS: Final = PodWords(
    who="The engine",
    failed=Reason.ENGINE_FAILED,
    image_field="engine.image",
    memory_field="resources.server.limits.memory",
    engine=True,
)


def server_stage(situation: Situation, *, downloaded: bool) -> Stage:
    """Deployment and private Service; True while the requested revision's engine answers behind that Service.

    A server that has begun is kept up although the download is looked at again: its files are there.
    """
    held = _held_name(situation)
    if held is not None:
        waits = f"The server waits until Deployment {held} of an earlier ModelDeployment of this name is gone"
        return Stage(finding=no(Reason.WAITING, f"{waits}; nothing is to be done."))
    server = situation.server(situation.revision)
    if server is None and not downloaded and paused(situation.deployment):
        return Stage(finding=suspended(situation.deployment))
    if server is None and not downloaded:
        return Stage(
            finding=no(Reason.WAITING, "The server waits for the download; see condition Downloaded.")
        )
    apply = (
        server_deployment(
            situation.context, situation.revision, situation.placement, _replicas(situation, server)
        ),
        private_service(situation.context, situation.revision),
    )
    return Stage(finding=_finding(situation, server), apply=apply)


def older_servers(
    deployment: ModelDeployment,
    observed: Observed,
    *,
    good: str | None,
    requested: str | None,
    grow: bool = True,
) -> tuple[Scale, ...]:
    """Servers of other revisions follow suspend, and the last good one follows replicas.

    Args:
        deployment: the ModelDeployment.
        observed: what is there.
        good: the revision that has the traffic.
        requested: the revision whose server is applied whole; None: none is.
        grow: whether a server may be given more than it has; False where that was found not to fit.
    """
    wanted = wanted_replicas(deployment)
    scales: list[Scale] = []
    for server in observed.servers:
        if server.id.deleting or foreign(deployment, server.id) or server.id.revision == requested:
            continue
        follows = server.id.revision == good and grow and (server.scaled_by is None or server.wanted == 0)
        if server.wanted != wanted and (wanted == 0 or follows):
            scales.append(Scale(name=server.id.name, replicas=wanted))
    return tuple(scales)


def wanted_replicas(deployment: ModelDeployment) -> int:
    """How many replicas each server of a revision in use has."""
    return 0 if paused(deployment) else deployment.spec.replicas


def settled(situation: Situation, pointed_at: str | None) -> bool:
    """Whether the servers are as they are wanted: all replicas up and in traffic, or all gone."""
    server = situation.server(situation.revision)
    if paused(situation.deployment):
        return not running_pods(situation.observed.pods, SERVER)
    if server is None or not server.current or pointed_at != situation.revision:
        return False
    wanted = server.wanted if server.scaled_by is not None else situation.deployment.spec.replicas
    return server.wanted == wanted and server.updated >= wanted and server.ready >= wanted


def server_pods(observed: Observed, revision: str) -> tuple[Pod, ...]:
    """The pods of one revision's server that have not ended."""
    return tuple(pod for pod in running_pods(observed.pods, SERVER) if pod.id.revision == revision)


def refused_length(deployment: ModelDeployment, observed: Observed, revision: str) -> int | None:
    """The context length in tokens that the engine of a revision suggests after it refused the planned one."""
    server = find_server(deployment, observed, revision)
    if server is None or server.ready > 0:
        return None
    trouble = trouble_of(server_pods(observed, revision), WORDS)
    return None if trouble is None else trouble.suggested_max_model_len


def _held_name(situation: Situation) -> str | None:
    for server in situation.observed.servers:
        if server.id.revision == situation.revision and foreign(situation.deployment, server.id):
            return server.id.name
    return None


def _replicas(situation: Situation, server: Server | None) -> int | None:
    """None leaves the field to the autoscaler that owns it; an autoscaler does nothing while it is zero."""
    wanted = wanted_replicas(situation.deployment)
    if wanted and server is not None and server.scaled_by is not None and server.wanted:
        return None
    return wanted


def _finding(situation: Situation, server: Server | None) -> Finding:
    if paused(situation.deployment):
        return suspended(situation.deployment)
    if server is None:
        return no(Reason.LOADING, "The server is being created; wait for its pods.")
    if server.ready > 0:
        return _loaded(situation, server)
    return _loading(situation, server)


def _loading(situation: Situation, server: Server) -> Finding:
    trouble = trouble_of(server_pods(situation.observed, situation.revision), WORDS)
    if trouble is not None:
        return no(trouble.reason, _said_of(situation, trouble))
    if server.replica_failure is not None:
        return _refused_pods(server.replica_failure)
    if server.deadline_exceeded:
        return no(
            Reason.ENGINE_FAILED,
            f"The engine of Deployment {server.id.name} did not become ready within its start-up budget; read "
            "its pods' logs and edit spec.engine.",
        )
    return no(
        Reason.LOADING,
        f"The engine of Deployment {server.id.name} loads the model; wait for its pods to become ready.",
    )


def _said_of(situation: Situation, trouble: Trouble) -> str:
    """The trouble's message, after what only the ModelDeployment tells of the node that is looked for."""
    if trouble.reason is not Reason.UNSCHEDULABLE:
        return trouble.message
    return f"{_shared_node_note(situation)}{_needs(situation)} {trouble.message}"


def _needs(situation: Situation) -> str:
    """What a node has to have free for one replica."""
    plan = situation.context.plan
    resources = component_resources(plan.resources, situation.deployment.spec, Component.SERVER)
    amounts = resources.to_json()["requests"]
    parts = [f"{amounts['cpu']} CPU", f"{amounts['memory']} of memory"]
    if plan.gpus:
        parts.insert(0, f"{plan.gpus} x {plan.hardware.product or plan.hardware.resource_name or 'GPU'}")
    return f"A replica needs {', '.join(parts)} free on one node."


def suspended(deployment: ModelDeployment) -> Finding:
    """Why nothing serves although nothing is wrong."""
    if deployment.spec.suspend:
        return no(
            Reason.SUSPENDED, "Suspended: the volume is kept, no server runs; set suspend to false to serve."
        )
    return no(
        Reason.SUSPENDED, "replicas is 0: the volume is kept, no server runs; set replicas to 1 to serve."
    )


def _loaded(situation: Situation, server: Server) -> Finding:
    plan = situation.context.plan
    return yes(
        Reason.ENGINE_READY,
        f"{server.ready} of {server.wanted} replicas of revision {situation.revision} answer behind Service "
        f"{server.id.name} with a context of {plan.max_model_len} tokens; see condition Tested.",
    )


def _refused_pods(message: str) -> Finding:
    said = sentence(quote(message))
    if "exceeded quota" in message:
        return no(
            Reason.QUOTA_EXCEEDED,
            f"The server's pods are refused: {said} Raise the ResourceQuota, or free what others hold of it.",
        )
    return no(
        Reason.ENGINE_FAILED,
        f"The server's pods are refused: {said} Change what the message names in the spec or in the namespace.",
    )


def _shared_node_note(situation: Situation) -> str:
    """What a ReadWriteOnce volume adds to an unschedulable pod while the last good revision runs."""
    if not bound_to_one_node(access_modes(situation.deployment, situation.claim)):
        return ""
    others = [
        pod
        for pod in running_pods(situation.observed.pods, SERVER)
        if pod.id.revision != situation.revision and pod.node is not None
    ]
    if not others:
        return ""
    gpus = situation.context.plan.gpus
    needs = f"{counted(gpus, 'free GPU')} on it" if gpus else "room on it"
    return (
        f"Revision {others[0].id.revision} keeps serving on node {others[0].node}, and the volume of claim "
        f"{claim_name(situation.deployment)} is ReadWriteOnce, so the new revision needs {needs} (or a "
        "ReadWriteMany claim in storage.existingClaim). "
    )
