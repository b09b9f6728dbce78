"""The volume: who may share it, what cannot change, and what it means for a new revision."""

from __future__ import annotations

from typing import Any

import pytest
from lives import settled
from parts import MODEL, plan_for
from world import Script, World

Json = dict[str, Any]


def test_replicas_that_do_not_fit_one_node_are_refused_with_the_ways_out() -> None:
    world = settled()
    world.edit(replicas=5)
    world.settle()

    assert world.summary()["Sized"] == "False VolumeCannotBeShared"
    assert world.summary()["Stalled"] == "True VolumeCannotBeShared"
    assert world.of("Deployment")[0]["spec"]["replicas"] == 1
    message = world.condition("Sized")["message"]
    assert "5 replicas of 1 GPU need 5 GPUs on one node" in message
    assert "ReadWriteMany" in message
    assert "claim of its own" in message

    world.edit(replicas=4)
    world.settle()
    assert world.summary()["Ready"] == "True Serving"


@pytest.mark.parametrize(
    ("storage", "refused"),
    [
        pytest.param({"accessModes": ["ReadWriteMany"]}, False, id="ReadWriteMany"),
        pytest.param({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}, False, id="both"),
        pytest.param({"accessModes": ["ReadWriteOnce"]}, True, id="ReadWriteOnce"),
        pytest.param({"accessModes": ["ReadWriteOncePod"]}, True, id="ReadWriteOncePod"),
        pytest.param(None, True, id="unset"),
    ],
)
def test_only_a_volume_of_one_node_bounds_the_replicas(storage: Json | None, refused: bool) -> None:
    spec: Json = {"model": {"id": MODEL}, "replicas": 8} | ({"storage": storage} if storage else {})
    world = settled(spec=spec)

    assert (world.summary()["Sized"] == "False VolumeCannotBeShared") == refused
    affinity = [
        "podAffinity" in item["spec"]["template"]["spec"].get("affinity", {})
        for item in world.of("Deployment")
    ]
    assert affinity == ([] if refused else [False])


def test_users_of_a_volume_of_one_node_are_kept_together() -> None:
    world = settled()

    children = [*world.of("Deployment"), *world.of("Job")]
    assert len(children) == 3
    for child in children:
        assert "podAffinity" in child["spec"]["template"]["spec"]["affinity"]


def test_one_pod_volumes_are_refused_for_a_single_replica_too() -> None:
    world = settled(spec={"model": {"id": MODEL}, "storage": {"accessModes": ["ReadWriteOncePod"]}})

    assert world.summary()["Sized"] == "False VolumeCannotBeShared"
    assert world.objects == {}


def test_an_existing_claim_is_waited_for_and_never_made() -> None:
    world = settled(spec={"model": {"id": MODEL}, "storage": {"existingClaim": "models"}})

    assert world.summary()["Ready"] == "False ClaimNotFound"
    assert world.of("Job") == []

    world.objects["PersistentVolumeClaim", "models"] = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "uid": "theirs", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"accessModes": ["ReadWriteMany"]},
    }
    world.settle()

    assert world.summary()["Ready"] == "True Serving"
    assert [name for kind, name in world.applied if kind == "PersistentVolumeClaim"] == []


def test_a_claim_keeps_what_cannot_change() -> None:
    world = settled(spec={"model": {"id": MODEL}, "storage": {"size": "100Gi", "storageClassName": "fast"}})
    world.edit(storage={"size": "50Gi", "storageClassName": "slow"})
    world.settle()

    (claim,) = world.of("PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == "100Gi"
    assert claim["spec"]["storageClassName"] == "fast"

    world.edit(storage={"size": "200Gi"})
    world.settle()
    (claim,) = world.of("PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == "200Gi"


def test_a_claim_on_its_way_out_is_waited_for() -> None:
    world = World()
    world.step()
    world.play()
    (claim,) = world.of("PersistentVolumeClaim")
    claim["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    decision = world.step()

    assert world.summary()["Downloaded"] == "False VolumePending"
    assert [m["kind"] for m in decision.apply if m["kind"] == "PersistentVolumeClaim"] == []


def test_a_new_revision_without_room_beside_the_old_says_so_and_the_old_serves() -> None:
    world = settled()
    old = world.status["revision"]["hash"]
    world.script = Script(engine=lambda revision: "ready" if revision == old else "unschedulable")
    world.edit(engine={"maxModelLen": 8192})
    world.settle()

    message = world.condition("Loaded")["message"]
    assert f"Revision {old} keeps serving on node a10-1" in message
    assert "1 free GPU on it" in message
    assert world.summary()["Available"] == "True ServingLastGood"
    assert world.summary()["Ready"] == "False Unschedulable"


def test_a_replica_over_several_nodes_needs_a_shared_volume() -> None:
    world = settled(sizing=lambda deployment: plan_for(deployment, nodes=2, gpus=16))

    assert world.summary()["Sized"] == "False VolumeCannotBeShared"
    assert "2 nodes" in world.condition("Sized")["message"]
