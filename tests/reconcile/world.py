"""A tiny pure cluster: it applies Decisions, plays the controllers by script, and hands out snapshots.

It knows just enough of Kubernetes to drive `decide` through a life: Jobs are immutable, deleting in the
background takes the pods along, a Deployment makes pods, a claim is bound, a Service keeps its selector.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from parts import ENGINE_PODS, JOB_PODS, MODEL, START, Json, ended, plan_for, stamp, test_message

from plimsoll.api.spec import ModelDeployment
from plimsoll.api.status import (
    ModelDeploymentStatus,
)
from plimsoll.manifests import labels
from plimsoll.manifests.context import Settings
from plimsoll.reconcile.decide import SizingOutcome, decide
from plimsoll.reconcile.decision import Decision, Deletion, Event
from plimsoll.reconcile.observed import Observed, observe
from plimsoll.reconcile.reports import DownloadReport, write

SETTINGS = Settings()


@dataclass
class Script:
    """How the simulated cluster behaves; each is asked with the child's revision label (None for downloads)."""

    engine: Callable[[str | None], str] = lambda _revision: "ready"
    download: Callable[[str | None], str] = lambda _revision: "complete"
    test: Callable[[str | None], str] = lambda _revision: "complete"
    volume: str = "Bound"


@dataclass
class World:
    """One namespace with one ModelDeployment."""

    spec: Json = field(default_factory=lambda: {"model": {"id": MODEL}})
    name: str = "mistral-7b"
    namespace: str = "team-a"
    annotations: dict[str, str] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    sizing: Callable[[ModelDeployment], SizingOutcome] = plan_for
    now: datetime = START
    uid: str = "uid-parent-1"
    generation: int = 1
    deleting: bool = False
    status: Json = field(default_factory=dict)
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    status_writes: int = 0
    applied: list[tuple[str, str]] = field(default_factory=list)
    services_seen: list[str | None] = field(default_factory=list)
    _serial: int = 0

    # What decide is given.

    @property
    def deployment(self) -> ModelDeployment:
        """The ModelDeployment as the API server holds it."""
        metadata: Json = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "generation": self.generation,
            "annotations": self.annotations,
        }
        if self.deleting:
            metadata["deletionTimestamp"] = "2026-11-21T11:00:00Z"
        return ModelDeployment.from_object({"metadata": metadata, "spec": self.spec})

    def previous(self) -> ModelDeploymentStatus:
        """The status as it was last written, through JSON as the API server keeps it."""
        return ModelDeploymentStatus.model_validate(json.loads(json.dumps(self.status)))

    def observed(self) -> Observed:
        """The snapshot."""
        return observe(copy.deepcopy(list(self.objects.values())))

    def decide(self) -> Decision:
        """One decision, not yet acted on."""
        deployment = self.deployment
        return decide(
            deployment, self.previous(), self.sizing(deployment), self.observed(), SETTINGS, self.now
        )

    # What the operator and the cluster do.

    def step(self) -> Decision:
        """Decide once and act on it, as the operator does: deletions, children, scales, status, events."""
        decision = self.decide()
        for deletion in decision.delete:
            self._delete(deletion)
        for manifest in decision.apply:
            self._apply(manifest)
        for scale in decision.scale:
            self.objects[("Deployment", scale.name)]["spec"]["replicas"] = scale.replicas
        if decision.status is not None:
            self.status = decision.status
            self.status_writes += 1
        self.events.extend(decision.events)
        public = self.objects.get(("Service", self.public_name))
        self.services_seen.append(public["spec"]["selector"][labels.REVISION] if public else None)
        self.now += timedelta(seconds=1)
        return decision

    def settle(self, limit: int = 40) -> Decision:
        """Let operator and cluster take turns until neither has anything to do."""
        for _ in range(limit):
            before = copy.deepcopy((self.objects, self.status))
            decision = self.step()
            self.play()
            if before == (self.objects, self.status):
                return decision
        raise AssertionError(f"not settled after {limit} turns: {self.summary()}")

    def edit(self, **changes: Any) -> None:
        """Edit fields of the spec; None removes one."""
        spec = copy.deepcopy(self.spec)
        for key, value in changes.items():
            if value is None:
                spec.pop(key, None)
            else:
                spec[key] = value
        if spec != self.spec:
            self.spec = spec
            self.generation += 1

    def remove(self, kind: str, name: str) -> None:
        """Somebody deletes a child."""
        self._delete(Deletion(api_version="", kind=kind, name=name))

    def play(self) -> None:
        """The controllers' turn."""
        for item in [*self.objects.values()]:
            if item["kind"] == "PersistentVolumeClaim":
                item["status"] = {"phase": self.script.volume}
            elif item["kind"] == "Deployment":
                self._play_deployment(item)
            elif item["kind"] == "Job":
                self._play_job(item)

    # What tests look at.

    @property
    def public_name(self) -> str:
        """The public Service's name."""
        return labels.label_value(self.name)

    def names(self, kind: str) -> list[str]:
        """Names of all objects of a kind."""
        return sorted(name for have, name in self.objects if have == kind)

    def revisions(self) -> set[str]:
        """Revisions that have a server."""
        return {item["metadata"]["labels"][labels.REVISION] for item in self.of("Deployment")}

    def of(self, kind: str) -> list[Json]:
        """All objects of a kind."""
        return [item for (have, _), item in sorted(self.objects.items()) if have == kind]

    def job(self, component: str) -> Json:
        """The one Job of a stage."""
        (job,) = [
            item for item in self.of("Job") if item["metadata"]["labels"][labels.COMPONENT] == component
        ]
        return job

    def condition(self, kind: str) -> Json:
        """One condition; empty where it is absent."""
        for condition in self.status.get("conditions", ()):
            if condition["type"] == kind:
                return dict(condition)
        return {}

    def summary(self) -> dict[str, str]:
        """Every condition as "True Reason"."""
        return {c["type"]: f"{c['status']} {c['reason']}" for c in self.status.get("conditions", ())}

    def public_revision(self) -> str | None:
        """Where the public Service points."""
        public = self.objects.get(("Service", self.public_name))
        return public["spec"]["selector"][labels.REVISION] if public else None

    def take_events(self) -> list[str]:
        """Events since the last call, as "Normal Reason"."""
        taken = [f"{event.type} {event.reason}" for event in self.events]
        self.events.clear()
        return taken

    # Kubernetes, in small.

    def _uid(self) -> str:
        self._serial += 1
        return f"uid-{self._serial}"

    def _apply(self, manifest: Json) -> None:
        manifest = copy.deepcopy(manifest)
        key = (manifest["kind"], manifest["metadata"]["name"])
        self.applied.append(key)
        old = self.objects.get(key)
        if old is None:
            manifest["metadata"] |= {
                "uid": self._uid(),
                "creationTimestamp": stamp(self.now),
                "generation": 1,
            }
            if manifest["kind"] == "Deployment":
                manifest["spec"].setdefault("replicas", 1)
            self.objects[key] = manifest
            return
        if manifest["kind"] == "Job":
            assert old["spec"] == manifest["spec"], "a Job is immutable"
        if manifest["kind"] == "Deployment" and "replicas" not in manifest["spec"]:
            manifest["spec"]["replicas"] = old["spec"]["replicas"]
        for name in ("uid", "creationTimestamp", "generation", "managedFields", "deletionTimestamp"):
            if name in old["metadata"]:
                manifest["metadata"][name] = old["metadata"][name]
        if old.get("spec") != manifest.get("spec"):
            manifest["metadata"]["generation"] += 1
        if "status" in old:
            manifest["status"] = old["status"]
        self.objects[key] = manifest

    def _delete(self, deletion: Deletion) -> None:
        key = (deletion.kind, deletion.name)
        item = self.objects.get(key)
        if item is None or (deletion.uid is not None and item["metadata"]["uid"] != deletion.uid):
            return
        del self.objects[key]
        for pod_key, pod in [*self.objects.items()]:
            if pod_key[0] == "Pod" and pod["metadata"]["ownerReferences"][0]["name"] == deletion.name:
                del self.objects[pod_key]

    def _pod(self, owner: Json, index: int, status: Json, node: str | None) -> None:
        name = f"{owner['metadata']['name']}-{index}"
        kept = self.objects.get(("Pod", name), {}).get("metadata", {})
        self.objects["Pod", name] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "uid": kept.get("uid") or self._uid(),
                "creationTimestamp": kept.get("creationTimestamp") or stamp(self.now),
                "labels": owner["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [
                    {"kind": owner["kind"], "name": owner["metadata"]["name"], "controller": True}
                ],
            },
            "spec": {"nodeName": node} if node else {},
            "status": status,
        }

    def _play_deployment(self, item: Json) -> None:
        wanted = item["spec"]["replicas"]
        name = item["metadata"]["name"]
        behaviour = self.script.engine(item["metadata"]["labels"].get(labels.REVISION))
        for key in [key for key in self.objects if key[0] == "Pod"]:
            owner = self.objects[key]["metadata"]["ownerReferences"][0]
            if owner["name"] == name and int(key[1].rsplit("-", 1)[1]) >= wanted:
                del self.objects[key]
        for index in range(wanted):
            node = None if behaviour == "unschedulable" else "a10-1"
            self._pod(item, index, ENGINE_PODS[behaviour], node)
        ready = wanted if behaviour == "ready" else 0
        item["status"] = {
            "observedGeneration": item["metadata"]["generation"],
            "readyReplicas": ready,
            "updatedReplicas": wanted,
        }

    def _play_job(self, item: Json) -> None:
        component = item["metadata"]["labels"][labels.COMPONENT]
        revision = item["metadata"]["labels"].get(labels.REVISION)
        script = self.script.download if component == "download" else self.script.test
        behaviour = script(revision)
        good = (
            test_message(0)
            if component == "test"
            else write(DownloadReport(bytes=14 * 2**30, files=9, commit="c" * 40))
        )
        if behaviour == "complete":
            item["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
            self._pod(item, 0, ended(0, good), "a10-1")
        elif behaviour.startswith("fail"):
            code, _, message = behaviour.removeprefix("fail:").partition(":")
            item["status"] = {
                "conditions": [{"type": "Failed", "status": "True", "message": "Job has reached its limit"}]
            }
            self._pod(item, 0, ended(int(code), message), "a10-1")
        else:
            item["status"] = {"active": 1}
            self._pod(item, 0, JOB_PODS[behaviour], "a10-1" if behaviour == "run" else None)
