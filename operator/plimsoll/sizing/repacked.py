"""What laying weights out for a kernel adds to them after loading, by release and card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.cards import ADA
from plimsoll.sizing.constants import TRITON_EXPERTS, at
from plimsoll.sizing.engine import V1_ENGINE
from plimsoll.sizing.interval import NOTHING, Interval, exactly
from plimsoll.sizing.layers import MultiHeadLatent
from plimsoll.sizing.quantization import WeightFormat
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.quantization import Quantization
    from plimsoll.sizing.tensors import Tensor

_HOPPER: Final = 9
_SHORT_TABLES: Final = (0, 32, 0)
_LATENT_SINCE: Final = (0, 7, 1)
_QUERY_UP: Final = (".q_b_proj", ".q_proj")


def repacked(launch: Launch, stage: int) -> Interval:
    """Bytes on one rank of a stage beyond the tensors that were loaded."""
    known = _absorbed_into_queries(launch, stage) + _longer_tables(launch) + _scales_by_group(launch, stage)
    return _experts_on_hopper(launch, stage) + exactly(known)


def _longer_tables(launch: Launch) -> int:
    """Rotary tables of Qwen 3 behind an encoder: for four times the positions before 0.32."""
    shape = launch.shape
    in_parts = bool(shape.tower) and shape.architecture.startswith(("Qwen3VL", "Qwen3_5"))
    if not in_parts or shape.rope is None or launch.version.at_least(_SHORT_TABLES):
        return 0
    return 3 * shape.rope.table_bytes(launch.precision.element_bytes)


def _scales_by_group(launch: Launch, stage: int) -> int:
    """Marlin's scales of fp8 blocks on cards without 8 bit floats: one for each row and group, in 16 bits.

    Source: vLLM 0.33.0, quantization/utils/marlin_utils_fp8.py.
    """
    quantization, card = launch.precision.quantization, launch.accelerator
    if quantization is None or card is None or card.platform != "cuda" or card.compute_capability >= ADA:
        return 0
    first, end = launch.stages[stage].layers
    return sum(
        _beyond_blocks(tensor, launch, quantization)
        for layer in launch.shape.layers[first:end]
        for tensor in layer.tensors
        if tensor.quantized
    )


def _beyond_blocks(tensor: Tensor, launch: Launch, quantization: Quantization) -> int:
    """What such scales take of one tensor beyond those that the checkpoint has."""
    quantization = tensor.own or quantization
    if quantization.weights is not WeightFormat.FP8_BLOCK or quantization.block is None:
        return 0
    size = launch.tensor_parallel_size
    whole = tensor.expert and launch.serving.enable_expert_parallel
    rows, columns = tensor.rank_shape(1 if whole else size)
    element = launch.precision.element_bytes
    stored = quantization.tensor_bytes(tensor, rows, columns, element) - rows * columns
    copies = ceil_div(tensor.copies, size) if whole else tensor.copies
    return copies * (ceil_div(columns, quantization.block[1]) * rows * element - stored)


def _experts_on_hopper(launch: Launch, stage: int) -> Interval:
    """MXFP4 experts, laid out for Triton's kernels, which adapters are not served with."""
    quantization, card = launch.precision.quantization, launch.accelerator
    if quantization is None or quantization.weights is not WeightFormat.MXFP4 or card is None:
        return NOTHING
    hopper = card.platform == "cuda" and card.compute_capability[0] == _HOPPER
    if not hopper or launch.shape.experts is None or launch.serving.lora is not None:
        return NOTHING
    return at(TRITON_EXPERTS, launch.version).of(launch.stages[stage].layer_bytes)


def _absorbed_into_queries(launch: Launch, stage: int) -> int:
    """W_Q_UK, W_QR and W_UV_O of each layer of latent attention, kept beside what they were made of.

    Source: vLLM 0.7.1 to 0.7.3, attention/backends/mla/utils.py (process_weights_after_loading): in 8 bits where the
    checkpoint is in fp8. Logs have them on H200, and not on L40S and A100. Since 0.8 only W_UV and W_UK stand beside kv_b_proj, which the weights count.
    """
    shape, card = launch.shape, launch.accelerator
    first_engine = launch.version.at_least(_LATENT_SINCE) and not launch.version.at_least(V1_ENGINE)
    hopper = card is not None and card.compute_capability[0] == _HOPPER
    if shape.latent_up_projection is None or not first_engine or not hopper:
        return 0
    heads = shape.num_attention_heads // launch.tensor_parallel_size
    quantization = launch.precision.quantization
    eight_bits = quantization is not None and quantization.weights is WeightFormat.FP8_BLOCK
    element = 1 if eight_bits else launch.precision.element_bytes
    first, end = launch.stages[stage].layers
    total = 0
    for layer in shape.layers[first:end]:
        cache = layer.cache
        queries = next((tensor.columns for tensor in layer.tensors if tensor.name.endswith(_QUERY_UP)), 0)
        if isinstance(cache, MultiHeadLatent):
            into_queries = queries * (cache.kv_lora_rank + cache.qk_rope_head_dim)
            total += heads * (into_queries + cache.kv_lora_rank * shape.hidden_size)
    return total * element
