"""What every builder of shapes shares: dtype, embeddings, gated MLPs, and modules left unquantized."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config
    from plimsoll.sizing.model import Layer, ModelShape

DTYPE_BYTES: Final = {"float16": 2, "bfloat16": 2, "float32": 4}
_DTYPE_WAY_OUT: Final = "use a checkpoint in float16, bfloat16 or float32"
_MODULES_WAY_OUT: Final = "name whole modules there, or use a build that quantizes all linear layers alike"
_NEVER_QUANTIZED: Final = ("lm_head", "model.embed_tokens", "re:.*lm_head")


def decoder_dtype(config: Config) -> str:
    """The checkpoint's dtype, under its new or its old name; float32 where neither says, as vLLM takes it."""
    field = "dtype" if config.values.get("dtype") is not None else "torch_dtype"
    dtype = config.text(field, default="float32").removeprefix("torch.")
    if dtype not in DTYPE_BYTES:
        raise config.refuse(field, "this dtype is not one that can be sized", _DTYPE_WAY_OUT)
    return dtype


def embedding(name: str, vocab: int, width: int) -> Tensor:
    """Rows of the vocabulary, padded and split over the ranks."""
    return Tensor(name=name, rows=vocab, columns=width, sharding=Sharding.VOCAB)


def gated_mlp(name: str, hidden: int, intermediate: int, *, copies: int = 1) -> tuple[Tensor, ...]:
    """Gate, up and down projections of an MLP, or of each of `copies` experts."""
    gate = Tensor(
        name=f"{name}.gate_proj",
        rows=intermediate,
        columns=hidden,
        sharding=Sharding.COLUMN,
        copies=copies,
        quantized=True,
    )
    down = replace(gate, name=f"{name}.down_proj", rows=hidden, columns=intermediate, sharding=Sharding.ROW)
    return gate, replace(gate, name=f"{name}.up_proj"), down


def skip_modules(shape: ModelShape) -> ModelShape:
    """Take the modules that the checkpoint leaves in 16 bits out of its quantization.

    Raises:
        UnsupportedModelError: an entry that may mean some of the quantized layers, in a way not understood.
    """
    if shape.quantization is None:
        return shape
    entries = tuple(entry for entry in shape.quantization.skipped if entry not in _NEVER_QUANTIZED)
    if not entries:
        return shape
    full_names = {
        f"model.layers.{index}.{tensor.name}"
        for index, layer in enumerate(shape.layers)
        for tensor in layer.tensors
        if tensor.quantized
    }
    for entry in entries:
        if not _whole_module(entry, full_names) and _may_mean(entry, full_names):
            raise UnsupportedModelError(
                "quantization_config",
                entry,
                "this module to leave unquantized is not understood",
                _MODULES_WAY_OUT,
            )
    layers = tuple(_without(index, layer, entries) for index, layer in enumerate(shape.layers))
    return replace(shape, layers=layers)


def _whole_module(entry: str, full_names: set[str]) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for name in full_names)


def _may_mean(entry: str, full_names: set[str]) -> bool:
    """Whether an entry that names no module could still match one, as a pattern or as a part of a name."""
    return entry.startswith("re:") or "*" in entry or any(entry in name for name in full_names)


def _without(index: int, layer: Layer, entries: tuple[str, ...]) -> Layer:
    kept = tuple(
        replace(tensor, quantized=False)
        if tensor.quantized and _named(f"model.layers.{index}.{tensor.name}", entries)
        else tensor
        for tensor in layer.tensors
    )
    return layer if kept == layer.tensors else replace(layer, tensors=kept)


def _named(name: str, entries: tuple[str, ...]) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for entry in entries)


def needs_expert_support(shape_config: Config, weights: WeightFormat | None) -> None:
    """Refuse quantizations of experts whose bytes nobody checked.

    Raises:
        UnsupportedModelError: experts in another format than fp8 blocks or AWQ.
    """
    if weights not in (None, WeightFormat.FP8_BLOCK, WeightFormat.AWQ):
        section = shape_config.section("quantization_config") or shape_config
        raise section.refuse(
            "quant_method",
            f"experts with {weights} are not ones that can be sized",
            "use an fp8 block or AWQ build",
        )
