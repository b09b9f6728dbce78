"""Reading a snapshot: what each kind says, and that nothing odd in an object stops the reading."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.api.spec import ModelDeploymentSpec
from plimsoll.manifests import labels
from plimsoll.reconcile.observed import (
    Claim,
    ConfigMap,
    Identity,
    Job,
    JobPhase,
    Observed,
    Pod,
    Server,
    Service,
    observe,
    references,
)
from plimsoll.reconcile.reports import Progress

Json = dict[str, Any]


def item(kind: str, **more: Any) -> Json:
    return {"kind": kind, "metadata": {"name": "x", "uid": "u"}} | more


def scaled_by(manager: str, **more: Any) -> Json:
    entry = {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    metadata = {"name": "x", "uid": "u", "managedFields": [entry | more]}
    return item("Deployment", metadata=metadata, spec={"replicas": 3})


ID = Identity(name="x", uid="u")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(item("Job"), Observed(jobs=(Job(id=ID),)), id="a new Job is active"),
        pytest.param(
            item("Job", status={"conditions": [{"type": "Complete", "status": "True"}]}),
            Observed(jobs=(Job(id=ID, phase=JobPhase.COMPLETE),)),
            id="a complete Job",
        ),
        pytest.param(
            item("Job", status={"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}),
            Observed(jobs=(Job(id=ID),)),
            id="a Job whose pods still end is active",
        ),
        pytest.param(
            item("Job", status={"conditions": [{"type": "Failed", "status": "True", "message": "no"}]}),
            Observed(jobs=(Job(id=ID, phase=JobPhase.FAILED, message="no"),)),
            id="a failed Job",
        ),
        pytest.param(
            item("Job", metadata={"name": "x", "uid": "u", "deletionTimestamp": "2026-11-21T10:00:00Z"}),
            Observed(jobs=(Job(id=Identity(name="x", uid="u", deleting=True)),)),
            id="a Job on its way out",
        ),
        pytest.param(
            item(
                "Deployment",
                metadata={"name": "x", "uid": "u", "generation": 2, "labels": {labels.REVISION: "r1"}},
                spec={"replicas": 3},
                status={"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 3},
            ),
            Observed(
                servers=(
                    Server(
                        id=Identity(name="x", uid="u", revision="r1"),
                        wanted=3,
                        ready=2,
                        updated=3,
                        current=False,
                    ),
                )
            ),
            id="a Deployment whose controller is behind",
        ),
        pytest.param(
            scaled_by("kube-controller-manager", subresource="scale"),
            Observed(servers=(Server(id=ID, wanted=3, scaled_by="kube-controller-manager"),)),
            id="an autoscaler owns replicas",
        ),
        pytest.param(
            scaled_by("kubectl", subresource="scale"),
            Observed(servers=(Server(id=ID, wanted=3),)),
            id="kubectl scale is an edit by hand",
        ),
        pytest.param(
            scaled_by("plimsoll", subresource="scale"),
            Observed(servers=(Server(id=ID, wanted=3),)),
            id="our own scaling is no autoscaler",
        ),
        pytest.param(
            scaled_by("kubectl-edit"),
            Observed(servers=(Server(id=ID, wanted=3),)),
            id="an edit of the Deployment is no autoscaler",
        ),
        pytest.param(
            item("Service", spec={"selector": {labels.REVISION: "r2"}}),
            Observed(services=(Service(id=Identity(name="x", uid="u", revision="r2")),)),
            id="a Service's revision is what it selects",
        ),
        pytest.param(
            item(
                "PersistentVolumeClaim",
                spec={
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "fast",
                    "resources": {"requests": {"storage": "2Gi"}},
                },
                status={"phase": "Bound"},
            ),
            Observed(
                claims=(
                    Claim(
                        id=ID,
                        phase="Bound",
                        access_modes=("ReadWriteOnce",),
                        storage_class="fast",
                        requested_bytes=2 * 2**30,
                    ),
                )
            ),
            id="a bound claim",
        ),
        pytest.param(
            item("ConfigMap", data={"b": ""}, binaryData={"a": ""}),
            Observed(config_maps=(ConfigMap(id=ID, keys=("a", "b")),)),
            id="a ConfigMap's keys",
        ),
        pytest.param(item("Secret", data={"token": "aGY="}), Observed(), id="other kinds are passed over"),
    ],
)
def test_a_kind_is_read(raw: Json, expected: Observed) -> None:
    assert expected == observe([raw])


def test_a_pod_tells_how_its_container_ended_before_the_restart() -> None:
    raw = item(
        "Pod",
        metadata={"name": "x", "uid": "u", "ownerReferences": [{"kind": "Job", "name": "j"}]},
        spec={"nodeName": "n1"},
        status={
            "phase": "Running",
            "containerStatuses": [
                {
                    "restartCount": 2,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "m"}},
                }
            ],
        },
    )

    expected = Pod(
        id=ID,
        job="j",
        phase="Running",
        node="n1",
        restarts=2,
        waiting_reason="CrashLoopBackOff",
        waiting_message="back-off",
        exit_code=137,
        exit_reason="OOMKilled",
        termination="m",
    )

    assert (expected,) == observe([raw]).pods


def test_the_newest_warning_about_a_claim_is_kept() -> None:
    def event(at: str, message: str, kind: str = "Warning") -> Json:
        return {
            "kind": "Event",
            "type": kind,
            "message": message,
            "metadata": {"name": at, "creationTimestamp": at},
            "involvedObject": {"kind": "PersistentVolumeClaim", "name": "x"},
        }

    observed = observe(
        [
            event("2026-11-21T10:00:02Z", "no such class"),
            event("2026-11-21T10:00:01Z", "older"),
            event("2026-11-21T10:00:03Z", "waiting for first consumer", "Normal"),
            item("PersistentVolumeClaim"),
        ]
    )

    assert observed.claims[0].problem == "no such class"


def test_the_owner_is_the_controller() -> None:
    owners = [{"uid": "a"}, {"uid": "b", "controller": True}]

    observed = observe([item("Job", metadata={"name": "x", "ownerReferences": owners})])

    assert observed.jobs[0].id.owner_uid == "b"


def test_progress_comes_from_the_log() -> None:
    observed = observe([], progress_log='{"kind":"progress","bytes":1,"total":2}')

    assert Progress(bytes=1, total=2) == observed.progress


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param(
            {
                "storage": {"existingClaim": "models"},
                "test": {"promptfoo": {"configMapRef": {"name": "suite"}}},
            },
            (("PersistentVolumeClaim", "models"), ("ConfigMap", "suite")),
            id="claim and suite",
        ),
    ],
)
def test_what_the_spec_refers_to_is_named(spec: Json, expected: tuple[tuple[str, str], ...]) -> None:
    assert expected == references(ModelDeploymentSpec.model_validate({"model": {"id": "a/b"}} | spec))


FULL: list[Json] = [
    {
        "kind": "Pod",
        "metadata": {"name": "x", "labels": {}, "ownerReferences": [{"kind": "Job", "name": "j"}]},
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "m"}],
            "containerStatuses": [
                {"restartCount": 1, "state": {"waiting": {"reason": "r"}}, "lastState": {"terminated": {}}}
            ],
        },
    },
    scaled_by("kube-controller-manager", subresource="scale"),
    item("PersistentVolumeClaim", spec={"accessModes": ["a"], "resources": {"requests": {"storage": "1Gi"}}}),
    item("Service", spec={"selector": {labels.REVISION: "r"}}),
    item("Job", status={"conditions": [{"type": "Failed", "status": "True", "message": "m"}]}),
    {"kind": "Event", "type": "Warning", "involvedObject": {"kind": "PersistentVolumeClaim", "name": "x"}},
]


@given(data=st.data())
def test_a_missing_or_null_field_never_stops_the_reading(data: st.DataObject) -> None:
    def thinned(value: Any) -> Any:
        if isinstance(value, dict):
            fates = {key: data.draw(st.sampled_from(["keep", "keep", "drop", "null"])) for key in value}
            return {
                key: None if fates[key] == "null" else thinned(inner)
                for key, inner in value.items()
                if fates[key] != "drop"
            }
        return [thinned(inner) for inner in value] if isinstance(value, list) else value

    full = data.draw(st.sampled_from(FULL))

    observed = observe([thinned(full) | {"kind": full["kind"]}])

    assert isinstance(observed, Observed)
