"""Projections that the engine holds as one layer: what fp8 blocks of a checkpoint become across their seams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.tensors import SCALE_BYTES
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plimsoll.sizing.quantization import Quantization
    from plimsoll.sizing.tensors import Tensor

# Source: vLLM 0.33.0, model_executor/layers/linear.py (_maybe_allow_fp8_block_shape_mismatch) and
# layers/quantization/utils/fp8_utils.py (validate_fp8_block_shape, create_fp8_scale_parameter).


def chains(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """The tensors, those of one layer of the engine together."""
    chain: list[Tensor] = []
    for tensor in tensors:
        if chain and not tensor.follows:
            yield tuple(chain)
            chain = []
        chain.append(tensor)
    if chain:
        yield tuple(chain)


def may_cut_blocks(chain: Sequence[Tensor], quantization: Quantization | None) -> bool:
    """Whether outputs of a rank need not be whole blocks: in a fused layer of a checkpoint whose method is fp8."""
    fused = len(chain) > 1 or chain[0].partitions > 1
    return fused and quantization is not None and quantization.method == "fp8"


def shared_scale_bytes(tensors: Sequence[Tensor], size: int, quantization: Quantization | None) -> int:
    """Bytes of scales that fused projections of a layer save on one rank, since a block may reach across a seam."""
    if quantization is None or quantization.weights is not WeightFormat.FP8_BLOCK or not quantization.block:
        return 0
    tall, wide = quantization.block
    saved = 0
    for chain in chains(tensors):
        if chain[0].expert or not all(tensor.quantized for tensor in chain):
            continue
        shapes = [tensor.rank_shape(size) for tensor in chain]
        apart = sum(ceil_div(rows, tall) for rows, _ in shapes)
        together = ceil_div(sum(rows for rows, _ in shapes), tall)
        saved += (apart - together) * ceil_div(shapes[0][1], wide) * SCALE_BYTES
    return saved
