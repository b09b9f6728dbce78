"""The files of a repository that an engine loads, held against what the shapes say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.outside import DTYPE_BYTES
from plimsoll.sizing.selection import weight_files
from plimsoll.sizing.tensors import Tensor
from plimsoll.units import format_size

if TYPE_CHECKING:
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.quantization import Quantization

_FLOAT32_BYTES: Final = 4
_TOLERANCE: Final = 200  # one part in 200: headers, scales and odd buffers in the files


def stored_bytes(shape: ModelShape, element_bytes: int) -> int:
    """Bytes of all weights as a checkpoint stores them: no padding, a tied embedding once."""

    def size(tensor: Tensor) -> int:
        if not tensor.stored:
            return 0
        method = _unpadded(tensor.own or shape.quantization)
        if tensor.quantized and method is not None:
            return tensor.copies * method.tensor_bytes(tensor, tensor.rows, tensor.columns, element_bytes)
        return tensor.copies * tensor.rows * tensor.columns * (tensor.element_bytes or element_bytes)

    outside = (*shape.first_stage, *shape.tower, *shape.every_stage, *shape.last_stage)
    if not shape.tied_embeddings:
        outside += shape.first_stage
    by_layer = {id(layer): sum(map(size, layer.tensors)) for layer in shape.kinds}
    return sum(by_layer[id(layer)] for layer in shape.layers) + sum(map(size, outside))


def _unpadded(method: Quantization | None) -> Quantization | None:
    """What the kernel rounds an expert up to is not in the files."""
    if method is None or method.padding == (1, 1):
        return method
    return replace(method, padding=(1, 1))


def parameter_count(shape: ModelShape) -> int:
    """Parameters of the whole model, experts included."""
    by_layer = {
        id(layer): sum(tensor.copies * tensor.rows * tensor.columns for tensor in layer.tensors)
        for layer in shape.kinds
    }
    outside = sum(
        tensor.copies * tensor.rows * tensor.columns
        for tensor in (*shape.first_stage, *shape.tower, *shape.every_stage)
    )
    return sum(by_layer[id(layer)] for layer in shape.layers) + outside


def unexplained_bytes(shape: ModelShape, facts: ModelFacts) -> int:
    """What the files hold beyond the shapes and beyond what is known to stay in them; negative where they hold less.

    0 where they agree within what headers and odd buffers take, or where the reason is known.
    """
    total = _held_bytes(facts)
    if total == 0:
        return 0
    expected = stored_bytes(shape, DTYPE_BYTES[shape.dtype])
    rest = total - sum(facts.unloaded_bytes.values()) - expected
    if abs(rest) * _TOLERANCE <= expected or (rest > 0 and _is_explained(shape, facts, rest)):
        return 0
    return rest


def disagreement(shape: ModelShape, facts: ModelFacts) -> str | None:
    """A sentence on files that do not hold what the shapes say; None where they do or the reason is known."""
    rest = unexplained_bytes(shape, facts)
    if rest == 0:
        return None
    held = _held_bytes(facts) - sum(facts.unloaded_bytes.values())
    implied = format_size(stored_bytes(shape, DTYPE_BYTES[shape.dtype]))
    if facts.tensor_bytes is None:
        said = f"The files hold {format_size(held)} and config.json implies {implied}: the plan counts what config.json says"
    else:
        said = (
            f"The headers of the weight files name {format_size(held)} of tensors to load and config.json implies "
            f"{implied}: the plan counts the larger"
        )
    return f"{said}; check that the files are this model's."


def with_own_output(shape: ModelShape, facts: ModelFacts) -> ModelShape:
    """Embeddings that only the class ties come apart where the files hold an output layer beside them."""
    if not shape.tied_embeddings:
        return shape
    apart = replace(shape, tied_embeddings=False)
    held = _held_bytes(facts) - sum(facts.unloaded_bytes.values())
    copy = stored_bytes(apart, DTYPE_BYTES[shape.dtype]) - stored_bytes(shape, DTYPE_BYTES[shape.dtype])
    rest = held - stored_bytes(apart, DTYPE_BYTES[shape.dtype])
    return apart if held and abs(rest) * _TOLERANCE <= copy else shape


def with_what_headers_say(shape: ModelShape, facts: ModelFacts) -> ModelShape:
    """The shape with what the headers name beyond config.json, on every rank: nobody knows how it is split."""
    if facts.tensor_bytes is None:
        return shape
    surplus, said = unexplained_bytes(shape, facts), disagreement(shape, facts)
    if surplus <= 0 or said is None:
        return shape
    beyond = Tensor(name="named in the headers only", rows=surplus, element_bytes=1)
    return replace(shape, every_stage=(*shape.every_stage, beyond), warnings=(*shape.warnings, said))


def _held_bytes(facts: ModelFacts) -> int:
    """Bytes of the tensors, by their headers, or of the files that hold them."""
    if facts.tensor_bytes is not None:
        return facts.tensor_bytes
    return sum(file.size_bytes for file in weight_files(facts.files))


def _is_explained(shape: ModelShape, facts: ModelFacts, rest: int) -> bool:
    """Whether more than config.json implies is what the engine is known to leave in the files."""
    if facts.tensor_bytes is not None:
        return False  # the headers were read: what stays in the files is known by name
    in_float32 = facts.parameters_by_dtype.get("F32", 0) * _FLOAT32_BYTES
    if shape.unloaded is not None or rest <= in_float32 * (_TOLERANCE + 1) // _TOLERANCE:
        return True
    if not shape.tied_embeddings:
        return False
    copy = shape.vocab_size * shape.hidden_size * DTYPE_BYTES[shape.dtype]
    return abs(rest - copy) * _TOLERANCE <= copy
