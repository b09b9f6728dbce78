"""The life of a ModelDeployment under the real operator, on a real control plane."""

from __future__ import annotations

import time

RESOURCE = "modeldeployments.plimsoll.dev"


def versions(world, name="m"):
    return {key: item["metadata"]["resourceVersion"] for key, item in world.children(name).items()}


def test_a_model_is_sized_downloaded_served_and_tested_with_few_writes(world):
    world.apply(world.manifest())
    body = world.wait_ready()
    world.settle()
    written = world.written()
    # One apply for each child: claim, download Job, suite, server, two Services, test Job. The claim takes a second
    # one, that owns the class and the modes which the cluster gave it.
    assert written.pop("status") <= 6
    assert written == {
        "PersistentVolumeClaim": 2,
        "Job": 2,
        "ConfigMap": 1,
        "Deployment": 1,
        "Service": 2,
    }, world.applies()
    status = body["status"]
    assert status["revision"]["lastGood"] == status["revision"]["hash"]
    assert "finalizers" not in body["metadata"]
    assert not [key for key in body["metadata"].get("annotations", {}) if "kopf" in key]


def test_a_reconcile_with_nothing_to_change_writes_nothing(world):
    world.apply(world.manifest())
    world.wait_ready()
    world.settle()
    before = world.written(), world.told(), versions(world)
    world.kubectl("annotate", RESOURCE, "m", "-n", world.namespace, "somebodys=note")
    world.apply(world.manifest())
    time.sleep(1.5)  # a wrong write would come within milliseconds: this is a bound, not a signal
    assert before == (world.written(), world.told(), versions(world))


def test_deleted_and_edited_children_come_back(world):
    world.apply(world.manifest())
    world.wait_ready()
    world.settle()
    server = next(key for key in world.children() if key.startswith("Deployment/")).split("/")[1]
    world.kubectl("delete", "service", "m", "-n", world.namespace)
    image = '{"spec":{"template":{"spec":{"containers":[{"name":"vllm","image":"edited"}]}}}}'
    containers = world.get("deployment", server)["spec"]["template"]["spec"]["containers"]
    image = image.replace('"vllm"', f'"{containers[0]["name"]}"')
    world.kubectl("patch", "deployment", server, "-n", world.namespace, "-p", image)
    world.wait("the Service to come back", lambda: "Service/m" in world.children())

    def image_is_back():
        now = world.get("deployment", server)["spec"]["template"]["spec"]["containers"][0]["image"]
        return now == containers[0]["image"]

    world.wait("the image to be as it was", image_is_back)
    world.wait_ready()


def test_suspending_scales_to_zero_and_resuming_does_not_test_again(world):
    world.apply(world.manifest())
    world.wait_ready()
    tests = {key: item["metadata"]["uid"] for key, item in world.children(kinds="jobs").items()}
    world.apply(world.manifest(suspend=True))
    world.wait_reason("Ready", "Suspended")

    def replicas():
        return {item["spec"]["replicas"] for item in world.children(kinds="deployments").values()}

    world.wait("no replica to be wanted", lambda: replicas() == {0})
    assert "Service/m" in world.children()
    world.apply(world.manifest(suspend=False))
    world.wait_ready()
    assert tests == {key: item["metadata"]["uid"] for key, item in world.children(kinds="jobs").items()}


def test_an_edit_makes_a_new_revision_and_traffic_moves_when_it_passed(world):
    world.apply(world.manifest())
    first = world.wait_ready()["status"]["revision"]["hash"]
    world.apply(world.manifest(engine={"maxModelLen": 1024}))
    second = world.wait_ready()["status"]["revision"]["hash"]
    assert first != second
    assert second == world.get("service", "m")["spec"]["selector"]["plimsoll.dev/revision"]
    world.wait(
        "the old revision to go",
        lambda: {key.split("-")[-1] for key in world.children(kinds="deployments")} == {second},
    )


def test_a_failing_test_keeps_traffic_on_the_last_good_revision(world):
    world.apply(world.manifest())
    first = world.wait_ready()["status"]["revision"]["hash"]
    failing = {"annotations": {"sandbox.plimsoll.dev/behaviour": "failing-test"}}
    world.apply(world.manifest(engine={"maxModelLen": 1024}, pod=failing))
    world.wait_reason("Tested", "TestFailed")
    world.settle()
    assert first == world.get("service", "m")["spec"]["selector"]["plimsoll.dev/revision"]
    assert world.conditions()["Ready"][0] == "False"
    assert world.conditions()["Available"][0] == "True"


def test_scaling_neither_plans_nor_tests_again(world):
    storage = {"accessModes": ["ReadWriteMany"], "storageClassName": "plimsoll-sandbox-rwx"}
    world.apply(world.manifest(storage=storage))
    before = world.wait_ready()["status"]
    world.kubectl("scale", RESOURCE, "m", "-n", world.namespace, "--replicas=2")
    world.wait("two replicas", lambda: world.read()["status"].get("replicas") == 2)
    after = world.wait_ready()["status"]
    assert (before["plan"], before["revision"]["hash"]) == (after["plan"], after["revision"]["hash"])
    assert len(world.children(kinds="jobs")) == 2


def test_the_same_name_in_two_namespaces_stays_apart(world, running):
    other = f"{world.namespace}-b"
    running.kubectl("create", "namespace", other)
    manifest = world.manifest()
    manifest["metadata"]["namespace"] = other
    world.apply(world.manifest(), manifest)
    world.wait_ready()
    twin = type(world)(kubectl=world.kubectl, namespace=other, operator=world.operator)
    twin.wait_ready()
    world.kubectl("delete", RESOURCE, "m", "-n", world.namespace)
    world.wait("the children to go", lambda: not world.children())
    assert twin.conditions()["Ready"][0] == "True"
    assert twin.children()
    running.kubectl("delete", "namespace", other, "--wait=false")


def test_a_name_of_253_characters_with_dots_is_served(world):
    name = "a." * 126 + "b"
    world.apply(world.manifest(name))
    body = world.wait_ready(name)
    labels = {
        item["metadata"]["labels"]["plimsoll.dev/model-deployment"] for item in world.children("").values()
    }
    assert len(labels) == 1
    assert len(labels.pop()) <= 63
    service = body["status"]["url"].split("//")[1].split(".")[0]
    assert world.get("service", service)


CHILDREN = "deployments,services,jobs,persistentvolumeclaims,configmaps"


def is_true(world, name, kind):
    return world.conditions(name).get(kind, ("",))[0] == "True"


STAGES = {
    "at-once": lambda world, name: True,
    "downloading": lambda world, name: "Downloaded" in world.conditions(name),
    "loading": lambda world, name: is_true(world, name, "Downloaded"),
    "testing": lambda world, name: is_true(world, name, "Loaded"),
    "ready": lambda world, name: is_true(world, name, "Ready"),
}


def test_deleting_it_at_any_stage_leaves_nothing_behind(world):
    world.apply(*(world.manifest(name) for name in STAGES))
    for name, reached in STAGES.items():
        world.wait(f"the stage {name}", lambda name=name, reached=reached: reached(world, name))
        world.kubectl("delete", RESOURCE, name, "-n", world.namespace, "--timeout=10s")
    kinds = f"{CHILDREN},pods"
    world.wait("everything to be gone", lambda: not world.children("", kinds=kinds))
    time.sleep(1)  # nothing may come back
    assert world.children("", kinds=kinds) == {}


def test_deleted_and_made_anew_at_once_under_the_same_name(world):
    world.apply(world.manifest())
    first = world.wait_ready()["metadata"]["uid"]
    world.kubectl("delete", RESOURCE, "m", "-n", world.namespace)
    world.apply(world.manifest())
    second = world.wait_ready()["metadata"]["uid"]
    owners = {item["metadata"]["ownerReferences"][0]["uid"] for item in world.children().values()}
    assert (first != second, {second}) == (True, owners)
