"""`spec.engine`: how the model is served, by vLLM's own names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, StrictBool

from plimsoll.api.base import ApiModel, DataKey, ObjectName, QuantityText, Worded, rule

ENV_NAME: Final = Worded(
    r"^[-._a-zA-Z][-._a-zA-Z0-9]*$",
    "must be the name of an environment variable: letters, digits, '-', '_' and '.', not beginning with a digit",
)
VLLM_NAME: Final = Worded(
    r"^[a-z0-9_-]+$", "must be a name of vLLM's, such as awq or fp8: lower case letters, digits, '_' and '-'"
)
IMAGE: Final = Worded(
    r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
    "must be an image reference such as vllm/vllm-openai:v0.33.0, without blanks",
)
ENGINE_VERSION: Final = Worded(
    r"^v?[0-9]{1,4}[.][0-9]{1,4}[.][0-9]{1,4}([.]post[0-9]{1,4}|rc[0-9]{1,4})?([+][0-9A-Za-z.]{1,16})?$",
    "must be a release of vLLM such as 0.33.0",
)
SERVED_MODEL_NAME: Final = Worded(
    r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$",
    "must be a name that fits a request: letters, digits, '.', '_', '-', '/' and ':', beginning with a letter or a "
    "digit",
)
# The tag after the last slash names a release: what manifests/engine.py reads out of it.
TELLING_IMAGE: Final = (
    r"^([^@]*/)?[^/:@]*:v?[0-9]{1,4}[.][0-9]{1,4}[.][0-9]{1,4}([.]post[0-9]{1,4})?([-_+][^/@]*)?(@.*)?$"
)


class SecretKeyRef(ApiModel):
    """One key of a Secret in the ModelDeployment's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: DataKey = Field(description="Key inside the Secret.")


class ConfigMapKeyRef(ApiModel):
    """One key of a ConfigMap in the same namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: DataKey = Field(description="Key inside the ConfigMap.")


class EnvVarSource(ApiModel):
    """A variable's value from a Secret or a ConfigMap."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                    "must have one source: set either secretKeyRef or configMapKeyRef",
                )
            ]
        }
    )

    secret_key_ref: SecretKeyRef | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: ConfigMapKeyRef | None = Field(default=None, description="A key of a ConfigMap.")


class EnvVar(ApiModel):
    """One environment variable of the engine."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.value) != has(self.valueFrom)",
                    "must have one value: set either value or valueFrom",
                )
            ]
        }
    )

    name: Annotated[
        str,
        Field(min_length=1, max_length=253, json_schema_extra=ENV_NAME.schema()),
        AfterValidator(ENV_NAME.check),
    ] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=32768)] | None = Field(
        default=None, description="Its value; a secret belongs into valueFrom."
    )
    value_from: EnvVarSource | None = Field(
        default=None, description="Where the value comes from, instead of value."
    )


VllmName = Annotated[
    str,
    Field(min_length=1, max_length=63, json_schema_extra=VLLM_NAME.schema()),
    AfterValidator(VLLM_NAME.check),
]
Flag = Annotated[str, Field(min_length=1, max_length=1024)]


class VllmSpec(ApiModel):
    """vLLM's own engine arguments, by vLLM's own names; unset: the engine version's default."""

    gpu_memory_utilization: Annotated[float, Field(strict=True, gt=0, le=1)] | None = Field(
        default=None,
        description="Share of each GPU's memory that vLLM may use; unset: the engine version's default. With "
        "kvCacheMemory it only says how much must be free when the engine starts.",
    )
    kv_cache_memory: QuantityText | None = Field(
        default=None,
        description="KV cache of each GPU, or in host memory on CPU, such as 8Gi; the engine takes exactly that, so "
        "that plan and engine agree to the token. Unset: what gpuMemoryUtilization leaves.",
    )
    quantization: VllmName | None = Field(
        default=None, description="Quantization method by vLLM's name; unset: what the checkpoint says."
    )
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = Field(
        default=None, description="Data type of weights and activations; unset: auto."
    )
    kv_cache_dtype: VllmName | None = Field(
        default=None, description="Data type of the KV cache by vLLM's name, such as auto or fp8."
    )
    max_num_seqs: Annotated[int, Field(strict=True, ge=1, le=65536)] | None = Field(
        default=None, description="Most sequences in one batch."
    )
    max_num_batched_tokens: Annotated[int, Field(strict=True, ge=1, le=16777216)] | None = Field(
        default=None, description="Most tokens in one forward pass."
    )
    enable_chunked_prefill: StrictBool | None = Field(
        default=None, description="Whether long prompts are split over several forward passes."
    )
    cpu_offload: QuantityText | None = Field(
        default=None, description="Weights kept in host memory, per GPU, such as 4Gi."
    )
    trust_remote_code: StrictBool | None = Field(
        default=None, description="Whether code from the model's repository may run in the engine."
    )
    extra_args: tuple[Flag, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Further arguments of `vllm serve`; a flag that a field sets is refused.",
    )


class EngineType(StrEnum):
    """Engines that can be served."""

    VLLM = "vLLM"


class EngineSpec(ApiModel):
    """How the model is served."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"!has(self.image) || has(self.version) || self.image.matches('{TELLING_IMAGE}')",
                    "its tag does not name a release of vLLM, which the plan rests on: set engine.version to the "
                    "release that the image holds, such as 0.33.0",
                    field=".image",
                )
            ]
        }
    )

    type: EngineType | None = Field(default=None, description="Engine; unset: vLLM.")
    image: (
        Annotated[
            str,
            Field(min_length=1, max_length=500, json_schema_extra=IMAGE.schema()),
            AfterValidator(IMAGE.check),
        ]
        | None
    ) = Field(default=None, description="Container image; unset: the operator's default for the hardware.")
    version: (
        Annotated[
            str,
            Field(min_length=1, max_length=48, json_schema_extra=ENGINE_VERSION.schema()),
            AfterValidator(ENGINE_VERSION.check),
        ]
        | None
    ) = Field(
        default=None, description="vLLM release that the plan assumes; unset: read from the image's tag."
    )
    served_model_name: (
        Annotated[
            str,
            Field(min_length=1, max_length=253, json_schema_extra=SERVED_MODEL_NAME.schema()),
            AfterValidator(SERVED_MODEL_NAME.check),
        ]
        | None
    ) = Field(default=None, description="Name under which clients ask for the model; unset: the model id.")
    max_model_len: Annotated[int, Field(strict=True, ge=1, le=100_000_000)] | None = Field(
        default=None,
        description="Context length in tokens; unset: the largest that fits, capped by the model.",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with the API key that clients must send."
    )
    env: tuple[EnvVar, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Further environment variables of the engine.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    vllm: VllmSpec | None = Field(default=None, description="Engine arguments of vLLM.")
