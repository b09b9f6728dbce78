"""The header of a safetensors file: which tensors it holds, and which of them the engine does not load.

A file begins with eight bytes, the length of a JSON object that names each tensor with its dtype, its shape and
where its data lie. Anybody may have written it, so that nothing in it is believed before it adds up.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from plimsoll.sizing.checked import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LENGTH_BYTES: Final = 8
# As the safetensors library: no header that it reads is longer.
MAX_HEADER_BYTES: Final = 100_000_000
_MAX_DIMENSIONS: Final = 16
_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,9})\.")
_TOWER: Final = re.compile(r"visual|vision|audio|vit|encoder|tower")
_ROTARY: Final = "a rotary table in each layer, which no engine loads any more"
_MASK: Final = "a causal mask in each layer, which no engine loads"
_PREDICTION: Final = "the multi-token prediction layer, which serves speculative decoding only"
_TIED: Final = "the output layer once more, which is tied to the embedding"


class HeaderError(ValueError):
    """A header that is cut off, is none, or does not add up, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor as a file holds it."""

    name: str
    dtype: str
    size_bytes: int


def header_length(start: bytes, path: str, file_bytes: int) -> int:
    """The length of the JSON that follows the first eight bytes.

    Args:
        start: the first bytes of the file, at least eight if it has them.
        path: for the sentence.
        file_bytes: of the whole file.

    Raises:
        HeaderError: there is no room for such a header.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if len(start) < LENGTH_BYTES or not 2 <= length <= file_bytes - LENGTH_BYTES:  # noqa: PLR2004 - "{}"
        raise _bad(path, f"it is {file_bytes} bytes long and says that its header takes {length}")
    if length > MAX_HEADER_BYTES:
        raise _bad(path, f"its header of {length} bytes is longer than {MAX_HEADER_BYTES}")
    return length


def read_header(header: bytes, path: str, file_bytes: int) -> tuple[StoredTensor, ...]:
    """The tensors that a header names, if their data lie end to end and fill the file.

    Args:
        header: the JSON, without the eight bytes before it.
        path: for the sentence.
        file_bytes: of the whole file.

    Raises:
        HeaderError: the JSON is none, or what it says does not add up.
    """
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        raise _bad(path, "its header is not JSON") from None
    if not isinstance(found, dict):
        raise _bad(path, "its header is no JSON object")
    spans = sorted(_span(path, name, entry) for name, entry in found.items() if name != "__metadata__")
    at = 0
    for start, end, _, _ in spans:
        if start != at:
            raise _bad(path, f"its tensors overlap or leave a gap at byte {at} of the data")
        at = end
    if LENGTH_BYTES + len(header) + at != file_bytes:
        raise _bad(path, f"its header accounts for {LENGTH_BYTES + len(header) + at} bytes of {file_bytes}")
    return tuple(
        StoredTensor(name=name, dtype=dtype, size_bytes=end - start) for start, end, name, dtype in spans
    )


def unloaded(tensors: Iterable[StoredTensor], *, num_layers: int, tied_embeddings: bool) -> dict[str, int]:
    """Bytes of the tensors that the engine leaves in the file when it serves the model, by the reason.

    Args:
        tensors: of all files that it opens.
        num_layers: of the text's decoder; layers behind the last predict further tokens.
        tied_embeddings: the output layer is the embedding, so that a matrix of its own is a copy.
    """
    found: Counter[str] = Counter()
    for tensor in tensors:
        reason = _reason(tensor.name, num_layers, tied_embeddings=tied_embeddings)
        if reason is not None:
            found[reason] += tensor.size_bytes
    return dict(found)


def parameters_by_dtype(tensors: Iterable[StoredTensor]) -> dict[str, int]:
    """How many elements there are of each dtype, as the Hub counts them."""
    found: Counter[str] = Counter()
    for tensor in tensors:
        found[tensor.dtype] += tensor.size_bytes * 8 // _BITS[tensor.dtype]
    return dict(found)


def _reason(name: str, num_layers: int, *, tied_embeddings: bool) -> str | None:
    if name.endswith("rotary_emb.inv_freq"):
        return _ROTARY
    if name.endswith((".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")):
        return _MASK
    if name.startswith(("mtp.", "model.mtp.")):
        return _PREDICTION
    layer = _LAYER.search(name)
    if layer is not None and num_layers <= int(layer[1]) < MAX_LAYERS and not _TOWER.search(name):
        return _PREDICTION
    if tied_embeddings and name.endswith("lm_head.weight"):
        return _TIED
    return None


def _span(path: str, name: str, entry: object) -> tuple[int, int, str, str]:
    """Where the data of one tensor begin and end, if that is as long as its dtype and shape say."""
    if not isinstance(entry, dict):
        raise _bad(path, f"its header says nothing of {_short(name)}")
    dtype, shape, offsets = _fields(entry)
    if dtype is None or shape is None or offsets is None:
        raise _bad(path, f"dtype, shape or data_offsets of {_short(name)} are not what they must be")
    elements = 1
    for size in shape:
        elements *= size
    start, end = offsets
    if elements * _BITS[dtype] != (end - start) * 8:
        raise _bad(path, f"the data of {_short(name)} are not as long as its dtype and shape say")
    return start, end, name, dtype


def _fields(entry: Mapping[str, Any]) -> tuple[str | None, list[int] | None, tuple[int, int] | None]:
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    known = dtype if isinstance(dtype, str) and dtype in _BITS else None
    sizes = shape if _counts(shape) and len(shape) <= _MAX_DIMENSIONS else None
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004
        return known, sizes, None
    return known, sizes, (offsets[0], offsets[1])


def _counts(value: object) -> TypeGuard[list[int]]:
    """Whether this is a list of whole numbers that a file can hold."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")  # noqa: PLR2004 - keeps the sentence short


def _bad(path: str, problem: str) -> HeaderError:
    return HeaderError(
        f"{path} is no whole safetensors file: {problem}; download it again, or name another revision."
    )
