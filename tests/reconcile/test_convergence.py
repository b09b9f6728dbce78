"""Suspended, scaled, deleted, edited by hand, made anew: whatever is done to the children, it converges."""

from __future__ import annotations

import pytest
from lives import READY, failing, ready_world, the_hash
from parts import MODEL
from world import Script, World

from plimsoll.manifests import labels

STAGES = ["sized", "downloading", "loading", "testing", "ready"]

LONG = "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 61


def test_suspend_keeps_the_volume_and_the_service_and_resume_tests_nothing_again() -> None:
    world = ready_world()
    world.edit(suspend=True)
    world.settle()

    assert world.summary() == {
        "Sized": "True Planned",
        "Downloaded": "True DownloadComplete",
        "Loaded": "False Suspended",
        "Tested": "True Passed",
        "Available": "False Suspended",
        "Ready": "False Suspended",
    }
    assert world.names("PersistentVolumeClaim") == ["mistral-7b-model"]
    assert world.public_revision() == the_hash(world)
    assert [item["spec"]["replicas"] for item in world.of("Deployment")] == [0]
    assert world.take_events() == ["Normal Suspended"]

    world.edit(suspend=None)
    world.applied.clear()
    world.settle()

    assert world.summary() == READY
    assert [kind for kind, _ in world.applied if kind == "Job"] == []


def test_suspend_scales_the_last_good_server_too() -> None:
    world = ready_world()
    world.script = Script(test=lambda _: "run")
    world.edit(engine={"maxModelLen": 8192})
    world.settle()
    assert len(world.of("Deployment")) == 2

    world.edit(suspend=True)
    world.settle()

    assert [item["spec"]["replicas"] for item in world.of("Deployment")] == [0, 0]
    assert world.summary()["Ready"] == "False Suspended"
    running = [job for job in world.of("Job") if job["status"].get("active")]
    assert running == []

    world.script = Script()
    world.edit(suspend=None)
    world.settle()

    assert world.summary() == READY


def test_suspended_from_the_start_downloads_and_serves_nothing() -> None:
    world = World(spec={"model": {"id": MODEL}, "suspend": True})
    world.settle()

    assert world.summary() == {
        "Sized": "True Planned",
        "Downloaded": "True DownloadComplete",
        "Loaded": "False Suspended",
        "Tested": "False Suspended",
        "Available": "False Suspended",
        "Ready": "False Suspended",
    }
    assert world.of("Pod") == [pod for pod in world.of("Pod") if "download" in pod["metadata"]["name"]]


@pytest.mark.parametrize("change", [{"suspend": True}, {"replicas": 0}], ids=["suspend", "replicas 0"])
def test_what_asks_for_no_server_reads_as_suspended(change: dict[str, object]) -> None:
    world = ready_world()
    world.edit(**change)
    world.settle()

    assert world.summary()["Ready"] == "False Suspended"
    assert {"Stalled", "Reconciling"}.isdisjoint(world.summary())


def test_scaling_tests_nothing_again_and_reconciles_until_all_replicas_are_up() -> None:
    world = ready_world()
    world.edit(replicas=3)
    world.step()
    decision = world.step()

    assert world.summary()["Ready"] == "True Serving"
    assert world.summary()["Reconciling"] == "True Progressing"
    assert decision.requeue_after_seconds is not None

    world.settle()

    assert world.summary() == READY
    assert world.status["replicas"] == 3
    assert [kind for kind, _ in world.applied if kind == "Job"] == []


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ConfigMap", "Job", "PersistentVolumeClaim"])
def test_deleted_children_come_back_and_the_model_is_ready_again(kind: str) -> None:
    world = ready_world()
    before = {name: sorted(world.names(name)) for name in ("Deployment", "Service", "PersistentVolumeClaim")}
    for name in world.names(kind):
        world.remove(kind, name)
    world.settle()

    assert world.summary() == READY
    assert before == {name: sorted(world.names(name)) for name in before}
    assert world.names("ConfigMap") != []


def test_a_passed_test_is_not_run_again_when_its_job_is_cleaned_away() -> None:
    world = ready_world()
    world.remove("Job", world.job("test")["metadata"]["name"])
    world.settle()

    assert [name for kind, name in world.applied if kind == "Job"] == []
    assert world.status["test"]["passed"] == 5


def test_a_failed_test_whose_job_somebody_deletes_is_run_again() -> None:
    world = World(script=failing("none"))
    world.settle()
    world.script = Script()
    world.remove("Job", world.job("test")["metadata"]["name"])
    world.settle()

    assert world.summary() == READY


def test_a_volume_made_anew_is_filled_anew() -> None:
    world = ready_world()
    job = world.job("download")["metadata"]["uid"]
    world.remove("PersistentVolumeClaim", "mistral-7b-model")
    world.settle()

    assert world.job("download")["metadata"]["uid"] != job
    assert world.summary() == READY


def test_a_child_edited_by_hand_is_put_right() -> None:
    world = ready_world()
    (server,) = world.of("Deployment")
    server["spec"]["template"]["spec"]["hostNetwork"] = True
    public = world.objects["Service", "mistral-7b"]
    public["spec"]["selector"][labels.REVISION] = "elsewhere"
    world.settle()

    (server,) = world.of("Deployment")
    assert "hostNetwork" not in server["spec"]["template"]["spec"]
    assert world.public_revision() == the_hash(world)
    assert world.summary() == READY


def test_an_autoscaler_of_the_server_keeps_its_replicas_but_suspend_wins() -> None:
    world = ready_world()
    (server,) = world.of("Deployment")
    server["spec"]["replicas"] = 4
    server["metadata"]["managedFields"] = [
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "subresource": "scale",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
    ]
    world.settle()

    assert world.status["replicas"] == 4
    assert world.summary() == READY

    world.edit(suspend=True)
    world.settle()
    assert world.of("Deployment")[0]["spec"]["replicas"] == 0

    world.edit(suspend=None)
    world.settle()
    assert world.of("Deployment")[0]["spec"]["replicas"] == 1


def test_a_successor_waits_for_the_pods_of_the_job_that_it_replaces() -> None:
    world = World(script=Script(download=lambda _: "run"))
    world.settle()
    (pod,) = world.of("Pod")
    world.edit(model={"id": MODEL, "revision": "v2"})
    world.script = Script()

    first = world.step()
    # The Job is gone at once; its pod takes its time.
    world.objects["Pod", pod["metadata"]["name"]] = pod
    second = world.step()
    assert f"waits until pod {pod['metadata']['name']}" in world.condition("Downloaded")["message"]
    del world.objects["Pod", pod["metadata"]["name"]]
    third = world.step()

    assert [deletion.propagation for deletion in first.delete if deletion.kind == "Job"] == ["Background"]
    assert [m["kind"] for m in first.apply if m["kind"] == "Job"] == []
    assert [m["kind"] for m in second.apply if m["kind"] == "Job"] == []
    assert [m["kind"] for m in third.apply if m["kind"] == "Job"] == ["Job"]


@pytest.mark.parametrize("steps", range(len(STAGES)), ids=STAGES)
def test_a_deleted_one_is_left_alone_in_every_stage(steps: int) -> None:
    world = World()
    for _ in range(steps):
        world.step()
        world.play()
    world.deleting = True

    decision = world.decide()

    assert (decision.apply, decision.delete, decision.scale, decision.status, decision.events) == (
        (),
        (),
        (),
        None,
        (),
    )
    assert decision.requeue_after_seconds is None


def test_children_of_an_earlier_one_of_this_name_are_waited_out() -> None:
    world = ready_world()
    world.uid = "uid-parent-2"
    world.status, world.generation = {}, 1

    decision = world.step()

    made = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in decision.apply]
    assert made == []
    assert decision.delete == ()
    assert world.summary()["Ready"].startswith("False")

    world.objects.clear()  # the garbage collector's work
    world.settle()

    assert world.summary() == READY


@pytest.mark.parametrize("name", [LONG, "7b", "llama-3.1"], ids=["253 characters", "leading digit", "dots"])
def test_any_name_lives(name: str) -> None:
    world = ready_world(name=name)

    assert all(len(child) <= 63 for kind, child in world.objects if kind != "Pod")
    assert world.status["url"].startswith(f"http://{world.public_name}.team-a.svc.")


def test_two_of_the_same_name_in_two_namespaces_do_not_meet() -> None:
    first, second = ready_world(namespace="team-a"), ready_world(namespace="team-b", uid="uid-other")

    assert first.status["url"] != second.status["url"]
    for world in (first, second):
        assert {item["metadata"]["namespace"] for item in world.of("Deployment")} == {world.namespace}


def test_a_public_service_deleted_while_a_new_revision_fails_comes_back_with_the_last_good() -> None:
    world = ready_world()
    old = the_hash(world)
    world.script = failing(old)
    world.edit(engine={"maxModelLen": 8192})
    world.settle()
    world.remove("Service", world.public_name)
    world.settle()

    assert world.public_revision() == old
    assert old in world.revisions()
    assert world.summary()["Available"] == "True ServingLastGood"


@pytest.mark.parametrize("download", ["run", "fail:1:disk full"], ids=["runs", "failed"])
def test_suspended_comes_before_what_the_download_says(download: str) -> None:
    world = World(spec={"model": {"id": MODEL}, "suspend": True}, script=Script(download=lambda _: download))
    world.settle()

    assert world.summary()["Ready"] == "False Suspended"
    assert "Stalled" not in world.summary()
    assert world.summary()["Downloaded"].startswith("False Download")


def test_a_claim_that_goes_with_an_earlier_one_of_this_name_is_not_used() -> None:
    world = ready_world()
    claims = {key: item for key, item in world.objects.items() if key[0] == "PersistentVolumeClaim"}
    world.objects, world.uid, world.status = claims, "uid-parent-2", {}
    decision = world.step()

    assert world.summary()["Ready"] == "False VolumePending"
    assert "belongs to an earlier ModelDeployment" in world.condition("Ready")["message"]
    assert [m["kind"] for m in decision.apply if m["kind"] != "ConfigMap"] == []


def test_a_retained_claim_of_an_earlier_one_of_this_name_is_taken_over() -> None:
    world = ready_world(spec={"model": {"id": MODEL}, "storage": {"retain": True}})
    claims = {key: item for key, item in world.objects.items() if key[0] == "PersistentVolumeClaim"}
    uid = next(iter(claims.values()))["metadata"]["uid"]
    world.objects, world.uid, world.status = claims, "uid-parent-2", {}
    world.settle()

    assert world.summary() == READY
    assert world.of("PersistentVolumeClaim")[0]["metadata"]["uid"] == uid


def test_a_lost_status_is_found_again_from_the_children() -> None:
    world = ready_world()
    hash_ = the_hash(world)
    world.status = {}
    world.settle()

    assert world.summary() == READY
    assert world.status["revision"]["lastGood"] == hash_
    assert [kind for kind, _ in world.applied if kind == "Job"] == []
