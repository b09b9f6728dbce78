"""Weight tensors by shape, and what of each lies on one tensor parallel rank."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.layers import kv_heads_per_rank
from plimsoll.units import round_up

if TYPE_CHECKING:
    from plimsoll.sizing.quantization import Quantization

VOCAB_PADDING: Final = 64  # vLLM 0.33.0, vocab_parallel_embedding.py: DEFAULT_VOCAB_PADDING_SIZE
SCALE_BYTES: Final = 4  # scales of quantized linears are float32


class Sharding(StrEnum):
    """How tensor parallelism splits a tensor (vLLM 0.33.0, model_executor/layers/linear.py)."""

    REPLICATED = "replicated"
    COLUMN = "column"  # output features / tp
    ROW = "row"  # input features / tp
    KV_COLUMN = "kv column"  # output features / tp by whole KV heads, copied when tp exceeds them
    VOCAB = "vocab"  # rows padded to a multiple of 64, then / tp


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One weight as the engine builds it.

    Attributes:
        name: inside its layer, as in the checkpoint ("self_attn.q_proj").
        rows, columns: output and input features of the whole tensor; a vector has one column.
        copies: how many alike (the experts of a layer).
        kv_heads: for KV_COLUMN, the heads that the rows hold.
        quantized: the checkpoint's quantization applies to it.
        element_bytes: of a tensor with a dtype of its own; None is the model's dtype.
    """

    name: str
    rows: int
    columns: int = 1
    sharding: Sharding = Sharding.REPLICATED
    copies: int = 1
    kv_heads: int | None = None
    quantized: bool = False
    element_bytes: int | None = None

    def rank_shape(self, tensor_parallel_size: int) -> tuple[int, int]:
        """Rows and columns on one rank; divisibility is checked by `weights.tensor_parallel_problem`."""
        match self.sharding:
            case Sharding.COLUMN:
                return self.rows // tensor_parallel_size, self.columns
            case Sharding.ROW:
                return self.rows, self.columns // tensor_parallel_size
            case Sharding.KV_COLUMN:
                heads = self.kv_heads or 1
                return self.rows // heads * kv_heads_per_rank(heads, tensor_parallel_size), self.columns
            case Sharding.VOCAB:
                return round_up(self.rows, VOCAB_PADDING) // tensor_parallel_size, self.columns
            case Sharding.REPLICATED:
                return self.rows, self.columns

    def rank_bytes(
        self, tensor_parallel_size: int, element_bytes: int, quantization: Quantization | None
    ) -> int:
        """Bytes on one rank, scales and zero points included."""
        rows, columns = self.rank_shape(tensor_parallel_size)
        if self.quantized and quantization is not None:
            return self.copies * quantization.linear_bytes(rows, columns, element_bytes)
        return self.copies * rows * columns * (self.element_bytes or element_bytes)
