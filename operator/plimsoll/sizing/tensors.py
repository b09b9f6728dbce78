"""Weight tensors by shape, and what of each lies on one tensor parallel rank."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.layers import kv_heads_per_rank
from plimsoll.units import ceil_div, round_up

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
    GROUPS = "groups"  # output features / tp by whole groups of Mamba 2, which tp must divide; a single one is copied
    HEADS = "heads"  # output features / tp where whole heads divide, else whole on every rank
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
        expert: routed; expert parallelism gives each rank whole ones.
        own: a quantization of this tensor alone, in a checkpoint that mixes them.
        partitions: outputs that the engine scales apart in one fused layer.
        follows: fused behind the tensor before it, in one layer of the engine.
        least_width: of an expert that is split, what the engine fills a narrower share up to.
        stored: the files hold it; False where the engine fills it from another (Gemma 4's values are its keys).
    """

    name: str
    rows: int
    columns: int = 1
    sharding: Sharding = Sharding.REPLICATED
    copies: int = 1
    kv_heads: int | None = None
    quantized: bool = False
    element_bytes: int | None = None
    expert: bool = False
    follows: bool = False
    own: Quantization | None = None
    partitions: int = 1
    least_width: int = 1
    stored: bool = True

    def rank_shape(self, tensor_parallel_size: int) -> tuple[int, int]:
        """Rows and columns on one rank; divisibility is checked by `weights.tensor_parallel_problem`."""
        least = self.least_width if tensor_parallel_size > 1 else 1
        match self.sharding:
            case Sharding.COLUMN:
                return max(least, self.rows // tensor_parallel_size), self.columns
            case Sharding.ROW:
                return self.rows, max(least, self.columns // tensor_parallel_size)
            case Sharding.KV_COLUMN | Sharding.GROUPS:
                heads = self.kv_heads or 1
                return self.rows // heads * kv_heads_per_rank(heads, tensor_parallel_size), self.columns
            case Sharding.HEADS:
                divides = (self.kv_heads or 1) % tensor_parallel_size == 0
                return self.rows // (tensor_parallel_size if divides else 1), self.columns
            case Sharding.VOCAB:
                return round_up(self.rows, VOCAB_PADDING) // tensor_parallel_size, self.columns
            case Sharding.REPLICATED:
                return self.rows, self.columns

    def rank_bytes(
        self,
        tensor_parallel_size: int,
        element_bytes: int,
        quantization: Quantization | None,
        *,
        expert_parallel: bool = False,
        expert_multiple: int = 1,
    ) -> int:
        """Bytes on one rank, scales and zero points included.

        Args:
            tensor_parallel_size: ranks that share the tensor.
            element_bytes: of the model's dtype.
            quantization: of the checkpoint, for tensors that it means.
            expert_parallel: each rank has whole experts; the result is the fullest rank's.
            expert_multiple: what the kernel rounds the width of an expert in 16 bits to.
        """
        whole = self.expert and expert_parallel
        copies = ceil_div(self.copies, tensor_parallel_size) if whole else self.copies
        rows, columns = self.rank_shape(1 if whole else tensor_parallel_size)
        quantization = self.own or quantization
        if self.quantized and quantization is not None:
            return copies * quantization.tensor_bytes(self, rows, columns, element_bytes)
        if self.expert and self.sharding is Sharding.COLUMN:
            rows = round_up(rows, expert_multiple)
        elif self.expert:
            columns = round_up(columns, expert_multiple)
        return copies * rows * columns * (self.element_bytes or element_bytes)
