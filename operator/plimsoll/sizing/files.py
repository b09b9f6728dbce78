"""The files of a repository that an engine loads, held against what the shapes say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.sizing.outside import DTYPE_BYTES
from plimsoll.sizing.selection import weight_files
from plimsoll.units import format_size

if TYPE_CHECKING:
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.tensors import Tensor

_TOLERANCE: Final = 200  # one part in 200: headers, scales and odd buffers in the files


def stored_bytes(shape: ModelShape, element_bytes: int) -> int:
    """Bytes of all weights as a checkpoint stores them: no padding, a tied embedding once."""
    quantization = shape.quantization

    def size(tensor: Tensor) -> int:
        method = tensor.own or quantization
        if tensor.quantized and method is not None:
            return tensor.copies * method.tensor_bytes(tensor, tensor.rows, tensor.columns, element_bytes)
        return tensor.copies * tensor.rows * tensor.columns * (tensor.element_bytes or element_bytes)

    outside = (*shape.first_stage, *shape.tower, *shape.every_stage, *shape.last_stage)
    if not shape.tied_embeddings:
        outside += shape.first_stage
    by_layer = {id(layer): sum(map(size, layer.tensors)) for layer in shape.layers}
    return sum(by_layer[id(layer)] for layer in shape.layers) + sum(map(size, outside))


def parameter_count(shape: ModelShape) -> int:
    """Parameters of the whole model, experts included."""
    by_layer = {
        id(layer): sum(tensor.copies * tensor.rows * tensor.columns for tensor in layer.tensors)
        for layer in shape.layers
    }
    outside = sum(
        tensor.copies * tensor.rows * tensor.columns
        for tensor in (*shape.first_stage, *shape.tower, *shape.every_stage)
    )
    return sum(by_layer[id(layer)] for layer in shape.layers) + outside


def disagreement(shape: ModelShape, facts: ModelFacts) -> str | None:
    """A sentence on files that do not hold what the shapes say; None where they do or the reason is known."""
    total = sum(file.size_bytes for file in weight_files(facts.files))
    if total == 0:
        return None
    expected = stored_bytes(shape, DTYPE_BYTES[shape.dtype])
    if abs(total - expected) * _TOLERANCE <= expected:
        return None
    if total > expected and (shape.unloaded is not None or facts.parameters_by_dtype.get("F32")):
        return None
    return (
        f"The files hold {format_size(total)} and config.json implies {format_size(expected)}: the plan counts "
        "what config.json says; check that the files are this model's."
    )
