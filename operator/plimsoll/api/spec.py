"""`spec` of a ModelDeployment: what a user may say. Unset means absent; nothing but `replicas` has a default."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from plimsoll.api.base import ApiModel, DataKey, ObjectName, QuantityText

MAX_MODEL_ID_LENGTH = 96 + 1 + 96  # the Hub allows 96 characters for each side of the slash
ModelId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_MODEL_ID_LENGTH,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$",
    ),
]
Revision = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
GlobPattern = Annotated[str, Field(min_length=1, max_length=255)]
Flag = Annotated[str, Field(min_length=1, max_length=1024)]


class SecretKeyRef(ApiModel):
    """One key of a Secret in the ModelDeployment's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: DataKey = Field(description="Key inside the Secret.")


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
    )


class EnvVar(ApiModel):
    """One environment variable of the engine."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")] = (
        Field(description="Name of the variable.")
    )
    value: Annotated[str, Field(max_length=32768)] | None = Field(
        default=None, description="Its value; a secret belongs into valueFrom."
    )
    value_from: EnvVarSource | None = Field(
        default=None, description="Where the value comes from, instead of value."
    )


class EnvVarSource(ApiModel):
    """A variable's value from a Secret or a ConfigMap."""

    secret_key_ref: SecretKeyRef | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: ConfigMapKeyRef | None = Field(default=None, description="A key of a ConfigMap.")


class ConfigMapKeyRef(ApiModel):
    """One key of a ConfigMap in the same namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: DataKey = Field(description="Key inside the ConfigMap.")


class VllmSpec(ApiModel):
    """vLLM's own engine arguments, by vLLM's own names; unset: the engine version's default."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Share of each GPU's memory that vLLM may use; unset: the engine version's default.",
    )
    quantization: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9_-]+$")] | None = Field(
        default=None, description="Quantization method by vLLM's name; unset: what the checkpoint says."
    )
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = Field(
        default=None, description="Data type of weights and activations; unset: auto."
    )
    kv_cache_dtype: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9_]+$")] | None = (
        Field(default=None, description="Data type of the KV cache by vLLM's name, such as auto or fp8.")
    )
    max_num_seqs: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None, description="Most sequences in one batch."
    )
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=16777216)] | None = Field(
        default=None, description="Most tokens in one forward pass."
    )
    enable_chunked_prefill: bool | None = Field(
        default=None, description="Whether long prompts are split over several forward passes."
    )
    cpu_offload: QuantityText | None = Field(
        default=None, description="Weights kept in host memory, per GPU, such as 4Gi."
    )
    trust_remote_code: bool | None = Field(
        default=None, description="Whether Python code of the model's repository may run; unset: no."
    )
    extra_args: tuple[Flag, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Further arguments of vllm serve, one per item; a flag that a field sets is refused.",
    )


class EngineType(StrEnum):
    """The engines that Plimsoll can run."""

    VLLM = "vLLM"


class EngineSpec(ApiModel):
    """How the model is served."""

    type: EngineType | None = Field(default=None, description="Engine; unset: vLLM.")
    image: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\s]+$")] | None = Field(
        default=None, description="Container image; unset: the operator's default for the hardware."
    )
    version: (
        Annotated[
            str, Field(min_length=1, max_length=32, pattern=r"^v?[0-9]+\.[0-9]+\.[0-9]+([.a-z0-9+-]*)$")
        ]
        | None
    ) = Field(
        default=None, description="vLLM release that the plan assumes; unset: read from the image's tag."
    )
    served_model_name: (
        Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$")] | None
    ) = Field(default=None, description="Name under which clients ask for the model; unset: the model id.")
    max_model_len: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None,
        description="Context length in tokens; unset: the largest that fits, capped by the model.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with the API key that clients must send."
    )
    env: tuple[EnvVar, ...] | None = Field(
        default=None, min_length=1, max_length=64, description="Further environment variables of the engine."
    )
    vllm: VllmSpec | None = Field(default=None, description="Engine arguments of vLLM.")


class ParallelismSpec(ApiModel):
    """How the model is split; unset: computed."""

    tensor_parallel_size: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        default=None, description="GPUs that share each layer; 0: no GPU, the engine runs on CPU."
    )
    pipeline_parallel_size: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="Stages that the layers are split into."
    )


class GpuSpec(ApiModel):
    """Which GPUs may be used, and how many."""

    resource_name: (
        Annotated[str, Field(min_length=3, max_length=253, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] | None
    ) = Field(default=None, description="Extended resource of the device plugin; unset: nvidia.com/gpu.")
    product: (
        Annotated[
            str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$")
        ]
        | None
    ) = Field(
        default=None,
        description="Value of the label nvidia.com/gpu.product, or a catalogue alias such as A100-80GB.",
    )
    min_memory: QuantityText | None = Field(
        default=None, description="Least memory of one GPU, such as 20Gi."
    )
    count: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="GPUs per replica; unset: the fewest that fit."
    )


class HardwareSpec(ApiModel):
    """The accelerators to serve on."""

    gpu: GpuSpec | None = Field(default=None, description="GPUs; unset: any of the cluster's.")


LabelMap = dict[
    Annotated[str, Field(min_length=1, max_length=317)],
    Annotated[str, Field(max_length=262144)],
]


class PodSpec(ApiModel):
    """Placement and metadata of the pods; Kubernetes' own types, passed through."""

    node_selector: LabelMap | None = Field(
        default=None, max_length=64, description="Labels that a node must have."
    )
    tolerations: tuple[dict[str, JsonValue], ...] | None = Field(
        default=None, min_length=1, max_length=64, description="Taints that the pods tolerate."
    )
    affinity: dict[str, JsonValue] | None = Field(default=None, description="Node and pod affinity.")
    topology_spread_constraints: tuple[dict[str, JsonValue], ...] | None = Field(
        default=None, min_length=1, max_length=16, description="How replicas spread over the cluster."
    )
    priority_class_name: ObjectName | None = Field(default=None, description="Priority class of the pods.")
    runtime_class_name: ObjectName | None = Field(
        default=None, description="Runtime class of the server's pods."
    )
    image_pull_secrets: tuple[LocalObjectRef, ...] | None = Field(
        default=None, min_length=1, max_length=16, description="Secrets for pulling the images."
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="Service account of the pods; no token is mounted."
    )
    labels: LabelMap | None = Field(default=None, max_length=64, description="Further labels of the pods.")
    annotations: LabelMap | None = Field(
        default=None, max_length=64, description="Further annotations of the pods."
    )


class LocalObjectRef(ApiModel):
    """A named object of the same namespace."""

    name: ObjectName = Field(description="Name of the object.")


class ResourceAmounts(ApiModel):
    """CPU and memory."""

    cpu: QuantityText | None = Field(default=None, description="CPU, such as 4 or 500m.")
    memory: QuantityText | None = Field(default=None, description="Memory, such as 12Gi.")


class ComponentResourcesSpec(ApiModel):
    """Requests and limits of one component; what is missing is computed."""

    requests: ResourceAmounts | None = Field(default=None, description="What is reserved.")
    limits: ResourceAmounts | None = Field(default=None, description="What may not be passed.")


class ResourcesSpec(ApiModel):
    """CPU and memory by component; what the user sets wins."""

    download: ComponentResourcesSpec | None = Field(default=None, description="The download Job.")
    server: ComponentResourcesSpec | None = Field(default=None, description="The engine.")
    test: ComponentResourcesSpec | None = Field(default=None, description="The test Job.")


class AccessMode(StrEnum):
    """Access modes that a model volume may have."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"


class StorageSpec(ApiModel):
    """The volume that holds the model's files."""

    size: QuantityText | None = Field(
        default=None, description="Size of the claim; unset: computed from the files."
    )
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class; unset: the cluster's default."
    )
    access_modes: tuple[AccessMode, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=3,
        description="Access modes of the claim; unset: ReadWriteOnce.",
    )
    existing_claim: ObjectName | None = Field(
        default=None, description="A claim that is already there; none is made, and it is never deleted."
    )
    retain: bool | None = Field(
        default=None, description="Whether the claim outlives the ModelDeployment; unset: no."
    )


class ServiceSpec(ApiModel):
    """The public Service."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(default=None, description="Port; unset: 8000.")


class ConfigMapRef(ApiModel):
    """A ConfigMap with a promptfoo configuration under the key promptfooconfig.yaml."""

    name: ObjectName = Field(description="Name of the ConfigMap.")


class PromptfooSpec(ApiModel):
    """The suite; neither field: a built-in smoke suite."""

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


class ModelDeploymentSpec(ApiModel):
    """One model, served."""

    model: ModelSpec = Field(description="Which model.")
    engine: EngineSpec | None = Field(default=None, description="How it is served.")
    parallelism: ParallelismSpec | None = Field(default=None, description="How it is split over GPUs.")
    hardware: HardwareSpec | None = Field(default=None, description="What it is served on.")
    pod: PodSpec | None = Field(default=None, description="Placement and metadata of the pods.")
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(default=1, description="Engine replicas.")
    suspend: bool | None = Field(
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


for _late in (EnvVar, EnvVarSource, PodSpec, EngineSpec, ModelDeploymentSpec, ModelDeployment):
    _late.model_rebuild()
