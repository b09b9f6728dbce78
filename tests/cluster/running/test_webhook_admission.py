"""Admission as the real API server calls it, and as `kubectl apply` prints it."""

from __future__ import annotations

import json

import pytest

COMPONENT = "plimsoll.dev/component"
MODEL = "plimsoll.dev/model"
MODEL_BYTES = "plimsoll.dev/model-bytes"


def outcome(world, manifest, *flags):
    return world.kubectl("apply", "-f", "-", *flags, stdin=json.dumps(manifest), check=False)


class TestModelDeployments:
    def test_every_error_is_told_at_once_each_on_its_line(self, world):
        engine = {"vllm": {"extraArgs": ["--max-model-len=5", "-tp", "4"], "cpuOffload": "4Gi"}}
        server = {"requests": {"cpu": "4"}, "limits": {"cpu": "2"}}
        answer = outcome(world, world.manifest(engine=engine, resources={"server": server}))
        assert answer.status != 0
        assert 'admission webhook "modeldeployments.plimsoll.dev" denied the request' in answer.stderr
        assert "spec.engine.vllm.extraArgs[0]" in answer.stderr
        assert "spec.engine.vllm.extraArgs[1]" in answer.stderr
        assert "spec.resources.server" in answer.stderr
        assert answer.stderr.count("\n- ") >= 3

    def test_the_plan_comes_as_warnings_of_at_most_240_characters(self, world):
        answer = outcome(world, world.manifest(model="mistralai/Mistral-7B-Instruct-v0.3"))
        warnings = [
            line.removeprefix("Warning: ") for line in answer.stderr.splitlines() if "Warning" in line
        ]
        assert answer.status == 0
        assert warnings[0].startswith("plan: 1 x NVIDIA-A10 (TP 1, PP 1) per replica, context ")
        assert any(line.startswith("server: requests 4 CPU and 12Gi memory") for line in warnings)
        assert any(line.startswith("quota: requests.cpu") for line in warnings)
        assert max(len(line) for line in warnings) <= 240

    def test_what_the_cluster_lacks_is_a_warning_and_no_refusal(self, world):
        answer = outcome(world, world.manifest(model="deepseek-ai/DeepSeek-V3"))
        assert answer.status == 0
        assert "Warning: not served:" in answer.stderr

    def test_a_model_that_the_hub_does_not_know_is_a_warning(self, world):
        answer = outcome(world, world.manifest(model="nobody/nothing"))
        assert answer.status == 0
        assert "Warning: not sized yet:" in answer.stderr

    def test_a_quota_that_is_too_small_is_a_warning(self, world):
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "team", "namespace": world.namespace},
            "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
        }
        world.apply(quota)
        world.wait("the quota", lambda: world.get("resourcequota", "team").get("status", {}).get("hard"))
        assert "short of 1 nvidia.com/gpu" in outcome(world, world.manifest()).stderr

    def test_an_update_that_leaves_the_spec_alone_gets_neither_error_nor_warning(self, world):
        world.apply(world.manifest())
        manifest = world.manifest()
        manifest["metadata"]["labels"] = {"team": "blue"}
        answer = world.kubectl.apply([manifest])
        assert (answer.status, answer.stderr) == (0, "")


def pod(world, *, name="p", annotations=None, resources=None, labels=None, env=None):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": world.namespace,
            "labels": {COMPONENT: "server"} if labels is None else labels,
            "annotations": annotations or {},
        },
        "spec": {
            "containers": [
                {"name": "engine", "image": "vllm", "resources": resources or {}, "env": env or []}
            ],
            "nodeSelector": {"nowhere": "true"},
        },
    }


def resources_of(world, name="p"):
    return world.get("pod", name)["spec"]["containers"][0]["resources"]


GPU = {"limits": {"nvidia.com/gpu": "1"}}
GPUS = {"nvidia.com/gpu": "1"}
FOR_7B = {
    "requests": {"cpu": "4", "memory": "12Gi", **GPUS},
    "limits": {"cpu": "8", "memory": "24Gi", **GPUS},
}


class TestPods:
    @pytest.mark.parametrize(
        "annotations",
        [{MODEL: "mistralai/Mistral-7B-Instruct-v0.3"}, {MODEL_BYTES: "14G"}],
        ids=["by model", "by bytes"],
    )
    def test_a_pod_gets_what_its_model_needs(self, world, annotations):
        world.apply(pod(world, annotations=annotations, resources=GPU))
        assert resources_of(world) == FOR_7B

    def test_a_plain_deployment_is_served_too(self, world):
        template = pod(world, annotations={MODEL_BYTES: "14G"}, resources=GPU)
        labels = {**template["metadata"]["labels"], "app": "own"}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "own", "namespace": world.namespace},
            "spec": {
                "selector": {"matchLabels": {"app": "own"}},
                "template": {
                    "metadata": {"labels": labels, "annotations": template["metadata"]["annotations"]},
                    "spec": template["spec"],
                },
            },
        }
        world.apply(deployment)

        def pods():
            return world.kubectl.items("pods", "-n", world.namespace, "-l", "app=own")

        world.wait("its pod", pods)
        assert pods()[0]["spec"]["containers"][0]["resources"] == FOR_7B
        # The template stays as it was sent: there is nothing for GitOps to put right.
        live = world.get("deployment", "own")["spec"]["template"]["spec"]["containers"][0]
        assert live["resources"] == GPU

    def test_what_the_user_set_stays(self, world):
        own = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi", **GPUS}}
        world.apply(pod(world, annotations={MODEL_BYTES: "14G"}, resources=own))
        assert {**own, "requests": {**own["requests"], **GPUS}} == resources_of(world)

    def test_a_default_of_limit_ranger_is_raised_up_to_its_maximum(self, world):
        limit_range = {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "small", "namespace": world.namespace},
            "spec": {
                "limits": [
                    {
                        "type": "Container",
                        "defaultRequest": {"cpu": "100m", "memory": "128Mi"},
                        "default": {"cpu": "200m", "memory": "256Mi"},
                        "max": {"cpu": "2", "memory": "8Gi"},
                    }
                ]
            },
        }
        world.apply(limit_range)
        answer = world.kubectl.apply([pod(world, annotations={MODEL_BYTES: "14G"}, resources=GPU)])
        found = resources_of(world)
        assert found["requests"] == {"cpu": "2", "memory": "8Gi", **GPUS}
        assert found["limits"] == {"cpu": "2", "memory": "8Gi", **GPUS}
        assert "Warning:" in answer.stderr

    def test_a_pod_without_the_label_is_not_looked_at(self, world):
        world.apply(pod(world, annotations={MODEL_BYTES: "14G"}, resources=GPU, labels={}))
        assert resources_of(world) == {"limits": GPUS, "requests": GPUS}

    @pytest.mark.parametrize(
        ("labels", "annotations", "says"),
        [
            ({COMPONENT: "engine"}, {MODEL_BYTES: "14G"}, "must be one of download, server, test"),
            ({COMPONENT: "server"}, {}, "is missing: nothing is filled in"),
            ({COMPONENT: "server"}, {MODEL: "nobody/nothing"}, "filled in as for a model of unknown size"),
            ({COMPONENT: "server"}, {MODEL: "../etc"}, "cannot be a Hugging Face repository"),
            ({COMPONENT: "server"}, {MODEL_BYTES: "many"}, "'many' is not a quantity"),
        ],
        ids=["component", "no model", "unknown model", "a path", "no quantity"],
    )
    def test_what_cannot_be_filled_is_admitted_and_said(self, world, labels, annotations, says):
        answer = world.kubectl.apply([pod(world, labels=labels, annotations=annotations, resources=GPU)])
        assert (answer.status, says in answer.stderr) == (0, True), answer.stderr

    def test_a_pod_over_one_mebibyte_is_filled(self, world):
        large = [{"name": "LARGE", "value": "x" * 1_150_000}]
        world.kubectl.create([pod(world, annotations={MODEL_BYTES: "14G"}, resources=GPU, env=large)])
        assert resources_of(world) == FOR_7B


def test_a_webhook_that_is_down_stops_nobody(world, running):
    running.webhook.stop()
    try:
        world.apply(pod(world, annotations={MODEL_BYTES: "14G"}, resources=GPU), world.manifest())
        assert resources_of(world) == {"limits": GPUS, "requests": GPUS}
        world.wait_ready()
    finally:
        running.webhook.start()

        def answers():
            return "Warning" in outcome(world, world.manifest("again"), "--dry-run=server").stderr

        world.wait("the webhook to answer again", answers)
