"""Whole lives of a ModelDeployment, walked step by step on the simulated cluster."""

from __future__ import annotations

import pytest
from lives import READY, failing, ready_world, the_hash
from parts import MODEL, START, stamp
from world import Script, World

from plimsoll.manifests import labels


def test_from_apply_to_ready() -> None:
    world = World()
    seen = []
    for _ in range(6):
        decision = world.step()
        world.play()
        seen.append(([m["kind"] for m in decision.apply], world.summary()["Ready"], world.take_events()))

    claim, job, suite = "PersistentVolumeClaim", "Job", "ConfigMap"
    server = ["Deployment", "Service"]
    assert seen == [
        ([claim, job, suite], "False Downloading", ["Normal Planned", "Normal Downloading"]),
        ([claim, *server, suite], "False Loading", ["Normal DownloadComplete", "Normal Loading"]),
        ([claim, *server, suite, job], "False Testing", ["Normal EngineReady", "Normal Testing"]),
        ([claim, *server, suite, "Service"], "False NotServing", ["Normal Passed"]),
        ([claim, *server, suite, "Service"], "True Serving", ["Normal Serving", "Normal Ready"]),
        ([claim, *server, suite, "Service"], "True Serving", []),
    ]
    assert world.summary() == READY
    assert world.status_writes == 5


def test_the_status_of_a_ready_one_says_all_that_others_read() -> None:
    world = ready_world()
    hash_ = the_hash(world)

    assert world.status["observedGeneration"] == 1
    assert world.status["revision"] == {
        "requested": "main",
        "resolved": world.status["plan"]["commit"],
        "hash": hash_,
        "lastGood": hash_,
    }
    assert world.status["url"] == "http://mistral-7b.team-a.svc.cluster.local:8000/v1"
    assert world.status["replicas"] == 1
    assert world.status["selector"] == (
        f"plimsoll.dev/model-deployment=mistral-7b,plimsoll.dev/component=server,plimsoll.dev/revision={hash_}"
    )
    assert world.status["download"] == {"bytes": 14 * 2**30, "total": 14 * 2**30}
    assert (world.status["test"]["passed"], world.status["test"]["provenContext"]) == (5, 32768)


def test_reconciling_is_there_until_ready_and_stalled_never() -> None:
    world = World()
    for _ in range(4):
        world.step()
        world.play()
        assert world.summary()["Reconciling"] == "True Progressing"
        assert "Stalled" not in world.summary()

    world.settle()

    assert {"Reconciling", "Stalled"}.isdisjoint(world.summary())


def test_transition_times_move_only_when_a_status_flips() -> None:
    world = World()
    world.step()
    world.play()
    world.step()

    assert world.condition("Sized")["lastTransitionTime"] == stamp(START)
    assert world.condition("Downloaded")["lastTransitionTime"] == "2026-11-21T10:00:01Z"


def test_an_edit_serves_the_last_good_until_the_new_revision_passed() -> None:
    world = ready_world()
    old = the_hash(world)
    pointed_at = []
    world.edit(model={"id": MODEL, "revision": "v2"})

    for _ in range(12):
        decision = world.step()
        world.play()
        pointed_at.append(world.public_revision())
        if decision.status is not None and world.summary()["Ready"].startswith("False"):
            assert world.condition("Available")["status"] == "True"
    new = the_hash(world)

    assert new != old
    assert pointed_at[0] == old
    assert pointed_at[-1] == new
    assert world.summary() == READY
    assert world.revisions() == {new}
    assert [name for name in world.names("Service") if old in name] == []
    assert "Normal TrafficMoved" in world.take_events()
    assert len(world.of("Job")) == 2


def test_the_old_server_goes_only_after_the_service_has_moved() -> None:
    world = ready_world()
    old = the_hash(world)
    world.edit(model={"id": MODEL, "revision": "v2"})

    for _ in range(12):
        pointed_at = world.public_revision()
        decision = world.step()
        for deletion in decision.delete:
            if deletion.kind in {"Deployment", "Service"}:
                assert pointed_at != old
        world.play()

    assert old not in world.revisions()


def test_a_revision_that_fails_its_test_never_takes_traffic() -> None:
    world = ready_world()
    old = the_hash(world)
    world.script = failing(old)
    world.edit(engine={"maxModelLen": 8192})
    world.settle()

    assert world.summary() == {
        "Sized": "True Planned",
        "Downloaded": "True DownloadComplete",
        "Loaded": "True EngineReady",
        "Tested": "False TestFailed",
        "Available": "True ServingLastGood",
        "Ready": "False TestFailed",
        "Stalled": "True TestFailed",
    }
    assert world.public_revision() == old
    assert world.revisions() == {old, the_hash(world)}
    assert world.status["revision"]["lastGood"] == old
    assert world.condition("Tested")["message"] == (
        "2 of 5 assertions failed (not-empty in 'case 0', not-empty in 'case 1'); read the report at "
        "reports/latest.json, then edit the spec, or set the annotation plimsoll.dev/replan to a new value to test "
        "again."
    )
    assert "Warning TestFailed" in world.take_events()


def test_a_failed_test_is_final_and_never_run_again_by_itself() -> None:
    world = World(script=failing("none"))
    world.settle()
    world.applied.clear()

    for _ in range(5):
        world.step()
        world.play()

    assert [kind for kind, _ in world.applied if kind == "Job"] == []
    assert world.summary()["Stalled"] == "True TestFailed"
    assert world.public_revision() is None
    assert world.status.get("url") is None


def test_going_back_to_the_last_good_revision_needs_no_new_test() -> None:
    world = ready_world()
    spec, old = world.spec, the_hash(world)
    world.script = failing(old)
    world.edit(engine={"maxModelLen": 8192})
    world.settle()
    world.applied.clear()

    world.edit(engine=spec.get("engine"))
    world.settle()

    assert world.summary() == READY
    assert world.revisions() == {old}
    assert [kind for kind, _ in world.applied if kind == "Job"] == []


def test_replan_runs_a_failed_test_again_once_the_old_job_is_gone() -> None:
    world = World(script=failing("none"))
    world.settle()
    name = world.job("test")["metadata"]["name"]

    world.script = Script()
    world.annotations = {labels.REPLAN: "1"}
    first = world.step()
    second = world.step()
    world.play()
    world.settle()

    assert [deletion.name for deletion in first.delete] == [name]
    assert name not in [manifest["metadata"]["name"] for manifest in first.apply]
    assert name in [manifest["metadata"]["name"] for manifest in second.apply]
    assert world.summary() == READY


def test_a_failed_download_is_final_until_replan() -> None:
    world = World(script=Script(download=lambda _: "fail:1:disk full"))
    world.settle()

    assert world.summary()["Ready"] == "False DownloadFailed"
    assert world.summary()["Stalled"] == "True DownloadFailed"
    assert world.of("Deployment") == []

    world.script = Script()
    world.annotations = {labels.REPLAN: "again"}
    world.settle()

    assert world.summary() == READY


def test_a_suite_that_changes_tests_the_serving_revision_again_and_keeps_it_serving() -> None:
    world = ready_world()
    old = the_hash(world)
    world.script = Script(test=lambda _: "run")
    world.edit(test={"promptfoo": {"tests": [{"vars": {"q": "1+1"}, "assert": [{"type": "contains"}]}]}})
    world.settle()

    assert the_hash(world) == old
    assert world.public_revision() == old
    assert world.summary()["Tested"] == "False Testing"
    assert world.summary()["Available"] == "True Serving"
    assert world.summary()["Ready"] == "False Testing"

    world.script = Script()
    world.settle()

    assert world.summary() == READY
    assert len(world.of("ConfigMap")) == 1


def test_gate_off_serves_when_loaded_and_tests_nothing() -> None:
    world = World(spec={"model": {"id": MODEL}, "test": {"gate": "Off"}})
    world.settle()

    assert world.summary() == READY | {"Tested": "Unknown GateOff"}
    assert [job["metadata"]["labels"][labels.COMPONENT] for job in world.of("Job")] == ["download"]
    assert world.of("ConfigMap") == []


def test_gate_report_only_serves_a_failing_revision_and_says_so() -> None:
    world = World(spec={"model": {"id": MODEL}, "test": {"gate": "ReportOnly"}}, script=failing("none"))
    world.settle()

    assert world.summary() == READY | {"Tested": "False TestFailed"}
    assert world.status["test"]["failed"] == 2


def test_gate_report_only_is_ready_only_after_the_test_has_ended() -> None:
    spec = {"model": {"id": MODEL}, "test": {"gate": "ReportOnly"}}
    world = World(spec=spec, script=Script(test=lambda _: "run"))
    world.settle()

    assert world.summary()["Available"] == "True Serving"
    assert world.summary()["Ready"] == "False Testing"


@pytest.mark.parametrize("gate", ["Off", "ReportOnly"])
def test_without_a_required_test_traffic_still_waits_for_the_engine(gate: str) -> None:
    world = World(spec={"model": {"id": MODEL}, "test": {"gate": gate}})
    world.settle()
    old = the_hash(world)
    world.script = Script(engine=lambda revision: "ready" if revision == old else "loading")
    world.edit(engine={"maxModelLen": 8192})
    world.settle()

    assert world.public_revision() == old
    assert world.summary()["Available"] == "True ServingLastGood"


def test_a_test_that_fails_again_after_replan_is_final_again() -> None:
    world = World(script=failing("none"), annotations={labels.REPLAN: "1"})
    world.settle()
    world.annotations = {labels.REPLAN: "2"}
    world.settle()
    world.applied.clear()
    for _ in range(5):
        world.step()
        world.play()

    assert [kind for kind, _ in world.applied if kind == "Job"] == []
    assert world.job("test")["metadata"]["annotations"][labels.REPLAN] == "2"


def test_a_new_reason_alone_moves_no_transition_time() -> None:
    world = World()
    world.step()
    world.play()
    assert world.summary()["Loaded"] == "False Waiting"
    world.step()

    assert world.summary()["Loaded"] == "False Loading"
    assert world.condition("Loaded")["lastTransitionTime"] == stamp(START)
