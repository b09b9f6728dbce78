"""What every builder of shapes shares: dtype, embeddings, gated MLPs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.quantization import WeightFormat
from plimsoll.sizing.tensors import Sharding, Tensor

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config

DTYPE_BYTES: Final = {"float16": 2, "bfloat16": 2, "float32": 4}
_MXFP4_MODEL: Final = "gpt_oss"
_DTYPE_WAY_OUT: Final = "use a checkpoint in float16, bfloat16 or float32"


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
        expert=copies > 1,
    )
    down = replace(gate, name=f"{name}.down_proj", rows=hidden, columns=intermediate, sharding=Sharding.ROW)
    return gate, replace(gate, name=f"{name}.up_proj", follows=True), down


def needs_expert_support(config: Config, weights: WeightFormat | None, *, model_type: str) -> None:
    """Refuse quantizations of experts whose bytes nobody checked.

    Raises:
        UnsupportedModelError: experts in such a format; MXFP4 is gpt-oss's, with biases that others do not have.
    """
    if model_type == _MXFP4_MODEL:
        unchecked = weights not in (None, WeightFormat.MXFP4)
    else:
        unchecked = weights in (WeightFormat.MXFP4, WeightFormat.NF4)
    if unchecked:
        section = config.section("quantization_config") or config
        raise section.refuse(
            "quant_method",
            f"experts with {weights} are not ones that can be sized",
            "use an fp8, AWQ, GPTQ, NVFP4 or packed 4 bit build",
        )
