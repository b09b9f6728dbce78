"""What the API server takes and refuses by the custom resource alone, without a webhook, and in which words."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from plimsoll.api.spec import ModelDeploymentSpec
from plimsoll.reconcile.validate import validate
from plimsoll.sandbox.kubectl import Kubectl

Json = dict[str, Any]
RESOURCE = "modeldeployments.plimsoll.dev"


@pytest.fixture(scope="module")
def place(kubectl: Kubectl) -> Iterator[str]:
    """One namespace for all cases: a refused object leaves nothing, an accepted one has a name of its own."""
    name = f"crd-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def manifest(spec: Json, name: str | None = None) -> Json:
    return {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name or f"m-{uuid.uuid4().hex[:8]}"},
        "spec": {"model": {"id": "facebook/opt-125m"}, **copy.deepcopy(spec)},
    }


def engine(**fields: Any) -> Json:
    return {"engine": fields}


def vllm(**fields: Any) -> Json:
    return {"engine": {"vllm": fields}}


def model(**fields: Any) -> Json:
    return {"model": {"id": "facebook/opt-125m", **fields}}


REF = {"name": "s", "key": "k"}
EVERYTHING = {
    "model": {
        "id": "mistralai/Mistral-7B-Instruct-v0.3", "revision": "main", "tokenSecretRef": REF,
        "allowPatterns": ["*.safetensors"],
    },
    "engine": {
        "type": "vLLM", "image": "vllm/vllm-openai:v0.33.0", "version": "0.33.0", "servedModelName": "mistral-7b",
        "maxModelLen": 32768, "apiKeySecretRef": REF,
        "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"configMapKeyRef": REF}}],
        "vllm": {
            "gpuMemoryUtilization": 0.92, "kvCacheMemory": "8Gi", "quantization": "awq", "dtype": "bfloat16", "kvCacheDtype": "fp8",
            "maxNumSeqs": 256, "maxNumBatchedTokens": 8192, "enableChunkedPrefill": True, "cpuOffload": "4Gi",
            "trustRemoteCode": False, "extraArgs": ["--enable-prefix-caching"],
        },
    },
    "parallelism": {"tensorParallelSize": 2, "pipelineParallelSize": 1},
    "hardware": {"gpu": {"resourceName": "nvidia.com/gpu", "product": "NVIDIA-A10", "minMemory": "20Gi", "count": 2}},
    "pod": {
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high", "runtimeClassName": "nvidia", "imagePullSecrets": [{"name": "pull"}],
        "serviceAccountName": "models", "labels": {"team": "a"}, "annotations": {"example.com/note": "x"},
    },
    "replicas": 2, "suspend": False,
    "resources": {"server": {"requests": {"cpu": 4, "memory": "12Gi"}, "limits": {"cpu": "8", "memory": "24Gi"}}},
    "storage": {"size": "40Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"], "retain": False},
    "service": {"port": 8000},
    "test": {"promptfoo": {"tests": [{"vars": {"prompt": "x"}, "assert": [{"type": "equals", "value": 4}]}]}, "gate": "Required"},
}  # fmt: skip

ACCEPTED = [
    pytest.param({}, id="the-id-alone"),
    pytest.param(EVERYTHING, id="every-field"),
    pytest.param(model(revision="refs/pr/12"), id="revision-of-a-pull-request"),
    pytest.param(
        engine(image="registry.example:5000/a/vllm:v0.33.0-cu129@sha256:" + "0" * 64), id="tag-and-digest"
    ),
    pytest.param(engine(image="mine/vllm:nightly", version="0.33.0"), id="untelling-image-with-a-version"),
    pytest.param({"parallelism": {"tensorParallelSize": 0}}, id="cpu-only"),
    pytest.param(
        {"parallelism": {"tensorParallelSize": 2}, "hardware": {"gpu": {"count": 4}}}, id="count-twice-tp"
    ),
    pytest.param({"storage": {"existingClaim": "models", "retain": True}}, id="existing-claim"),
    pytest.param({"test": {"promptfoo": {}}}, id="built-in-suite"),
    pytest.param({"resources": {"test": {"requests": {"cpu": 1}}}}, id="cpu-as-a-number"),
    pytest.param(vllm(kvCacheMemory=8589934592), id="kv-cache-in-bytes"),
    pytest.param({"replicas": 0}, id="no-replica"),
]
NO_MODEL: Json = {"model": {}}
# (spec, field path, words of the refusal)
REFUSED = [
    pytest.param(NO_MODEL, "spec.model.id", "Required value", id="no-id"),
    pytest.param({"model": {"id": "a;rm -rf"}}, "spec.model.id", '"a;rm -rf": must be a Hugging Face model id such as', id="shell"),
    pytest.param({"model": {"id": "{{ x }}"}}, "spec.model.id", "must be a Hugging Face model id", id="template"),
    pytest.param({"model": {"id": "a/" + "b" * 200}}, "spec.model.id", "may not be more than 193", id="long-id"),
    pytest.param({"model": {"id": 7}}, "spec.model.id", "must be of type string", id="id-as-a-number"),
    pytest.param(model(revision="../../etc/passwd"), "spec.model.revision", "never a path", id="revision-path"),
    pytest.param(model(revision="a..b"), "spec.model.revision", "never a path", id="revision-dots"),
    pytest.param(model(tokenSecretRef={"name": "Upper", "key": "k"}), "spec.model.tokenSecretRef.name", "lower case letters", id="secret-name"),
    pytest.param(model(tokenSecretRef={"name": "s"}), "spec.model.tokenSecretRef.key", "Required value", id="secret-key"),
    pytest.param(model(allowPatterns=[]), "spec.model.allowPatterns", "should have at least 1 items", id="no-pattern"),
    pytest.param(engine(type="sglang"), "spec.engine.type", 'supported values: "vLLM"', id="engine"),
    pytest.param(engine(image="mine/vllm:latest"), "spec.engine.image", "set engine.version to the release", id="image-tag"),
    pytest.param(engine(image="mine/vllm"), "spec.engine.image", "set engine.version to the release", id="image-without-tag"),
    pytest.param(engine(image="a b"), "spec.engine.image", "must be an image reference such as", id="image-blank"),
    pytest.param(engine(version="latest"), "spec.engine.version", "must be a release of vLLM such as 0.33.0", id="version"),
    pytest.param(engine(maxModelLen=0), "spec.engine.maxModelLen", "should be greater than or equal to 1", id="length-0"),
    pytest.param(engine(maxModelLen="8k"), "spec.engine.maxModelLen", "must be of type integer", id="length-text"),
    pytest.param(engine(maxModelLen="4096"), "spec.engine.maxModelLen", "must be of type integer", id="length-quoted"),
    pytest.param({"suspend": "yes"}, "spec.suspend", "must be of type boolean", id="suspend-text"),
    pytest.param(vllm(gpuMemoryUtilization="0.9"), "spec.engine.vllm.gpuMemoryUtilization", "must be of type number", id="share-text"),
    pytest.param(engine(servedModelName="a b"), "spec.engine.servedModelName", "must be a name that fits a request", id="served"),
    pytest.param(engine(env=[{"name": "A"}]), "spec.engine.env[0]", "set either value or valueFrom", id="env-nothing"),
    pytest.param(engine(env=[{"name": "A", "value": "b", "valueFrom": {"secretKeyRef": REF}}]), "spec.engine.env[0]", "set either value or valueFrom", id="env-both"),
    pytest.param(engine(env=[{"name": "A", "valueFrom": {}}]), "spec.engine.env[0].valueFrom", "set either secretKeyRef or configMapKeyRef", id="env-no-source"),
    pytest.param(engine(env=[{"name": "A", "value": "b"}, {"name": "A", "value": "c"}]), "spec.engine.env[1]", "Duplicate value", id="env-twice"),
    pytest.param(engine(env=[{"name": "1A", "value": "b"}]), "spec.engine.env[0].name", "must be the name of an environment variable", id="env-name"),
    pytest.param(vllm(gpuMemoryUtilization=0), "spec.engine.vllm.gpuMemoryUtilization", "should be greater than 0", id="share-0"),
    pytest.param(vllm(gpuMemoryUtilization=1.2), "spec.engine.vllm.gpuMemoryUtilization", "should be less than or equal to 1", id="share-1.2"),
    pytest.param(vllm(dtype="int4"), "spec.engine.vllm.dtype", "supported values", id="dtype"),
    pytest.param(vllm(quantization="AWQ 4"), "spec.engine.vllm.quantization", "must be a name of vLLM's, such as awq", id="quantization"),
    pytest.param(vllm(cpuOffload="4GB"), "spec.engine.vllm.cpuOffload", "with a unit, such as 4Gi", id="offload"),
    pytest.param(vllm(cpuOffload=-4), "spec.engine.vllm.cpuOffload", "with a unit, such as 4Gi", id="offload-negative"),
    pytest.param(vllm(kvCacheMemory="8GB"), "spec.engine.vllm.kvCacheMemory", "with a unit, such as 4Gi", id="kv-cache"),
    pytest.param(vllm(kvCacheMemory=-1), "spec.engine.vllm.kvCacheMemory", "with a unit, such as 4Gi", id="kv-cache-negative"),
    pytest.param(vllm(kvCacheMemory=True), "spec.engine.vllm.kvCacheMemory", "must be of type", id="kv-cache-bool"),
    pytest.param(vllm(maxNumSeqs=0), "spec.engine.vllm.maxNumSeqs", "should be greater than or equal to 1", id="seqs"),
    pytest.param({"parallelism": {"tensorParallelSize": -1}}, "spec.parallelism.tensorParallelSize", "should be greater than or equal to 0", id="tp"),
    pytest.param({"parallelism": {"tensorParallelSize": 0, "pipelineParallelSize": 2}}, "spec.parallelism.pipelineParallelSize", "remove pipelineParallelSize", id="cpu-stages"),
    pytest.param({"parallelism": {"tensorParallelSize": 0}, "hardware": {"gpu": {"count": 1}}}, "spec.hardware.gpu", "remove one of them", id="cpu-and-gpu"),
    pytest.param({"parallelism": {"tensorParallelSize": 4}, "hardware": {"gpu": {"count": 2}}}, "spec.hardware.gpu.count", "set count to that product", id="count-below-tp"),
    pytest.param({"parallelism": {"tensorParallelSize": 2, "pipelineParallelSize": 1}, "hardware": {"gpu": {"count": 4}}}, "spec.hardware.gpu.count", "set count to that product", id="count-beyond"),
    pytest.param({"hardware": {"gpu": {"count": 0}}}, "spec.hardware.gpu.count", "should be greater than or equal to 1", id="count-0"),
    pytest.param({"hardware": {"gpu": {"resourceName": "gpu"}}}, "spec.hardware.gpu.resourceName", "with its domain, such as nvidia.com/gpu", id="resource"),
    pytest.param({"hardware": {"gpu": {"product": "A10;"}}}, "spec.hardware.gpu.product", "such as A100-80GB", id="product"),
    pytest.param({"pod": {"priorityClassName": "A_B"}}, "spec.pod.priorityClassName", "must be the name of a Kubernetes object", id="priority"),
    pytest.param({"pod": {"labels": {"a": "b" * 64}}}, "spec.pod.labels", "may not be more than 63", id="label"),
    pytest.param({"replicas": -1}, "spec.replicas", "should be greater than or equal to 0", id="replicas"),
    pytest.param({"resources": {"server": {"limits": {"memory": "12GB"}}}}, "spec.resources.server.limits.memory", "must be a quantity", id="memory"),
    pytest.param({"storage": {"existingClaim": "c", "size": "1Gi"}}, "spec.storage.existingClaim", "remove them, or remove existingClaim", id="claim-and-size"),
    pytest.param({"storage": {"accessModes": ["ReadOnlyMany"]}}, "spec.storage.accessModes", "supported values", id="mode"),
    pytest.param({"service": {"port": 0}}, "spec.service.port", "should be greater than or equal to 1", id="port"),
    pytest.param({"test": {"gate": "Maybe"}}, "spec.test.gate", "supported values", id="gate"),
    pytest.param({"test": {"promptfoo": {"configMapRef": {"name": "s"}, "tests": [{"assert": [{"type": "is-json"}]}]}}}, "spec.test.promptfoo", "set either configMapRef or tests", id="two-suites"),
]  # fmt: skip


@pytest.mark.parametrize("spec", ACCEPTED)
def test_the_api_server_takes_it_and_loses_nothing(kubectl: Kubectl, place: str, spec: Json) -> None:
    wanted = manifest(spec)
    kubectl("create", "-n", place, "-f", "-", stdin=yaml.safe_dump(wanted))
    kept = kubectl.get(RESOURCE, wanted["metadata"]["name"], "-n", place)["spec"]
    assert kept == {"replicas": 1, **wanted["spec"]}
    assert validate(ModelDeploymentSpec.model_validate(kept)) == ()


@pytest.mark.parametrize(("spec", "path", "words"), REFUSED)
def test_the_api_server_refuses_with_field_and_way_out(
    kubectl: Kubectl, place: str, spec: Json, path: str, words: str
) -> None:
    outcome = kubectl("create", "-n", place, "-f", "-", stdin=yaml.safe_dump(manifest(spec)), check=False)
    assert outcome.status != 0
    assert path in outcome.stderr
    assert words in outcome.stderr


@pytest.mark.parametrize(("spec", "path", "words"), REFUSED)
def test_the_types_and_rules_refuse_the_same_without_a_server(spec: Json, path: str, words: str) -> None:
    try:
        read = ModelDeploymentSpec.model_validate(manifest(spec)["spec"])
    except ValidationError as error:
        found = [".".join(str(step) for step in one["loc"]) for one in error.errors()]
    else:
        found = [problem.path.removeprefix("spec.") for problem in validate(read)]
    wanted = dotted(path.removeprefix("spec."))
    assert any(dotted(one).startswith(wanted) for one in found)


def dotted(path: str) -> str:
    return path.replace("[", ".").replace("]", "")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        pytest.param({"modle": {"id": "x"}}, "spec.modle", id="top"),
        pytest.param(vllm(gpuMemoryUtilisation=0.9), "spec.engine.vllm.gpuMemoryUtilisation", id="deep"),
        pytest.param(
            {"resources": {"server": {"request": {}}}}, "spec.resources.server.request", id="misspelt"
        ),
    ],
)
def test_an_unknown_field_is_named_and_nothing_is_created(
    kubectl: Kubectl, place: str, document: Json, field: str
) -> None:
    wanted = manifest(document)
    outcome = kubectl("create", "-n", place, "-f", "-", stdin=yaml.safe_dump(wanted), check=False)
    assert f'unknown field "{field}"' in outcome.stderr
    found = kubectl("get", RESOURCE, wanted["metadata"]["name"], "-n", place, check=False)
    assert "NotFound" in found.stderr


def test_an_unknown_field_is_warned_of_where_validation_is_not_strict(kubectl: Kubectl, place: str) -> None:
    text = yaml.safe_dump(manifest({"modle": {"id": "x"}}))
    outcome = kubectl("create", "--validate=warn", "-n", place, "-f", "-", stdin=text)
    assert 'unknown field "spec.modle"' in outcome.stderr


CLAIM = {"size": "40Gi", "storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        pytest.param(CLAIM, {**CLAIM, "size": "80Gi"}, None, id="size-grows"),
        pytest.param({"size": "1Ti"}, {"size": "1024Gi"}, None, id="size-in-other-words"),
        pytest.param({"size": 1073741824}, {"size": "1Gi"}, None, id="size-as-a-number"),
        pytest.param(
            CLAIM, {**CLAIM, "size": "20Gi"}, "storage.size may grow and never shrink", id="size-shrinks"
        ),
        pytest.param({"size": "1Ti"}, {"size": "2Gi"}, "set it to the old size or more", id="size-by-unit"),
        pytest.param(
            CLAIM, {**CLAIM, "storageClassName": "slow"}, "storage.storageClassName cannot", id="class"
        ),
        pytest.param(
            CLAIM, {"size": "40Gi"}, "storage.storageClassName cannot be changed", id="class-removed"
        ),
        pytest.param(CLAIM, None, "put the old value back", id="storage-removed"),
        pytest.param(None, {"storageClassName": "fast"}, "storage.storageClassName cannot", id="class-added"),
        pytest.param(
            {"size": "1Gi"}, {"size": "1Gi", "accessModes": ["ReadWriteOnce"]}, None, id="mode-said"
        ),
        pytest.param(
            {"size": "1Gi"}, {"accessModes": ["ReadWriteMany"]}, "storage.accessModes cannot", id="mode"
        ),
        pytest.param(CLAIM, {"existingClaim": "mine"}, None, id="to-a-claim-of-ones-own"),
        pytest.param({"existingClaim": "mine"}, {"existingClaim": "other"}, None, id="another-claim"),
    ],
)
def test_a_claim_may_change_as_kubernetes_lets_it(
    kubectl: Kubectl, place: str, old: Json | None, new: Json | None, refusal: str | None
) -> None:
    first = manifest({} if old is None else {"storage": old})
    second = manifest({} if new is None else {"storage": new}, first["metadata"]["name"])
    kubectl("create", "-n", place, "-f", "-", stdin=yaml.safe_dump(first))
    outcome = kubectl("replace", "-n", place, "-f", "-", stdin=yaml.safe_dump(second), check=False)
    if refusal is None:
        assert outcome.ok, outcome.stderr
    else:
        assert not outcome.ok
        assert refusal in outcome.stderr
