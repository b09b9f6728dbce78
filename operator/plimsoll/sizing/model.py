"""A model as sizing sees it: layers with their caches and tensors, and what lies outside the layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.quantization import Quantization
    from plimsoll.sizing.rope import Rope
    from plimsoll.sizing.tensors import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer."""

    cache: CacheKind
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """The widths of the routed layers, for the workspace that the engine keeps."""

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Everything of a config that bytes depend on.

    Attributes:
        architecture: the class that vLLM chooses by name.
        dtype: of the checkpoint ("bfloat16"); the plan may fall back to another.
        intermediate_size: of the widest dense MLP; 0 where there is none.
        first_stage, last_stage, every_stage: tensors outside the layers, by pipeline stage.
        buffer_bytes: buffers on every rank beside the rope table and the attention scales.
        has_attention_scales: 16 bytes of scale buffers in each attention layer.
        max_model_len: the longest context that the model is made for.
        float16_unsafe: vLLM refuses float16 for this model type.
        unloaded: what the files hold and the engine does not load, in words; None if they should agree.
    """

    architecture: str
    model_type: str
    dtype: str
    quantization: Quantization | None
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    num_attention_heads: int
    layers: tuple[Layer, ...]
    first_stage: tuple[Tensor, ...]
    last_stage: tuple[Tensor, ...]
    every_stage: tuple[Tensor, ...]
    tied_embeddings: bool
    rope: Rope | None
    max_model_len: int
    buffer_bytes: int = 0
    experts: MixtureOfExperts | None = None
    latent_up_projection: tuple[int, int] | None = None  # MLA: (heads x (nope + v), kv_lora_rank)
    float16_unsafe: bool = False
    unloaded: str | None = None
    warnings: tuple[str, ...] = ()
