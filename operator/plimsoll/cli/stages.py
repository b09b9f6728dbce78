"""What the operator's decision makes when every stage succeeds: the children, without a cluster.

The same `decide` is asked again and again. After each answer the children that it wants are shown to it as a
cluster would have them once their stage has succeeded; when it wants nothing new, all of them are known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from plimsoll.api.status import ModelDeploymentStatus, PlanStatus
from plimsoll.manifests.suite import SUITE_KEY
from plimsoll.reconcile import reports
from plimsoll.reconcile.decide import decide
from plimsoll.reconcile.observed import observe, references

if TYPE_CHECKING:
    from plimsoll.api.spec import ModelDeployment
    from plimsoll.manifests.context import Settings

_STAGES: Final = 12  # more rounds than there are stages: decide settles in fewer, or it never would
# Nothing that is rendered may depend on the moment.
_THEN: Final = datetime(2000, 1, 1, tzinfo=UTC)
Manifest = dict[str, Any]


def children(deployment: ModelDeployment, plan: PlanStatus, settings: Settings) -> tuple[Manifest, ...]:
    """Every child that a successful life brings up, in the order in which they appear; the last form of each."""
    found: dict[tuple[str, str], Manifest] = {}
    status = ModelDeploymentStatus()
    world: list[Manifest] = _the_users_own(deployment)
    for _ in range(_STAGES):
        decision = decide(deployment, status, plan, observe(world), settings, _THEN)
        if decision.status is not None:
            status = ModelDeploymentStatus.model_validate(decision.status)
        before = dict(found)
        for manifest in decision.apply:
            found[manifest["kind"], manifest["metadata"]["name"]] = manifest
        world = [item for manifest in found.values() for item in succeeded(manifest, plan)]
        world += _the_users_own(deployment)
        if decision.status is None and before == found:
            break
    return tuple(found.values())


def _the_users_own(deployment: ModelDeployment) -> list[Manifest]:
    """What the spec refers to, as if it were there: a claim that is bound, a suite with its one key."""
    found: list[Manifest] = []
    for kind, name in references(deployment.spec):
        item: Manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
        if kind == "PersistentVolumeClaim":
            item |= {"spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Bound"}}
        else:
            item |= {"data": {SUITE_KEY: ""}}
        found.append(item)
    return found


def succeeded(manifest: Manifest, plan: PlanStatus) -> list[Manifest]:
    """The object, and the pod that it may have made, as a cluster shows them after their stage went well."""
    kind, metadata = manifest["kind"], manifest["metadata"]
    seen = {**manifest, "metadata": {"uid": f"uid-of-{metadata['name']}", "generation": 1, **metadata}}
    if kind == "PersistentVolumeClaim":
        return [{**seen, "status": {"phase": "Bound"}}]
    if kind == "Deployment":
        replicas = manifest["spec"].get("replicas", 1)
        counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas}
        return [{**seen, "status": {"observedGeneration": 1, "availableReplicas": replicas, **counts}}]
    if kind == "Job":
        complete = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
        return [{**seen, "status": complete}, _pod_of(seen, plan)]
    return [seen]


def _pod_of(job: Manifest, plan: PlanStatus) -> Manifest:
    """The pod of a Job that went well, with the termination message that our runners write."""
    template = job["spec"]["template"]
    owner = {"kind": "Job", "name": job["metadata"]["name"], "controller": True}
    owner["uid"] = job["metadata"]["uid"]
    component = template["metadata"]["labels"]["plimsoll.dev/component"]
    ended = {"exitCode": 0, "reason": "Completed", "message": _message(component, plan)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": f"{job['metadata']['name']}-pod",
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
        "status": {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": ended}}]},
    }


def _message(component: str, plan: PlanStatus) -> str:
    if component == "download":
        return reports.write(reports.DownloadReport(bytes=plan.download_bytes, files=1, commit=plan.commit))
    return reports.write(
        reports.TestReport(passed=1, failed=0, errors=0, total=1, proven_context=plan.max_model_len)
    )
