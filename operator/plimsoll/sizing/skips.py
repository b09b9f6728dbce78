"""Modules that a quantized checkpoint leaves in 16 bits, as each method names them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.layers import NoCache
from plimsoll.sizing.model import Layer
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.quantization import Quantization

# Sources: vLLM 0.33.0, layers/quantization/utils/quant_utils.py (is_layer_skipped), modelopt.py (is_layer_excluded),
# compressed_tensors/utils.py (should_ignore_layer) and utils/gptq_utils.py.
_WAY_OUT: Final = "name whole modules there, or use a build that quantizes all linear layers alike"
_NEVER_QUANTIZED: Final = ("lm_head", "model.embed_tokens", "re:.*lm_head")
# Where the layers of the text stand in a checkpoint with other parts beside it.
_TEXT_PREFIXES: Final = ("model.language_model.model.", "model.language_model.", "language_model.model.")
_TOWER_WORDS: Final = ("visual", "vision", "vit", "audio", "embed_vision", "multi_modal_projector", "mlp1")
_BY_SUBSTRING: Final = ("awq", "modelopt")
_BY_COMPONENT: Final = "bitsandbytes"  # bitsandbytes.py (is_layer_skipped_bnb) in 0.27
_DRAFT: Final = "mtp"  # where what stands beside the layers of a draft is named
_MAX_ENTRIES: Final = 2**16
_MAX_PATTERN: Final = 256
_MAX_ALTERNATIVES: Final = 64
_GROUP: Final = re.compile(r"\((?:\?:)?([A-Za-z0-9_]+(?:\|[A-Za-z0-9_]+)*)\)")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the list in a form that takes linear time to match.

    Attributes:
        pieces: literal text between wildcards, a null for any one character.
        open_start, open_end: other text may stand before and behind.
    """

    pieces: tuple[str, ...]
    open_start: bool
    open_end: bool

    def matches(self, name: str) -> bool:
        """Whether the entry means this module."""
        position = 0
        for index, piece in enumerate(self.pieces):
            found = _find(name, piece, position)
            if found < 0 or (index == 0 and not self.open_start and found != 0):
                return False
            position = found + len(piece)
        if self.open_end or position == len(name):
            return True
        last = self.pieces[-1] if self.pieces else ""
        start = len(name) - len(last)
        return (
            (len(self.pieces) > 1 or self.open_start)
            and start >= position - len(last)
            and _at(name, last, start)
        )


def _at(name: str, piece: str, start: int) -> bool:
    return len(name) - start >= len(piece) and all(
        wanted in ("\0", name[start + offset]) for offset, wanted in enumerate(piece)
    )


def _find(name: str, piece: str, start: int) -> int:
    if "\0" not in piece:
        return name.find(piece, start)
    return next((at for at in range(start, len(name) - len(piece) + 1) if _at(name, piece, at)), -1)


def skip_modules(shape: ModelShape) -> ModelShape:
    """Take the modules that the checkpoint leaves in 16 bits out of its quantization.

    Raises:
        UnsupportedModelError: an entry that may mean some of the quantized layers, in a way not understood.
    """
    quantization = shape.quantization
    if quantization is None:
        return shape
    entries = tuple(entry for entry in quantization.skipped if entry not in _NEVER_QUANTIZED)
    if shape.tower and quantization.modules:
        if any(word in name for name in quantization.modules for word in _TOWER_WORDS):
            raise _refusal("quantized_layers", "a quantized encoder beside the text cannot be sized")
    elif shape.tower and not any(word in entry for entry in entries for word in _TOWER_WORDS):
        raise _refusal(
            list(entries)[:3], "an encoder beside the text that may be quantized too cannot be sized"
        )
    if not entries and not quantization.modules:
        return shape
    if len(entries) > _MAX_ENTRIES:
        raise _refusal(len(entries), f"more than {_MAX_ENTRIES} entries are not read")
    if quantization.modules:
        return _mixed(shape, quantization.modules)
    skips = _Skips(quantization.method, entries)
    shape = replace(shape, every_stage=tuple(map(skips.outside, shape.every_stage)))
    return _each_layer(shape, skips.apply)


def _each_layer(shape: ModelShape, change: Callable[[str, Layer], Layer]) -> ModelShape:
    """Every layer changed under the name that it has in the engine; a draft that cannot be read is not counted."""
    layers = tuple(change(f"model.layers.{index}", layer) for index, layer in enumerate(shape.layers))
    shape, draft = replace(shape, layers=layers), shape.draft
    if draft is None:
        return shape
    try:
        drafting = tuple(map(change, draft.names, draft.layers))
        outside = change(_DRAFT, Layer(cache=NoCache(), tensors=draft.outside)).tensors
    except UnsupportedModelError as problem:
        return replace(shape, draft=None, uncounted_draft=str(problem).rstrip("."))
    return replace(shape, draft=replace(draft, layers=drafting, outside=outside))


def one_for_equals(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Equal layers as one object: what is reckoned for one is not reckoned again."""
    kinds: list[Layer] = []
    result = []
    for layer in layers:
        kind = next((known for known in kinds if known is layer or known == layer), None)
        if kind is None:
            kinds.append(layer)
        result.append(kind or layer)
    return tuple(result)


def _refusal(value: object, problem: str) -> UnsupportedModelError:
    return UnsupportedModelError("quantization_config", value, problem, _WAY_OUT)


def _mixed(shape: ModelShape, modules: Mapping[str, Quantization]) -> ModelShape:
    """Each module in the format that the checkpoint names for it, the others in 16 bits."""
    by_name = {_canonical(name): method for name, method in modules.items()}
    shape = _each_layer(shape, lambda name, layer: _mixed_layer(name, layer, by_name))
    output = by_name.get("lm_head")
    if output is None:
        return shape
    if shape.tied_embeddings or not any(tensor.sharding is Sharding.VOCAB for tensor in shape.last_stage):
        raise _refusal("lm_head", "a quantized output layer of this model is not one that can be sized")
    last = tuple(
        replace(tensor, quantized=True, own=output) if tensor.sharding is Sharding.VOCAB else tensor
        for tensor in shape.last_stage
    )
    return replace(shape, last_stage=last)


def _mixed_layer(prefix: str, layer: Layer, by_name: Mapping[str, Quantization]) -> Layer:
    kept = []
    fused: Quantization | None = None
    for tensor in layer.tensors:
        if not tensor.quantized:
            kept.append(tensor)
            continue
        name = f"{prefix}.{tensor.name}"
        if tensor.expert:
            raise _refusal(name, "experts in mixed precision are not ones that can be sized")
        own = by_name.get(name)
        if tensor.follows and own != fused:
            raise _refusal(name, "vLLM fuses it with a projection that is kept otherwise")
        fused = own
        kept.append(replace(tensor, quantized=own is not None, own=own))
    return replace(layer, tensors=tuple(kept))


class _Skips:
    """The list of one checkpoint, ordered so that each layer sees only what may mean it."""

    def __init__(self, method: str, entries: Iterable[str]) -> None:
        self.method = method
        self.exact: set[str] = set()
        self.by_layer: dict[str, list[_Entry]] = {}
        self.anywhere: list[_Entry] = []
        for entry in entries:
            self._add(_canonical(entry))

    def _add(self, entry: str) -> None:
        if self.method == "compressed-tensors" and entry.startswith("re:"):
            self.anywhere.extend(map(_regular_expression, _alternatives(entry.removeprefix("re:"))))
        elif self.method == "gptq":
            self.anywhere.append(_regular_expression(entry))
        elif entry.startswith("re:"):
            raise _refusal(entry, "this pattern of modules to leave unquantized is not understood")
        elif self.method in _BY_SUBSTRING or "*" in entry:
            wild = self.method != "awq" and any(mark in entry for mark in "*?[")
            self._add_pattern(
                entry, _wildcard(entry) if wild else _Entry((entry,), open_start=True, open_end=True)
            )
        else:
            self.exact.add(entry)

    def _add_pattern(self, text: str, entry: _Entry) -> None:
        parts = text.split(".")
        of_a_layer = text.startswith("model.layers.") and len(parts) > 3 and parts[2].isdigit()  # noqa: PLR2004
        if of_a_layer:
            self.by_layer.setdefault(".".join(parts[:3]), []).append(entry)
        else:
            self.anywhere.append(entry)

    def apply(self, prefix: str, layer: Layer) -> Layer:
        """The layer of that name with what is skipped in 16 bits; fused projections must agree."""
        patterns = (*self.by_layer.get(prefix, ()), *self.anywhere)
        kept = []
        fused: bool | None = None
        for tensor in layer.tensors:
            if not tensor.quantized:
                kept.append(tensor)
                continue
            skipped = self._means(f"{prefix}.{tensor.name}", patterns, expert=tensor.expert)
            if tensor.follows and fused is not None and skipped != fused:
                raise _refusal(
                    f"{prefix}.{tensor.name}",
                    "vLLM fuses it with a projection that is kept otherwise",
                )
            fused = skipped
            kept.append(replace(tensor, quantized=False) if skipped else tensor)
        return layer if tuple(kept) == layer.tensors else replace(layer, tensors=tuple(kept))

    def outside(self, tensor: Tensor) -> Tensor:
        """A projection beside the layers, in 16 bits if it is skipped."""
        if not tensor.quantized or not self._means(f"model.{tensor.name}", self.anywhere, expert=False):
            return tensor
        return replace(tensor, quantized=False)

    def _means(self, name: str, patterns: Iterable[_Entry], *, expert: bool) -> bool:
        if expert:  # the engine asks for the module that holds all experts
            name = name.rpartition(".")[0]
        parts = name.split(".")
        whole = any(".".join(parts[:end]) in self.exact for end in range(1, len(parts) + 1))
        if self.method == _BY_COMPONENT:
            whole = whole or not self.exact.isdisjoint(parts)
        return whole or any(pattern.matches(name) for pattern in patterns)


def _canonical(entry: str) -> str:
    for prefix in _TEXT_PREFIXES:
        if entry.startswith(prefix):
            return "model." + entry.removeprefix(prefix)
    return entry


def _wildcard(entry: str) -> _Entry:
    """A shell pattern with `*` only.

    Raises:
        UnsupportedModelError: other wildcards.
    """
    if any(mark in entry for mark in "?[]") or not fnmatchcase(entry.replace("*", ""), entry):
        raise _refusal(entry, "this pattern of modules to leave unquantized is not understood")
    pieces = entry.split("*")
    return _Entry(
        tuple(piece for piece in pieces if piece), open_start=not pieces[0], open_end=not pieces[-1]
    )


def _alternatives(text: str) -> tuple[str, ...]:
    """A regular expression with groups of plain words, `(gate|up)`, as one without them for each choice.

    Raises:
        UnsupportedModelError: too many choices.
    """
    if len(text) > _MAX_PATTERN:
        return (text,)  # refused further on, as is a group that repeats
    made = [""]
    position = 0
    for group in _GROUP.finditer(text):
        escaped = text[: group.start()].endswith("\\")
        if escaped or text[group.end() : group.end() + 1] in ("*", "+", "?", "{"):
            return (text,)
        before = text[position : group.start()]
        made = [f"{start}{before}{word}" for start in made for word in group[1].split("|")]
        position = group.end()
        if len(made) > _MAX_ALTERNATIVES:
            raise _refusal(text, "so many alternatives in one pattern are not read")
    return tuple(start + text[position:] for start in made)


def _regular_expression(text: str) -> _Entry:
    """A regular expression of names, `.` and `.*`, matched from the start as vLLM does.

    Raises:
        UnsupportedModelError: anything else in it.
    """
    body = text.removeprefix("^")
    closed = body.endswith("$")
    body = body.removesuffix("$")
    plain = body.replace(".*", "\1").replace("\\.", "\2").replace(".", "\0").replace("\2", ".")
    if len(text) > _MAX_PATTERN or not plain.isascii() or any(mark in plain for mark in "\\*+?()[]{}|^$"):
        raise _refusal(text[:_MAX_PATTERN], "this pattern of modules to leave unquantized is not understood")
    pieces = plain.split("\1")
    return _Entry(
        tuple(piece for piece in pieces if piece),
        open_start=not pieces[0],
        open_end=not closed or not pieces[-1],
    )
