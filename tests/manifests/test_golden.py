"""Whole children as they are applied, one file for each ModelDeployment; read the diff when one changes."""

from __future__ import annotations

import json

import pytest
import yaml
from manifest_samples import context, cpu_plan, deployment, gpu_plan

from plimsoll.api.status import PlannedHardware
from plimsoll.manifests.context import Context, Settings
from plimsoll.manifests.download_job import download_job
from plimsoll.manifests.placement import Placement
from plimsoll.manifests.revision import revision_hash, suite_hash
from plimsoll.manifests.server import server_deployment
from plimsoll.manifests.service import private_service, public_service
from plimsoll.manifests.suite import suite_config_map
from plimsoll.manifests.test_job import test_job as build_test_job
from plimsoll.manifests.volume import volume_claim

ON_ONE_NODE = Placement(co_locate_with_volume_users=True)


class Readable(yaml.SafeDumper):
    """Texts of several lines stand as they are."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Readable.add_representer(str, _text)


def children(ctx: Context, placement: Placement) -> str:
    revision, suite = revision_hash(ctx), suite_hash(ctx)
    own_suite = ctx.promptfoo.config_map_ref is None
    documents = [
        volume_claim(ctx),
        download_job(ctx, placement),
        server_deployment(ctx, revision, placement, ctx.spec.replicas),
        private_service(ctx, revision),
        suite_config_map(ctx, suite) if own_suite else None,
        build_test_job(ctx, revision, suite, placement),
        public_service(ctx, revision),
    ]
    present = [json.loads(json.dumps(document)) for document in documents if document is not None]
    return yaml.dump_all(present, Dumper=Readable, sort_keys=False, width=110)


def smallest() -> Context:
    owner = deployment("opt-125m", model={"id": "facebook/opt-125m"}, parallelism={"tensorParallelSize": 0})
    return context(owner, cpu_plan())


def two_gpus() -> Context:
    return context()


def everything_set() -> Context:
    owner = deployment(
        "gemma.2-9b",
        model={
            "id": "google/gemma-2-9b-it",
            "tokenSecretRef": {"name": "hf-token", "key": "token"},
            "allowPatterns": ["*.safetensors"],
        },
        engine={
            "servedModelName": "gemma",
            "maxModelLen": 8192,
            "apiKeySecretRef": {"name": "api", "key": "key"},
            "env": [
                {"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"},
                {"name": "HF_HUB_OFFLINE", "value": "0"},
                {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
            ],
            "vllm": {
                "gpuMemoryUtilization": 0.9,
                "quantization": "fp8",
                "dtype": "bfloat16",
                "kvCacheDtype": "fp8",
                "maxNumSeqs": 64,
                "maxNumBatchedTokens": 4096,
                "enableChunkedPrefill": False,
                "cpuOffload": "1536Mi",
                "trustRemoteCode": True,
                "extraArgs": ["--enable-prefix-caching", "--seed=7"],
            },
        },
        pod={
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
                        ]
                    }
                }
            },
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
            ],
            "priorityClassName": "high",
            "runtimeClassName": "nvidia",
            "imagePullSecrets": [{"name": "pull"}],
            "serviceAccountName": "models",
            "labels": {"team": "a", "plimsoll.dev/component": "mine"},
            "annotations": {"note": "mine", "plimsoll.dev/model": "mine"},
        },
        replicas=2,
        resources={"server": {"requests": {"cpu": "10"}, "limits": {"memory": "8Gi"}}},
        storage={"size": "80Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]},
        service={"port": 80},
        test={"promptfoo": {"tests": [{"vars": {"prompt": "Capital of France: {{x}} '\"?"}, "assert": []}]}},
    )
    plan = gpu_plan(
        model_id="google/gemma-2-9b-it",
        max_model_len=8192,
        pipeline_parallel_size=2,
        tensor_parallel_size=4,
        gpus=8,
        hardware=PlannedHardware(
            product="NVIDIA-A100-SXM4-80GB",
            resource_name="nvidia.com/gpu",
            node_labels={
                "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
                "nvidia.com/gpu.count": "8",
            },
        ),
    )
    settings = Settings(
        operator_image="registry.example/plimsoll:1",
        promptfoo_image="registry.example/promptfoo:1",
        hub_endpoint="https://hub.example",
        image_pull_policy="IfNotPresent",
        cluster_domain="cluster.example",
    )
    return context(owner, plan, settings)


def the_users_own_volume_and_suite() -> Context:
    owner = deployment(
        storage={"existingClaim": "models.shared"}, test={"promptfoo": {"configMapRef": {"name": "suite"}}}
    )
    return context(owner)


CASES = [
    pytest.param("smallest.yaml", smallest, Placement(), id="CPU only, nothing set"),
    pytest.param("two-gpus.yaml", two_gpus, ON_ONE_NODE, id="two GPUs on a ReadWriteOnce volume"),
    pytest.param("everything-set.yaml", everything_set, Placement(), id="every field set"),
    pytest.param(
        "own-volume-and-suite.yaml", the_users_own_volume_and_suite, ON_ONE_NODE, id="own claim and suite"
    ),
]


@pytest.mark.parametrize(("name", "make", "placement"), CASES)
def test_children_are_as_reviewed(name: str, make, placement: Placement, golden) -> None:
    golden(name, children(make(), placement))


@pytest.mark.parametrize(("name", "make", "placement"), CASES)
def test_rendering_twice_gives_the_same_text(name: str, make, placement: Placement) -> None:
    assert children(make(), placement) == children(make(), placement)
