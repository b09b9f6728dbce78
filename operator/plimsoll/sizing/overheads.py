"""What one rank takes beside weights and KV cache: the peak of a batch, CUDA graphs, and what the engine keeps.

Sources of the forms: vLLM 0.33.0, v1/worker/gpu_worker.py (determine_available_memory), v1/worker/gpu/model_runner.py
(profile_run) and v1/worker/gpu/cudagraph_utils.py; the factors are in constants.toml.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.constants import (
    COMPILED_TABLE,
    ENCODER,
    FORWARD_HIDDEN,
    GATED_DELTA_WARMUP,
    GRAPHS_PER_EXPERT_LAYER,
    GRAPHS_PER_FP4_EXPERT_LAYER,
    GRAPHS_PER_LATENT_LAYER,
    GRAPHS_PER_LAYER,
    KEPT_TABLE,
    LOADING,
    LOADING_ENCODER,
    MULTIMODAL_HIDDEN,
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
from plimsoll.sizing.layers import MultiHeadLatent, RecurrentState
from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.runner import second_runner
from plimsoll.units import GIB, MIB, ceil_div

if TYPE_CHECKING:
    from plimsoll.sizing.constants import Constant
    from plimsoll.sizing.engine import BatchLimits
    from plimsoll.sizing.launch import Launch

_COUNTER_BYTES: Final = 4  # penalty counters: one int32 per sequence and vocabulary entry, and one bit
_TOKEN_BYTES: Final = 4
_ROUTER_BYTES: Final = 4  # float32 logits of the router
_LINKED_BYTES: Final = 38 * GIB  # cards of this size are sold with links between them
_LARGEST_GRAPH: Final = 512
_SHORT_CHUNK: Final = 2048
_BLACKWELL: Final = 10
_WORKSTATION_BLACKWELL: Final = 12
_GB10: Final = (12, 1)
_GATED_DELTA: Final = "gated delta net"
_EXPERT_CHUNK: Final = 32768
_FOUR_BIT_INTEGERS: Final = (WeightFormat.AWQ, WeightFormat.GPTQ, WeightFormat.PACKED)
_WIDE_MARLIN: Final = (0, 20, 0)  # seen in logs of 0.13 and 0.16; 0.33 has the wider form
_GPT_OSS: Final = "gpt_oss"
_WHOLE_PROMPTS: Final = 32768  # from here on the first engine cut prompts into chunks
_ALL_GRAPHS: Final = 51  # sizes of a capture up to 512 tokens, each in pieces and whole
_FULL_WIDTH: Final = 4096  # graphs of narrower models are smaller: by this share of what goes with the width
_WIDTH_SHARE: Final = Fraction(3, 10)
_FIRST_GRAPHS: Final = 10  # what the first capture takes, in graphs that follow


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


def graphs(launch: Launch) -> Interval:
    """What CUDA graphs take on one card: by layers, and by how many batch sizes are captured."""
    if launch.accelerator is None or launch.serving.enforce_eager:
        return NOTHING
    layers = max(end - first for first, end in (stage.layers for stage in launch.stages))
    captured = Fraction(_captures(launch) + _FIRST_GRAPHS, _ALL_GRAPHS + _FIRST_GRAPHS)
    narrow = 1 - _WIDTH_SHARE * (1 - Fraction(min(launch.shape.hidden_size, _FULL_WIDTH), _FULL_WIDTH))
    return graphs_constant(launch).of(int(MIB * layers * captured * narrow))


def graphs_constant(launch: Launch) -> Constant:
    """The interval of one layer that holds for this model and release."""
    layers = launch.shape.layers
    if 2 * sum(isinstance(layer.cache, MultiHeadLatent) for layer in layers) >= len(layers):
        return GRAPHS_PER_LATENT_LAYER
    if launch.shape.experts is None:
        return at(GRAPHS_PER_LAYER, launch.version)
    return at(
        GRAPHS_PER_FP4_EXPERT_LAYER if _many_kernels(launch) else GRAPHS_PER_EXPERT_LAYER, launch.version
    )


def _many_kernels(launch: Launch) -> bool:
    """Whether the card has no fused kernel for NVFP4 experts: a graph grows with every kernel that it holds."""
    quantization, card = launch.precision.quantization, launch.accelerator
    fp4 = quantization is not None and quantization.weights is WeightFormat.NVFP4
    return fp4 and card is not None and card.compute_capability[0] == _WORKSTATION_BLACKWELL


def _captures(launch: Launch) -> int:
    """Batch sizes that are captured: 1, 2, 4, then by 8 up to 256 and by 16 beyond."""
    sequences = launch.limits(1).max_num_seqs
    largest = min(2 * sequences * (1 + launch.proposed_tokens), _largest_graph(launch))
    return min(3, largest) + min(largest, 248) // 8 + max(0, largest - 240) // 16


def _largest_graph(launch: Launch) -> int:
    """Tokens of the largest capture; twice as many on Blackwell's large cards, and for gpt-oss."""
    card = launch.accelerator
    large = (
        card is not None and card.compute_capability[0] == _BLACKWELL
    ) or launch.shape.model_type == _GPT_OSS
    return (2 if large and launch.version.at_least(V2_RUNNER) else 1) * _LARGEST_GRAPH


def non_torch(launch: Launch) -> Interval:
    """Memory outside torch: by how the cards of a tensor parallel group are joined; wider off CUDA, where it was read."""
    card = launch.accelerator
    if card is None:
        return NOTHING
    found = non_torch_constant(launch).bytes
    if _has_gated_delta(launch) and launch.version.at_least(GATED_DELTA_WARMUP.since):
        found += GATED_DELTA_WARMUP.bytes
    return found + UNFITTED[card.platform].of(card.memory_bytes) if card.platform in UNFITTED else found


def _has_gated_delta(launch: Launch) -> bool:
    return any(
        isinstance(cache, RecurrentState) and cache.name == _GATED_DELTA
        for layer in launch.shape.layers
        for cache in layer.caches
    )


def non_torch_constant(launch: Launch) -> Constant:
    """The interval that holds for this card, split and release."""
    if launch.tensor_parallel_size == 1 or launch.accelerator is None:
        return at(NON_TORCH_SINGLE, launch.version)
    linked = launch.accelerator.memory_bytes >= _LINKED_BYTES and launch.accelerator.compute_capability in (
        (8, 0), (9, 0), (10, 0), (10, 3),
    )  # fmt: skip
    return at(NON_TORCH_LINKED if linked else NON_TORCH_UNLINKED, launch.version)


def loading(launch: Launch, weights_bytes: int) -> Interval:
    """What loading leaves beside the weights."""
    if launch.accelerator is None:
        return NOTHING
    found = loading_constant(launch).of(weights_bytes)
    if launch.accelerator.compute_capability == _GB10:
        found += UNIFIED.of(max(weights_bytes - UNIFIED_FREE.bytes.expected, 0))
    return found


def loading_constant(launch: Launch) -> Constant:
    """The interval that holds for this model."""
    return LOADING_ENCODER if launch.shape.tower else LOADING


def buffers(launch: Launch, limits: BatchLimits, *, first: bool, last: bool) -> Interval:
    """What the engine keeps: penalty counters and masks, what a stage receives, scratch of experts."""
    total = NOTHING
    if last:
        entries = limits.max_num_seqs * launch.shape.vocab_size
        total += exactly(ceil_div(entries * (1 + launch.proposed_tokens), 8))
        if second_runner(launch):
            total += exactly(entries * _COUNTER_BYTES + ceil_div(entries, 8))
        total += exactly(_draft_inputs(launch, limits))
    if first:
        total += kept_table(launch)
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


def tokens_on_card(launch: Launch, limits: BatchLimits, max_model_len: int) -> Interval:
    """All tokens of all sequences, which proposing from them keeps on the card (vLLM 0.33.0, v1/worker/gpu/states.py)."""
    speculation = launch.serving.speculative
    if speculation is None or not speculation.ngram or not second_runner(launch):
        return NOTHING
    return exactly(limits.max_num_seqs * max_model_len * _TOKEN_BYTES)


def _state_bytes(launch: Launch) -> int:
    """States of one sequence on one rank, which the first engine allotted for all sequences (models/mamba_cache.py)."""
    caches = [cache for layer in launch.shape.layers for cache in layer.caches]
    element = launch.precision.element_bytes
    return sum(
        cache.state_bytes(launch.tensor_parallel_size, element)
        for cache in caches
        if isinstance(cache, RecurrentState)
    )
