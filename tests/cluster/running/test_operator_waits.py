"""What a ModelDeployment waits for: it says so, and goes on by itself."""

from __future__ import annotations

import copy

from plimsoll.sandbox.nodes import load_nodes

GATED = "meta-llama/Llama-3.1-8B-Instruct"
NVIDIA = "nvidia.com/gpu"


def secret(world, *, labels=None, annotations=None, token="hf_sandbox"):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "hf",
            "namespace": world.namespace,
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "stringData": {"token": token},
    }


LABELLED = {"plimsoll.dev/hf-token": "true"}


def gated(world):
    model = {"id": GATED, "tokenSecretRef": {"name": "hf", "key": "token"}}
    manifest = world.manifest()
    manifest["spec"]["model"] = model
    return manifest


def test_a_secret_that_comes_later_and_is_labelled_later_still(world):
    world.apply(gated(world))
    world.wait_reason("Sized", "SecretNotFound")
    assert f"Secret {world.namespace}/hf does not exist" in world.message("Sized")
    world.apply(secret(world))
    world.wait_reason("Sized", "SecretNotUsable")
    assert "has no label plimsoll.dev/hf-token" in world.message("Sized")
    assert world.children() == {}
    world.apply(secret(world, labels=LABELLED))
    world.wait_reason("Sized", "Planned")
    world.wait_ready()


def test_a_token_for_another_hub_is_not_sent(world):
    world.apply(
        secret(world, labels=LABELLED, annotations={"plimsoll.dev/hf-endpoint": "https://elsewhere.test"}),
        gated(world),
    )
    world.wait_reason("Sized", "SecretNotUsable")
    assert "is for the Hub at https://elsewhere.test" in world.message("Sized")


def test_a_wrong_token_is_told_and_no_part_of_it_stands_anywhere(world):
    world.apply(secret(world, labels=LABELLED, token="hf_wrong_and_secret"), gated(world))
    world.wait_reason("Sized", "TokenRefused")
    assert "hf_wrong_and_secret" not in str(world.read())
    assert "hf_wrong_and_secret" not in world.operator.log()


def test_a_quota_that_is_raised_later(world):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": world.namespace},
        "spec": {"hard": {f"requests.{NVIDIA}": "0"}},
    }
    world.apply(quota)
    world.wait(
        "the quota to be counted", lambda: world.get("resourcequota", "team").get("status", {}).get("hard")
    )
    world.apply(world.manifest())
    world.wait_reason("Sized", "QuotaExceeded")
    assert "short of 1 nvidia.com/gpu" in world.message("Sized")
    assert world.children() == {}
    quota["spec"]["hard"][f"requests.{NVIDIA}"] = "4"
    world.apply(quota)
    world.wait_ready()


def test_a_node_pool_that_goes_and_comes_back(world):
    node = copy.deepcopy(next(one for one in load_nodes() if one["metadata"]["name"] == "l4-0"))
    node["metadata"]["name"] = "passing-0"
    node["metadata"]["labels"] |= {
        "kubernetes.io/hostname": "passing-0",
        f"{NVIDIA}.product": "NVIDIA-L40S",
        f"{NVIDIA}.memory": "46068",
    }
    world.kubectl.create([node])
    try:
        world.apply(world.manifest(hardware={"gpu": {"product": "NVIDIA-L40S"}}))
        plan = world.wait_ready()["status"]["plan"]
        world.kubectl("delete", "node", "passing-0")
        world.wait_reason("Sized", "PlanNoLongerPlaces")
        assert plan == world.read()["status"]["plan"]
        world.kubectl.create([node])
        world.wait_reason("Sized", "Planned")
        assert plan == world.read()["status"]["plan"]
    finally:
        world.kubectl("delete", "node", "passing-0", "--ignore-not-found")


def test_a_service_of_somebody_else_is_left_alone_and_said(world):
    taken = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "m", "namespace": world.namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
    }
    world.apply(taken)
    world.apply(world.manifest())

    def told():
        events = world.kubectl("get", "events", "-n", world.namespace).stdout
        return "exists and is not this ModelDeployment's" in events or "not this ModelDeployment" in str(
            world.read()
        )

    world.wait("it to be said", told)
    assert world.get("service", "m")["spec"]["selector"] == {"app": "theirs"}
    world.kubectl("delete", "service", "m", "-n", world.namespace)
    world.wait_ready()


def test_a_suite_that_comes_later(world):
    suite = {"promptfoo": {"configMapRef": {"name": "suite"}}}
    world.apply(world.manifest(test=suite))
    world.wait_reason("Tested", "SuiteNotFound")
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "suite", "namespace": world.namespace},
        "data": {"promptfooconfig.yaml": "tests: []"},
    }
    world.apply(config)
    world.wait_ready()
