"""`spec` of a ModelDeployment: what a user may say. Unset means absent; nothing but `replicas` has a default."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StrictBool

from plimsoll.api.base import ApiModel, ObjectName, QuantityText, Worded, rule
from plimsoll.api.engine import (
    ConfigMapKeyRef,
    EngineSpec,
    EngineType,
    EnvVar,
    EnvVarSource,
    SecretKeyRef,
    VllmSpec,
)
from plimsoll.api.pod import (
    ComponentResourcesSpec,
    LocalObjectRef,
    PodSpec,
    ResourceAmounts,
    ResourcesSpec,
)

__all__ = [
    "AccessMode",
    "ComponentResourcesSpec",
    "ConfigMapKeyRef",
    "ConfigMapRef",
    "EngineSpec",
    "EngineType",
    "EnvVar",
    "EnvVarSource",
    "Gate",
    "GpuSpec",
    "HardwareSpec",
    "LocalObjectRef",
    "ModelDeployment",
    "ModelDeploymentSpec",
    "ModelSpec",
    "ParallelismSpec",
    "PodSpec",
    "PromptfooSpec",
    "ResourceAmounts",
    "ResourcesSpec",
    "SecretKeyRef",
    "ServiceSpec",
    "StorageSpec",
    "TestSpec",
    "VllmSpec",
]

MAX_MODEL_ID_LENGTH: Final = 96 + 1 + 96  # the Hub allows 96 characters for each side of the slash
MODEL_ID: Final = Worded(
    # '.' and '-' may not follow each other or themselves: the Hub refuses "--" and "..".
    r"^[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*(/[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*)?$",
    "must be a Hugging Face model id such as mistralai/Mistral-7B-Instruct-v0.3: letters, digits, '_', single '.' "
    "and '-', and at most one slash",
)
REVISION: Final = Worded(
    r"^[A-Za-z0-9_]+([./-]?[A-Za-z0-9_]+)*$",
    "must be a branch, a tag or a commit such as main, never a path: letters, digits, '_', and single '.', '-' and "
    "'/' between them",
)
RESOURCE_NAME: Final = Worded(
    r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
    "must be an extended resource with its domain, such as nvidia.com/gpu",
)
PRODUCT: Final = Worded(
    r"^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$",
    "must be a value of the node label nvidia.com/gpu.product or a name such as A100-80GB",
)

ModelId = Annotated[
    str,
    Field(min_length=1, max_length=MAX_MODEL_ID_LENGTH, json_schema_extra=MODEL_ID.schema()),
    AfterValidator(MODEL_ID.check),
]
Revision = Annotated[
    str,
    Field(min_length=1, max_length=250, json_schema_extra=REVISION.schema()),
    AfterValidator(REVISION.check),
]
GlobPattern = Annotated[str, Field(min_length=1, max_length=255)]


class ModelSpec(ApiModel):
    """Which model, at which revision."""

    id: ModelId = Field(description="Hugging Face model id, such as mistralai/Mistral-7B-Instruct-v0.3.")
    revision: Revision | None = Field(
        default=None,
        description="Branch, tag or commit; unset: main. The commit it resolves to stands in status.revision.resolved.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description='Secret with a Hugging Face token; it must carry the label plimsoll.dev/hf-token: "true".',
    )
    allow_patterns: tuple[GlobPattern, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Only files that match one of these shell patterns are downloaded; unset: what the engine loads.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class ParallelismSpec(ApiModel):
    """How the model is split; unset: computed."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!(self.?tensorParallelSize.orValue(1) == 0 && self.?pipelineParallelSize.orValue(1) > 1)",
                    "tensorParallelSize 0 means CPU only, which has one pipeline stage: remove pipelineParallelSize",
                    field=".pipelineParallelSize",
                )
            ]
        }
    )

    tensor_parallel_size: Annotated[int, Field(strict=True, ge=0, le=1024)] | None = Field(
        default=None, description="GPUs that share each layer; 0: no GPU, the engine runs on CPU."
    )
    pipeline_parallel_size: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = Field(
        default=None, description="Stages that the layers are split into."
    )


class GpuSpec(ApiModel):
    """Which GPUs may be used, and how many."""

    resource_name: (
        Annotated[
            str,
            Field(min_length=3, max_length=253, json_schema_extra=RESOURCE_NAME.schema()),
            AfterValidator(RESOURCE_NAME.check),
        ]
        | None
    ) = Field(default=None, description="Extended resource of the device plugin; unset: nvidia.com/gpu.")
    product: (
        Annotated[
            str,
            Field(min_length=1, max_length=63, json_schema_extra=PRODUCT.schema()),
            AfterValidator(PRODUCT.check),
        ]
        | None
    ) = Field(
        default=None,
        description="Value of the label nvidia.com/gpu.product, or a catalogue alias such as A100-80GB.",
    )
    min_memory: QuantityText | None = Field(
        default=None, description="Least memory of one GPU, such as 20Gi."
    )
    count: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = Field(
        default=None, description="GPUs per replica; unset: the fewest that fit."
    )
    shared: StrictBool | None = Field(
        default=None,
        description="Use GPUs that the device plugin shares by time slicing; needs engine.vllm.gpuMemoryUtilization.",
    )


class HardwareSpec(ApiModel):
    """The accelerators to serve on."""

    gpu: GpuSpec | None = Field(default=None, description="GPUs; unset: any of the cluster's.")


class AccessMode(StrEnum):
    """Access modes that a model volume may have."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"


class StorageSpec(ApiModel):
    """The volume that holds the model's files."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.existingClaim) || !(has(self.size) || has(self.storageClassName) || has(self.accessModes))",
                    "size, storageClassName and accessModes are those of the claim that is already there: remove them, "
                    "or remove existingClaim to have a claim made",
                    field=".existingClaim",
                )
            ]
        }
    )

    size: QuantityText | None = Field(
        default=None,
        description="Size of the claim; unset: computed from the files. It may grow, never shrink.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class; unset: the cluster's default. It cannot be changed."
    )
    access_modes: tuple[AccessMode, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=3,
        description="Access modes of the claim; unset: ReadWriteOnce. They cannot be changed.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    existing_claim: ObjectName | None = Field(
        default=None, description="A claim that is already there; none is made, and it is never deleted."
    )
    retain: StrictBool | None = Field(
        default=None, description="Whether the claim outlives the ModelDeployment; unset: no."
    )


class ServiceSpec(ApiModel):
    """The public Service."""

    port: Annotated[int, Field(strict=True, ge=1, le=65535)] | None = Field(
        default=None, description="Port; unset: 8000."
    )


class ConfigMapRef(ApiModel):
    """A ConfigMap with a promptfoo configuration under the key promptfooconfig.yaml."""

    name: ObjectName = Field(description="Name of the ConfigMap.")


class PromptfooSpec(ApiModel):
    """The suite; neither field: a built-in smoke suite."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!(has(self.configMapRef) && has(self.tests))",
                    "must have one suite: set either configMapRef or tests, or neither for the built-in smoke suite",
                )
            ]
        }
    )

    config_map_ref: ConfigMapRef | None = Field(
        default=None, description="A ConfigMap with the key promptfooconfig.yaml."
    )
    tests: tuple[dict[str, JsonValue], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="promptfoo test cases: vars and assert, as promptfoo reads them.",
    )


class Gate(StrEnum):
    """What a failing test does to traffic."""

    REQUIRED = "Required"
    REPORT_ONLY = "ReportOnly"
    OFF = "Off"


class TestSpec(ApiModel):
    """How a revision is tested before it takes traffic."""

    __test__ = False  # not a pytest class

    promptfoo: PromptfooSpec | None = Field(default=None, description="The promptfoo suite.")
    gate: Gate | None = Field(
        default=None, description="Required: only a revision that passed takes traffic; unset: Required."
    )


def _has(holder: str, field: str) -> str:
    """CEL: whether spec.storage has a field; optional selection would lose the bounds that the cost rests on."""
    return f"(has({holder}.storage) && has({holder}.storage.{field}))"


def _only_once(holder: str) -> str:
    """CEL: whether the access modes are ReadWriteOnce, said or unsaid."""
    modes = f"{holder}.storage.accessModes"
    return f"(!{_has(holder, 'accessModes')} || {modes}.all(m, m == 'ReadWriteOnce'))"


# An own claim cannot become another: Kubernetes refuses to change these fields of a claim that exists.
_CLAIM_IS_NOT_OURS: Final = f"{_has('self', 'existingClaim')} || {_has('oldSelf', 'existingClaim')}"
_RECREATE: Final = (
    "cannot be changed once the claim is made: put the old value back, delete the ModelDeployment and create it "
    "anew, or name a claim of your own in storage.existingClaim"
)
_CLASS: Final = "storageClassName"
_MODES: Final = "accessModes"
# Transition rules stand here and not in StorageSpec, where removing `storage` as a whole would pass them by.
_RULES: Final[list[JsonValue]] = [
    rule(
        "!(self.?parallelism.?tensorParallelSize.orValue(1) == 0 && self.?hardware.?gpu.hasValue())",
        "parallelism.tensorParallelSize 0 means CPU only and excludes hardware.gpu: remove one of them",
        field=".hardware.gpu",
    ),
    rule(
        "!self.?hardware.?gpu.?count.hasValue() || self.?parallelism.?tensorParallelSize.orValue(1) == 0 || "
        "(self.hardware.gpu.count % self.?parallelism.?tensorParallelSize.orValue(1) == 0 && "
        "self.hardware.gpu.count % self.?parallelism.?pipelineParallelSize.orValue(1) == 0 && "
        "(!self.?parallelism.?tensorParallelSize.hasValue() || !self.?parallelism.?pipelineParallelSize.hasValue() || "
        "self.hardware.gpu.count == "
        "self.parallelism.tensorParallelSize * self.parallelism.pipelineParallelSize))",
        "one replica uses tensorParallelSize x pipelineParallelSize GPUs: set count to that product, or remove it",
        field=".hardware.gpu.count",
    ),
    rule(
        f"{_CLAIM_IS_NOT_OURS} || ({_has('self', _CLASS)} == {_has('oldSelf', _CLASS)} && "
        f"(!{_has('self', _CLASS)} || self.storage.{_CLASS} == oldSelf.storage.{_CLASS}))",
        f"storage.storageClassName {_RECREATE}",
    ),
    rule(
        f"{_CLAIM_IS_NOT_OURS} || ({_only_once('self')} && {_only_once('oldSelf')}) || "
        f"({_has('self', _MODES)} && {_has('oldSelf', _MODES)} && "
        f"self.storage.{_MODES} == oldSelf.storage.{_MODES})",
        f"storage.accessModes {_RECREATE}",
    ),
    rule(
        "!self.?storage.?size.hasValue() || !oldSelf.?storage.?size.hasValue() || "
        "quantity(string(self.storage.size)).compareTo(quantity(string(oldSelf.storage.size))) >= 0",
        "storage.size may grow and never shrink, as Kubernetes has it: set it to the old size or more, or delete the "
        "ModelDeployment and create it anew",
    ),
]


class ModelDeploymentSpec(ApiModel):
    """One model, served."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": _RULES})

    model: ModelSpec = Field(description="Which model.")
    engine: EngineSpec | None = Field(default=None, description="How it is served.")
    parallelism: ParallelismSpec | None = Field(default=None, description="How it is split over GPUs.")
    hardware: HardwareSpec | None = Field(default=None, description="What it is served on.")
    pod: PodSpec | None = Field(default=None, description="Placement and metadata of the pods.")
    replicas: Annotated[int, Field(strict=True, ge=0, le=1000)] = Field(
        default=1, description="Engine replicas."
    )
    suspend: StrictBool | None = Field(
        default=None, description="Keeps the volume, scales to zero and skips the test; unset: no."
    )
    resources: ResourcesSpec | None = Field(default=None, description="CPU and memory by component.")
    storage: StorageSpec | None = Field(default=None, description="The model volume.")
    service: ServiceSpec | None = Field(default=None, description="The public Service.")
    test: TestSpec | None = Field(default=None, description="The test before traffic.")


class ModelDeployment(ApiModel):
    """A ModelDeployment as the operator sees it: identity, spec, and the status as it was last written."""

    name: str
    namespace: str
    uid: str
    generation: int = 0
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    spec: ModelDeploymentSpec
    deleting: bool = False

    @classmethod
    def from_object(cls, body: dict[str, Any]) -> ModelDeployment:
        """Read an object of the API server.

        Raises:
            pydantic.ValidationError: the spec is not one that the schema would have let through.
        """
        metadata = body.get("metadata") or {}
        return cls(
            name=metadata.get("name", ""),
            namespace=metadata.get("namespace", "default"),
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 0),
            annotations=dict(metadata.get("annotations") or {}),
            labels=dict(metadata.get("labels") or {}),
            spec=ModelDeploymentSpec.model_validate(body.get("spec") or {}),
            deleting=metadata.get("deletionTimestamp") is not None,
        )
