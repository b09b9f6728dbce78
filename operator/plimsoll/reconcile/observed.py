"""The snapshot that `decide` looks at: frozen values, read from raw API objects by `observe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from plimsoll.manifests import labels
from plimsoll.manifests.suite import SUITE_KEY
from plimsoll.reconcile.reports import Progress, parse_progress
from plimsoll.units import QuantityError, parse_bytes

if TYPE_CHECKING:
    from plimsoll.api.spec import ModelDeploymentSpec
    from plimsoll.reconcile.measured import EngineReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What every child has.

    Attributes:
        owner_uid: of the controlling owner reference; None: nobody's (a retained volume, an orphan).
        revision: value of the label plimsoll.dev/revision; for a Service, the revision that it selects.
        component: value of the label plimsoll.dev/component.
        created: creationTimestamp as text; RFC 3339 in UTC, so it compares as text.
        attempt: value of the annotation plimsoll.dev/replan on a Job.
    """

    name: str
    uid: str = ""
    owner_uid: str | None = None
    revision: str | None = None
    component: str | None = None
    created: str = ""
    attempt: str | None = None
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A PersistentVolumeClaim, ours or the one that storage.existingClaim names.

    Attributes:
        phase: Pending, Bound or Lost.
        requested_bytes: spec.resources.requests.storage.
        problem: the newest warning about it, where Events were handed in.
    """

    id: Identity
    phase: str = "Pending"
    access_modes: tuple[str, ...] = ()
    storage_class: str | None = None
    requested_bytes: int = 0
    problem: str | None = None


class JobPhase(StrEnum):
    """Where a Job stands."""

    ACTIVE = "Active"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A download or test Job.

    Attributes:
        message: of the condition Failed.
    """

    id: Identity
    phase: JobPhase = JobPhase.ACTIVE
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The Deployment of one revision.

    Attributes:
        wanted: spec.replicas.
        ready: status.readyReplicas.
        updated: status.updatedReplicas.
        current: whether the Deployment controller has seen this generation.
        scaled_by: the field manager that owns spec.replicas through the scale subresource (an autoscaler).
        deadline_exceeded: condition Progressing is False for that reason.
        replica_failure: message of the condition ReplicaFailure (quota, Pod Security, an admission webhook).
    """

    id: Identity
    wanted: int = 1
    ready: int = 0
    updated: int = 0
    current: bool = True
    scaled_by: str | None = None
    deadline_exceeded: bool = False
    replica_failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service; `id.revision` is what its selector names."""

    id: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap:
    """A ConfigMap: ours, or the one that test.promptfoo.configMapRef names.

    Attributes:
        suite: the promptfoo configuration in it.
    """

    id: Identity
    keys: tuple[str, ...] = ()
    suite: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of ours.

    Attributes:
        job: name of the Job that made it.
        phase: Pending, Running, Succeeded, Failed or Unknown.
        unschedulable: what the scheduler said.
        waiting_reason, waiting_message: of the first container that waits.
        exit_code, exit_reason: of the last container that ended, before a restart or for good.
        termination: the termination message that it left.
        log: the end of the log of the container that ended, where it was read.
        address: its IP address, once it runs.
    """

    id: Identity
    job: str | None = None
    phase: str = "Pending"
    node: str | None = None
    ready: bool = False
    restarts: int = 0
    unschedulable: str | None = None
    waiting_reason: str | None = None
    waiting_message: str | None = None
    exit_code: int | None = None
    exit_reason: str | None = None
    termination: str | None = None
    log: str | None = None
    address: str | None = None

    @property
    def ended(self) -> bool:
        """Whether no container of it runs or will run."""
        return self.phase in {"Succeeded", "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is there.

    Attributes:
        engine: what the engine of a revision reported, where it was read.
    """

    claims: tuple[Claim, ...] = ()
    jobs: tuple[Job, ...] = ()
    servers: tuple[Server, ...] = ()
    services: tuple[Service, ...] = ()
    config_maps: tuple[ConfigMap, ...] = ()
    pods: tuple[Pod, ...] = ()
    progress: Progress | None = None
    engine: EngineReport | None = None


def references(spec: ModelDeploymentSpec) -> tuple[tuple[str, str], ...]:
    """(kind, name) of the objects that are the user's own, but that `decide` has to see: hand them to `observe`."""
    found: list[tuple[str, str]] = []
    if spec.storage is not None and spec.storage.existing_claim is not None:
        found.append(("PersistentVolumeClaim", spec.storage.existing_claim))
    promptfoo = spec.test.promptfoo if spec.test is not None else None
    if promptfoo is not None and promptfoo.config_map_ref is not None:
        found.append(("ConfigMap", promptfoo.config_map_ref.name))
    return tuple(found)


def observe(
    objects: Sequence[Mapping[str, Any]],
    *,
    progress_log: str | None = None,
    engine: EngineReport | None = None,
    engine_logs: Mapping[str, str] = MappingProxyType({}),
) -> Observed:
    """Read a snapshot from raw API objects; kinds that are none of ours are passed over.

    Args:
        objects: the children by label, what `references` names, and, if at hand, core/v1 Events on claims.
        progress_log: the end of the running download's log.
        engine: what the engine reported.
        engine_logs: the end of the log of a container that ended, by the name of its pod.
    """
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for item in sorted(objects, key=_age_and_name):
        by_kind.setdefault(str(item.get("kind", "")), []).append(item)
    problems = _claim_problems(by_kind.get("Event", ()))
    return Observed(
        claims=tuple(_claim(item, problems) for item in by_kind.get("PersistentVolumeClaim", ())),
        jobs=tuple(_job(item) for item in by_kind.get("Job", ())),
        servers=tuple(_server(item) for item in by_kind.get("Deployment", ())),
        services=tuple(_service(item) for item in by_kind.get("Service", ())),
        config_maps=tuple(_config_map(item) for item in by_kind.get("ConfigMap", ())),
        pods=tuple(_pod(item, engine_logs) for item in by_kind.get("Pod", ())),
        progress=parse_progress(progress_log),
        engine=engine,
    )


def _map(item: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at a path, or an empty one."""
    value: Any = item
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _list(item: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    value = item.get(key)
    return tuple(entry for entry in value if isinstance(entry, Mapping)) if isinstance(value, list) else ()


def _age_and_name(item: Mapping[str, Any]) -> tuple[str, str]:
    metadata = _map(item, "metadata")
    return str(metadata.get("creationTimestamp") or ""), str(metadata.get("name") or "")


def _identity(item: Mapping[str, Any], revision: str | None = None) -> Identity:
    metadata = _map(item, "metadata")
    labels_here = _map(metadata, "labels")
    owners = [owner for owner in _list(metadata, "ownerReferences") if owner.get("controller")]
    return Identity(
        name=str(metadata.get("name") or ""),
        uid=str(metadata.get("uid") or ""),
        owner_uid=str(owners[0].get("uid")) if owners else None,
        revision=revision or labels_here.get(labels.REVISION),
        component=labels_here.get(labels.COMPONENT),
        created=str(metadata.get("creationTimestamp") or ""),
        attempt=_map(metadata, "annotations").get(labels.REPLAN),
        deleting=metadata.get("deletionTimestamp") is not None,
    )


def _condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    for condition in _list(_map(item, "status"), "conditions"):
        if condition.get("type") == kind:
            return condition
    return {}


def _claim_problems(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The newest warning per claim: events come oldest first."""
    found: dict[str, str] = {}
    for event in events:
        about = _map(event, "involvedObject")
        if about.get("kind") == "PersistentVolumeClaim" and event.get("type") == "Warning":
            found[str(about.get("name"))] = str(event.get("message") or "")
    return found


def _claim(item: Mapping[str, Any], problems: Mapping[str, str]) -> Claim:
    spec, identity = _map(item, "spec"), _identity(item)
    try:
        requested = parse_bytes(_map(spec, "resources", "requests").get("storage") or 0)
    except QuantityError:
        requested = 0
    return Claim(
        id=identity,
        phase=str(_map(item, "status").get("phase") or "Pending"),
        access_modes=tuple(str(mode) for mode in spec.get("accessModes") or ()),
        storage_class=spec.get("storageClassName"),
        requested_bytes=requested,
        problem=problems.get(identity.name),
    )


def _job(item: Mapping[str, Any]) -> Job:
    phase, message = JobPhase.ACTIVE, ""
    failed = _condition(item, "Failed")
    if _condition(item, "Complete").get("status") == "True":
        phase = JobPhase.COMPLETE
    elif failed.get("status") == "True":
        phase, message = JobPhase.FAILED, str(failed.get("message") or "")
    return Job(id=_identity(item), phase=phase, message=message)


def _server(item: Mapping[str, Any]) -> Server:
    spec, status = _map(item, "spec"), _map(item, "status")
    replicas = spec.get("replicas")
    generation = _map(item, "metadata").get("generation") or 0
    failure = _condition(item, "ReplicaFailure")
    progressing = _condition(item, "Progressing")
    return Server(
        id=_identity(item),
        wanted=1 if replicas is None else replicas,
        ready=status.get("readyReplicas") or 0,
        updated=status.get("updatedReplicas") or 0,
        current=(status.get("observedGeneration") or 0) >= generation,
        scaled_by=_scaled_by(item),
        deadline_exceeded=(
            progressing.get("status") == "False" and progressing.get("reason") == "ProgressDeadlineExceeded"
        ),
        replica_failure=str(failure.get("message") or "") if failure.get("status") == "True" else None,
    )


def _scaled_by(item: Mapping[str, Any]) -> str | None:
    """The autoscaler that owns spec.replicas.

    An autoscaler writes through the scale subresource. A person's `kubectl scale` does so too, and is an
    edit by hand that the next apply takes back.
    """
    for entry in _list(_map(item, "metadata"), "managedFields"):
        manager = str(entry.get("manager") or "")
        if entry.get("subresource") != "scale" or manager == labels.FIELD_MANAGER:
            continue
        if manager.startswith("kubectl"):
            continue
        if "f:replicas" in _map(entry, "fieldsV1", "f:spec"):
            return manager
    return None


def _service(item: Mapping[str, Any]) -> Service:
    return Service(id=_identity(item, _map(item, "spec", "selector").get(labels.REVISION)))


def _config_map(item: Mapping[str, Any]) -> ConfigMap:
    keys = (*_map(item, "data"), *_map(item, "binaryData"))
    suite = _map(item, "data").get(SUITE_KEY)
    return ConfigMap(
        id=_identity(item), keys=tuple(sorted(keys)), suite=None if suite is None else str(suite)
    )


def _pod(item: Mapping[str, Any], logs: Mapping[str, str]) -> Pod:
    status = _map(item, "status")
    containers = (*_list(status, "initContainerStatuses"), *_list(status, "containerStatuses"))
    waiting = next((_map(c, "state", "waiting") for c in containers if _map(c, "state", "waiting")), {})
    ended = _ended(containers)
    scheduled = _condition(item, "PodScheduled")
    identity = _identity(item)
    owner = next((o for o in _list(_map(item, "metadata"), "ownerReferences") if o.get("kind") == "Job"), {})
    return Pod(
        id=identity,
        job=owner.get("name"),
        phase=str(status.get("phase") or "Pending"),
        node=_map(item, "spec").get("nodeName"),
        ready=_condition(item, "Ready").get("status") == "True",
        restarts=sum(int(container.get("restartCount") or 0) for container in containers),
        unschedulable=str(scheduled.get("message") or "") if scheduled.get("status") == "False" else None,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message"),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason"),
        termination=ended.get("message"),
        log=logs.get(identity.name),
        address=status.get("podIP") or None,
    )


def _ended(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """How a container ended: the state now, else the state before the last restart."""
    for state in ("state", "lastState"):
        for container in containers:
            terminated = _map(container, state, "terminated")
            if terminated:
                return terminated
    return {}
