"""What every stage looks at, and what every stage answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from plimsoll.manifests import labels
from plimsoll.reconcile.decision import Deletion, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from plimsoll.api.conditions import Reason
    from plimsoll.api.spec import Gate, ModelDeployment
    from plimsoll.api.status import ModelDeploymentStatus
    from plimsoll.manifests.context import Context
    from plimsoll.manifests.placement import Placement
    from plimsoll.reconcile.observed import Claim, Identity, Job, Observed, Pod, Server

Truth = Literal["True", "False", "Unknown"]

DOWNLOAD: Final = labels.Component.DOWNLOAD
SERVER: Final = labels.Component.SERVER
TEST: Final = labels.Component.TEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The state of one stage: what its condition will say."""

    status: Truth
    reason: Reason
    message: str

    @property
    def holds(self) -> bool:
        """Whether the condition is True."""
        return self.status == "True"


def yes(reason: Reason, message: str) -> Finding:
    """A stage that is done."""
    return Finding(status="True", reason=reason, message=message)


def no(reason: Reason, message: str) -> Finding:
    """A stage that is not done."""
    return Finding(status="False", reason=reason, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage's answer: its condition, the children that it wants, and those that it wants gone."""

    finding: Finding
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Deletion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One ModelDeployment with a plan, and what is there of it.

    Attributes:
        revision, suite: hashes of what is wanted.
        claim: the model volume's claim; None: not there (yet).
        gate: with the default filled in.
    """

    deployment: ModelDeployment
    previous: ModelDeploymentStatus
    context: Context
    observed: Observed
    revision: str
    suite: str
    claim: Claim | None
    placement: Placement
    gate: Gate
    now: datetime

    @property
    def last_good(self) -> str | None:
        """The revision that the public Service was last given to."""
        return last_good(self.previous)

    @property
    def test_key(self) -> str:
        """What a test's result belongs to."""
        return f"{self.revision}-{self.suite}"

    @property
    def attempt(self) -> str | None:
        """The value of the annotation plimsoll.dev/replan: a failed Job runs again when it changes."""
        return self.deployment.annotations.get(labels.REPLAN)

    def server(self, revision: str | None) -> Server | None:
        """The server of a revision."""
        return find_server(self.deployment, self.observed, revision)


def last_good(status: ModelDeploymentStatus) -> str | None:
    """The revision that a status calls good."""
    return status.revision.last_good if status.revision is not None else None


def paused(deployment: ModelDeployment) -> bool:
    """Whether no server is wanted: suspended, or scaled to zero by hand."""
    return bool(deployment.spec.suspend) or deployment.spec.replicas == 0


def foreign(deployment: ModelDeployment, child: Identity) -> bool:
    """Whether a child belongs to another object: an earlier ModelDeployment of this name, being collected."""
    return child.owner_uid is not None and child.owner_uid != deployment.uid


def find_server(deployment: ModelDeployment, observed: Observed, revision: str | None) -> Server | None:
    """The server of a revision that is ours and stays."""
    for server in observed.servers:
        if server.id.revision == revision and not server.id.deleting and not foreign(deployment, server.id):
            return server
    return None


def jobs_of(situation: Situation, component: str) -> tuple[Job, ...]:
    """The Jobs of one stage, those of an earlier owner left out."""
    return tuple(
        job
        for job in situation.observed.jobs
        if job.id.component == component and not foreign(situation.deployment, job.id)
    )


def running_pods(pods: Iterable[Pod], component: str) -> tuple[Pod, ...]:
    """The pods of one stage that hold, or may yet hold, the volume."""
    return tuple(pod for pod in pods if pod.id.component == component and not pod.ended)


def name_of(manifest: Manifest) -> str:
    """metadata.name."""
    return str(manifest["metadata"]["name"])


def deletion(api_version: str, kind: str, child: Identity) -> Deletion:
    """The deletion of exactly this child, not of one that takes its name."""
    return Deletion(api_version=api_version, kind=kind, name=child.name, uid=child.uid or None)
