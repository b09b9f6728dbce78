"""A model as sizing sees it: layers with their caches and tensors, and what lies outside the layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll.sizing.checked import MAX_TOKENS

if TYPE_CHECKING:
    from plimsoll.sizing.draft import Draft
    from plimsoll.sizing.encoders import Encoder
    from plimsoll.sizing.layers import CacheKind
    from plimsoll.sizing.quantization import Quantization
    from plimsoll.sizing.rope import Rope
    from plimsoll.sizing.tensors import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer.

    Attributes:
        cache: what it keeps for the tokens it has seen.
        extra_caches: further ones of the same layer, in the engine's order before `cache`.
        attentions: attention modules, each with its scalars for an 8 bit cache.
        buffers: tensors that the layer keeps beside its parameters and those scalars.
    """

    cache: CacheKind
    tensors: tuple[Tensor, ...]
    extra_caches: tuple[CacheKind, ...] = ()
    attentions: int = 1
    buffers: tuple[Tensor, ...] = ()

    @property
    def caches(self) -> tuple[CacheKind, ...]:
        """All caches of the layer, in the engine's order."""
        return (*self.extra_caches, self.cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """The widths of the routed layers, for the workspace that the engine keeps."""

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionKernels:
    """What of a model's attention decides which backend, and so which block size, a card gets.

    Attributes:
        sparse: an indexer chooses the tokens (DeepSeek V3.2).
        prefix_masks: image tokens see each other both ways (Gemma 3 and 4).
        largest_head: elements of the widest head.
        fixed_block: tokens of a block where no backend takes another (DeepSeek V4); 0 where they choose.
        ignores_cache_dtype: the engine's class never hands the cache dtype on, so that it stays the model's.
    """

    sparse: bool = False
    prefix_masks: bool = False
    largest_head: int = 0
    fixed_block: int = 0
    ignores_cache_dtype: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Everything of a config that bytes depend on.

    Attributes:
        architecture: the class that vLLM chooses by name.
        dtype: of the checkpoint ("bfloat16"); the plan may fall back to another.
        intermediate_size: of the widest dense MLP; 0 where there is none.
        first_stage, last_stage, every_stage: tensors outside the layers, by pipeline stage.
        buffer_bytes: buffers on every rank beside the rope table and the attention scales.
        other_ropes: further distinct rotary tables, each on every rank.
        tower, tower_buffer_bytes: encoders of images or sound and what joins them to the text, on the first stage.
        decoder_type: the model type of the decoder behind an encoder; None where it stands alone.
        encoder: what the engine profiles with images or sound; None where its work is not known.
        mixer_width: of the widest recurrent mixer, what it projects in and twice what it holds inside.
        least_batched_tokens: of the largest item that one batch must hold whole.
        kept_per_token: elements that the class keeps on the first stage for each token of the largest batch.
        kernels: what of the attention decides the backend.
        max_model_len: the longest context that the model is made for.
        float16_unsafe: vLLM refuses float16 for this model type.
        length_assumed: the config names no length, so that the engine takes any that is asked for.
        stages_problem: why the engine does not split the layers into pipeline stages; None where it does.
        last_release: of vLLM that had the class; None where the newest has it.
        unloaded: what the files hold and the engine does not load, in words; None if they should agree.
        draft: the model's own draft layers, which are built for speculative decoding only; None where there are none.
        uncounted_draft: why there is none though the engine builds some; None where that is not so.
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
    other_ropes: tuple[Rope, ...] = ()
    tower: tuple[Tensor, ...] = ()
    tower_buffer_bytes: int = 0
    decoder_type: str | None = None
    encoder: Encoder | None = None
    least_batched_tokens: int = 0
    kept_per_token: int = 0
    mixer_width: int = 0
    kernels: AttentionKernels = AttentionKernels()
    experts: MixtureOfExperts | None = None
    latent_up_projection: tuple[int, int] | None = None  # MLA: (heads x (nope + v), kv_lora_rank)
    float16_unsafe: bool = False
    last_release: tuple[int, int, int] | None = None
    unloaded: str | None = None
    draft: Draft | None = None
    uncounted_draft: str | None = None
    stages_problem: str | None = None
    length_assumed: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[Layer, ...]:
        """The layers that are not the same object."""
        return tuple({id(layer): layer for layer in self.layers}.values())

    @property
    def unset_max_model_len(self) -> int:
        """The context that the engine takes where nobody says one: for LongRoPE the length of its short factors."""
        return (self.rope and self.rope.unset_len) or self.max_model_len

    @property
    def length_limit(self) -> int:
        """The longest context that may be asked for."""
        return MAX_TOKENS if self.length_assumed else self.max_model_len
