"""What one rank takes beside weights and KV cache: the peak of a batch, CUDA graphs, and what the engine keeps.

Sources of the forms: vLLM 0.33.0, v1/worker/gpu_worker.py (determine_available_memory), v1/worker/gpu/model_runner.py
(profile_run) and v1/worker/gpu/cudagraph_utils.py; the factors are in constants.toml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.constants import (
    COMPILED_TABLE,
    ENCODER,
    FORWARD_HIDDEN,
    GATED_DELTA_WARMUP,
    KEPT_TABLE,
    LOADING,
    LOADING_ENCODER,
    LOADING_MOST,
    MULTIMODAL_HIDDEN,
    NON_TORCH_EIGHT,
    NON_TORCH_ELSEWHERE,
    NON_TORCH_LINKED,
    NON_TORCH_SINGLE,
    NON_TORCH_UNLINKED,
    PIPELINE_HIDDEN,
    SAMPLER,
    SAMPLER_SCRATCH,
    UNFITTED,
    UNIFIED,
    UNIFIED_FREE,
    at,
)
from plimsoll.sizing.draft import draft_of
from plimsoll.sizing.engine import KEPT_WORKSPACE, V1_ENGINE, V2_RUNNER, EngineVersion
from plimsoll.sizing.interval import NOTHING, Interval, exactly
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.runner import has_gated_delta, second_runner
from plimsoll.units import GIB, ceil_div

if TYPE_CHECKING:
    from plimsoll.sizing.constants import Constant
    from plimsoll.sizing.engine import BatchLimits
    from plimsoll.sizing.launch import Launch

_COUNTER_BYTES: Final = 4  # penalty counters: one int32 per sequence and vocabulary entry, and one bit
_TOKEN_BYTES: Final = 4
_RUNNER_COUNTED: Final = (
    0,
    27,
    0,
)  # before, what the runner made for itself was in none of the terms of the budget
_ROUTER_BYTES: Final = 4  # float32 logits of the router
_LINKED_BYTES: Final = 38 * GIB  # cards of this size are sold with links between them
_LINKED_CARDS: Final = ((8, 0), (9, 0), (10, 0), (10, 3))
_HOPPER: Final = 9
_EIGHT: Final = 8
_SHORT_CHUNK: Final = 2048
_GB10: Final = (12, 1)
_EXPERT_CHUNK: Final = 32768
_FOUR_BIT_INTEGERS: Final = (WeightFormat.AWQ, WeightFormat.GPTQ, WeightFormat.PACKED)
_WIDE_MARLIN: Final = (0, 20, 0)  # seen in logs of 0.13 and 0.16; 0.33 has the wider form
_WHOLE_PROMPTS: Final = 32768  # from here on the first engine cut prompts into chunks


def activations(
    launch: Launch, limits: BatchLimits, max_model_len: int, *, first: bool, last: bool
) -> Interval:
    """The transient peak: encoder, forward pass or sampler, whichever is highest."""
    shape, element = launch.shape, launch.precision.element_bytes
    width = limits.max_num_batched_tokens * shape.hidden_size * element
    embedded = NOTHING
    if first and (shape.tower or shape.encoder is not None):
        levels = 0 if shape.encoder is None else shape.encoder.levels
        embedded = MULTIMODAL_HIDDEN.of(width) + exactly(levels * width)
    peak = forward(launch, limits.max_num_batched_tokens) + embedded
    if not last:
        peak += PIPELINE_HIDDEN.of(width)
    if last:
        peak = peak.at_least(sampler(launch, limits, max_model_len) + exactly(width) + embedded)
    if first:
        peak = peak.at_least(encoder(launch, limits, max_model_len))
        peak = peak.at_least(compiled_table(launch) + exactly(width))
    return peak


def compiled_table(launch: Launch) -> Interval:
    """The embedding's rows on a rank once more, without a compile cache; behind an encoder they are not compiled."""
    return COMPILED_TABLE.of(_compiled_bytes(launch))


def kept_table(launch: Launch) -> Interval:
    """What of that copy stays."""
    quantized = launch.precision.quantization is not None and launch.version.at_least(KEPT_TABLE.since)
    return KEPT_TABLE.of(_compiled_bytes(launch)) if quantized else NOTHING


def _compiled_bytes(launch: Launch) -> int:
    shape = launch.shape
    text = not shape.tower and shape.encoder is None
    compiles = launch.accelerator is not None and not launch.serving.enforce_eager
    if not text or not compiles or not launch.version.at_least(COMPILED_TABLE.since):
        return 0
    rows = ceil_div(shape.vocab_size, launch.tensor_parallel_size)
    return rows * shape.hidden_size * launch.precision.element_bytes


def sampler(launch: Launch, limits: BatchLimits, max_model_len: int) -> Interval:
    """Logits of every sequence, in as many copies as this release's sampler makes.

    The first engine cut long prompts into short chunks by itself, and its profile then shows no sampler (Llama 3.1 8B
    with 0.6 on RTX 3090 and 0.7 on A10).
    """
    chunked = max_model_len > _WHOLE_PROMPTS and limits.max_num_batched_tokens <= _SHORT_CHUNK
    if chunked and not launch.version.at_least(V1_ENGINE):
        return NOTHING
    peak = sampler_constant(launch).of(limits.max_num_seqs * launch.shape.vocab_size)
    if launch.accelerator is not None and launch.version.at_least(SAMPLER_SCRATCH.since):
        peak += SAMPLER_SCRATCH.bytes
    return peak


def sampler_constant(launch: Launch) -> Constant:
    """The interval that holds for this release; the second runner profiled as in 0.29 from the start."""
    early = second_runner(launch) and not launch.version.at_least(V2_RUNNER)
    return at(SAMPLER, EngineVersion(V2_RUNNER) if early else launch.version)


def longest_item(launch: Launch, max_model_len: int) -> int:
    """All that the peak asks of a length beside the limits of a batch."""
    item = launch.shape.encoder
    whole = launch.version.at_least(V1_ENGINE) or max_model_len <= _WHOLE_PROMPTS
    return (0 if item is None else item.largest_item(max_model_len)) * 2 + whole


def encoder(launch: Launch, limits: BatchLimits, max_model_len: int) -> Interval:
    """The largest images or videos that one batch may bring, inside the encoder's widest layer."""
    found = launch.shape.encoder
    if found is None:
        return NOTHING
    element = found.patches(limits.max_num_batched_tokens, max_model_len) * launch.precision.element_bytes
    positions = exactly(element * found.position_elements(launch.version))
    return ENCODER.of(element * found.elements(launch.tensor_parallel_size)) + positions


def forward(launch: Launch, tokens: int) -> Interval:
    """Tensors of the model's width, and the intermediate values of the widest layer."""
    shape, size, element = launch.shape, launch.tensor_parallel_size, launch.precision.element_bytes
    dense = 3 * ceil_div(shape.intermediate_size, size)
    inner = max(dense, ceil_div(shape.mixer_width, size)) * element
    if shape.experts is not None:
        shared = 3 * ceil_div(shape.experts.shared_intermediate_size, size) * element
        inner = max(inner, shared + shape.experts.num_experts * _ROUTER_BYTES)
    peak = FORWARD_HIDDEN.of(tokens * shape.hidden_size * element) + exactly(tokens * inner)
    if not _keeps_workspace(launch):
        peak += exactly(expert_workspace(launch, tokens))
    return peak


def _keeps_workspace(launch: Launch) -> bool:
    """Whether the scratch of the experts is kept for life; the kernels of MXFP4 allot theirs anew."""
    quantization = launch.precision.quantization
    own = quantization is not None and quantization.weights is WeightFormat.MXFP4
    return launch.version.at_least(KEPT_WORKSPACE) and not own


def expert_workspace(launch: Launch, tokens: int) -> int:
    """Scratch of the routed layers (vLLM 0.33.0, fused_moe/modular_kernel.py); with whole experts, of their full width.

    The first engine passed the experts chunks of tokens (VLLM_FUSED_MOE_CHUNK_SIZE), with one cache for each product.
    """
    experts = launch.shape.experts
    if experts is None:
        return 0
    parts = 1 if launch.serving.enable_expert_parallel else launch.tensor_parallel_size
    width = ceil_div(experts.intermediate_size, parts)
    hidden = launch.shape.hidden_size
    if not launch.version.at_least(V1_ENGINE):
        routed = min(tokens, _EXPERT_CHUNK) * experts.num_experts_per_token
        return launch.precision.element_bytes * routed * (3 * width + hidden)
    routed = tokens * experts.num_experts_per_token
    narrow = _packed_experts(launch) and not launch.version.at_least(_WIDE_MARLIN)
    first = max(routed * (width if narrow else max(width, hidden)), tokens * hidden)
    return launch.precision.element_bytes * (first + routed * max(2 * width, hidden))


def _packed_experts(launch: Launch) -> bool:
    """Whether Marlin's kernels serve the experts, whose first scratch was of their own width only."""
    quantization = launch.precision.quantization
    return quantization is not None and quantization.weights in _FOUR_BIT_INTEGERS


def non_torch(launch: Launch) -> Interval:
    """Memory outside torch: by how the cards of a tensor parallel group are joined; wider off CUDA, where it was read."""
    card = launch.accelerator
    if card is None:
        return NOTHING
    found = non_torch_constant(launch).bytes
    if has_gated_delta(launch) and launch.version.at_least(GATED_DELTA_WARMUP.since):
        found += GATED_DELTA_WARMUP.bytes
    return found + UNFITTED[card.platform].of(card.memory_bytes) if card.platform in UNFITTED else found


def non_torch_constant(launch: Launch) -> Constant:
    """The interval that holds for this card, split and release."""
    card, size = launch.accelerator, launch.tensor_parallel_size
    if size == 1 or card is None:
        own = card is not None and card.compute_capability[0] != _HOPPER and card.compute_capability != _GB10
        elsewhere = own and launch.version.at_least(V1_ENGINE)
        return at(NON_TORCH_ELSEWHERE if elsewhere else NON_TORCH_SINGLE, launch.version)
    linked = card.memory_bytes >= _LINKED_BYTES and card.compute_capability in _LINKED_CARDS
    if linked and size >= _EIGHT and launch.version.at_least(NON_TORCH_EIGHT.since):
        return NON_TORCH_EIGHT
    return at(NON_TORCH_LINKED if linked else NON_TORCH_UNLINKED, launch.version)


def loading(launch: Launch, weights_bytes: int) -> Interval:
    """What loading leaves beside the weights."""
    if launch.accelerator is None:
        return NOTHING
    found = LOADING_ENCODER.of(weights_bytes) if launch.shape.tower else _rounding(weights_bytes)
    if launch.accelerator.compute_capability == _GB10:
        found += UNIFIED.of(max(weights_bytes - UNIFIED_FREE.bytes.expected, 0))
    return found


def _rounding(weights_bytes: int) -> Interval:
    found, most = LOADING.of(weights_bytes), LOADING_MOST.high_bytes
    return Interval(found.low, min(found.expected, most), min(found.high, most))


def buffers(launch: Launch, limits: BatchLimits, *, first: bool, last: bool) -> Interval:
    """What the engine keeps: penalty counters and masks, what a stage receives, scratch of experts."""
    total = NOTHING
    if last:
        entries = limits.max_num_seqs * launch.shape.vocab_size
        total += exactly(ceil_div(entries * (1 + launch.proposed_tokens), 8))
        if second_runner(launch) and launch.version.at_least(_RUNNER_COUNTED):
            total += exactly(entries * _COUNTER_BYTES + ceil_div(entries, 8))
        total += exactly(_draft_inputs(launch, limits))
    if first:
        kept = limits.max_num_batched_tokens * launch.shape.kept_per_token
        total += kept_table(launch) + exactly(kept * launch.precision.element_bytes)
    else:
        width = launch.shape.hidden_size * launch.precision.element_bytes
        total += exactly(2 * limits.max_num_batched_tokens * width)
    if _keeps_workspace(launch):
        total += exactly(expert_workspace(launch, limits.max_num_batched_tokens))
    if not launch.version.at_least(V1_ENGINE):
        total += exactly(limits.max_num_seqs * _state_bytes(launch))
    return total


def _draft_inputs(launch: Launch, limits: BatchLimits) -> int:
    """Hidden states that a draft reads, and beside an encoder embeddings too (spec_decode/target_dependent_ar).

    Of several streams the model keeps a copy as well (DeepSeek V4: get_mtp_target_hidden_states).
    """
    draft = draft_of(launch.shape, launch.serving)
    if draft is None:
        return 0
    inputs = (1 if draft.streams == 1 else 2 * draft.streams) + (1 if launch.shape.tower else 0)
    width = launch.shape.hidden_size * launch.precision.element_bytes
    return inputs * limits.max_num_batched_tokens * width


def tokens_on_card(launch: Launch, limits: BatchLimits, max_model_len: int) -> int:
    """All tokens of all sequences, which proposing from them keeps on the card (vLLM 0.33.0, v1/worker/gpu/states.py)."""
    speculation = launch.serving.speculative
    if speculation is None or not speculation.ngram or not second_runner(launch):
        return 0
    return limits.max_num_seqs * max_model_len * _TOKEN_BYTES


def _state_bytes(launch: Launch) -> int:
    """States of one sequence on one rank, which the first engine allotted for all sequences (models/mamba_cache.py)."""
    caches = [cache for layer in launch.shape.layers for cache in layer.caches]
    element = launch.precision.element_bytes
    return sum(
        cache.state_bytes(launch.tensor_parallel_size, element)
        for cache in caches
        if isinstance(cache, RecurrentState)
    )
