"""What one layer keeps for the tokens it has seen: one type per kind of cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from plimsoll.units import ceil_div

# Source of every rule here: vLLM 0.33.0, v1/kv_cache_interface.py, read in the released wheel.
_LATENT_FP8_TOKEN_BYTES: Final = (
    656  # fp8_ds_mla: 512 fp8 latents, 4 float32 scales, 64 rotary elements in 16 bits
)
_INDEX_SCALE_WIDTH: Final = 128  # index keys that share a float32 scale
_INDEX_SCALE_BYTES: Final = 4
_RUNNING_STATES: Final = 2  # with prefix caching: the state that runs and the one of the last whole block


class CacheKind(Protocol):
    """What the KV planner asks of a layer's cache."""

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one token in this layer on one rank."""
        ...

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:
        """Blocks that one request of that many tokens may hold."""
        ...

    def describe(self) -> str:
        """The kind in vLLM's words."""
        ...


def kv_heads_per_rank(num_kv_heads: int, tensor_parallel_size: int) -> int:
    """KV heads that one rank stores; with more ranks than heads each rank stores a copy of one."""
    return max(1, num_kv_heads // tensor_parallel_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullAttention:
    """Keys and values of every token.

    Attributes:
        pair_bytes: of K and V of one token and head in a packed format; None: elements of the cache's dtype.
    """

    num_kv_heads: int
    head_size: int
    pair_bytes: int | None = None

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one token in this layer on one rank: K and V."""
        pair = self.pair_bytes or 2 * self.head_size * element_bytes
        return kv_heads_per_rank(self.num_kv_heads, tensor_parallel_size) * pair

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """Blocks for all the tokens."""
        return ceil_div(tokens, block_size)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return "full attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Keys and values of the last `window` tokens, and of those in flight; `pair_bytes` as in `FullAttention`."""

    num_kv_heads: int
    head_size: int
    window: int
    pair_bytes: int | None = None

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one token in this layer on one rank: K and V."""
        pair = self.pair_bytes or 2 * self.head_size * element_bytes
        return kv_heads_per_rank(self.num_kv_heads, tensor_parallel_size) * pair

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:
        """Blocks for the window and the tokens in flight; one more, since the window may start inside a block."""
        return ceil_div(min(self.window - 1 + max_in_flight_tokens, tokens), block_size) + 1

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return f"sliding window of {self.window} tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedLocal:
    """Keys and values of the chunk that a token stands in, and of those in flight; `pair_bytes` as in `FullAttention`."""

    num_kv_heads: int
    head_size: int
    chunk: int
    pair_bytes: int | None = None

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one token in this layer on one rank: K and V."""
        pair = self.pair_bytes or 2 * self.head_size * element_bytes
        return kv_heads_per_rank(self.num_kv_heads, tensor_parallel_size) * pair

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:
        """Blocks for a chunk and the tokens in flight."""
        return ceil_div(min(self.chunk + max_in_flight_tokens, tokens), block_size)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return f"local attention in chunks of {self.chunk} tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiHeadLatent:
    """One compressed latent per token (MLA), the same on every tensor parallel rank.

    Attributes:
        packed_fp8: an 8 bit cache is stored in the layout of sparse MLA, with scales and 16-bit rotary elements.
    """

    kv_lora_rank: int
    qk_rope_head_dim: int
    packed_fp8: bool = False

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:  # noqa: ARG002
        """Bytes of one token in this layer; tensor parallelism does not divide them."""
        if self.packed_fp8 and element_bytes == 1:
            return _LATENT_FP8_TOKEN_BYTES
        return (self.kv_lora_rank + self.qk_rope_head_dim) * element_bytes

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """Blocks for all the tokens."""
        return ceil_div(tokens, block_size)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return "multi-head latent attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseIndexer:
    """The index keys of sparse attention, 8 bit with scales whatever the cache's dtype."""

    head_size: int

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:  # noqa: ARG002
        """Bytes of one token in this layer, the same on every rank."""
        return self.head_size + self.head_size // _INDEX_SCALE_WIDTH * _INDEX_SCALE_BYTES

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """Blocks for all the tokens."""
        return ceil_div(tokens, block_size)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return "index keys of sparse attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentState:
    """A state of fixed size instead of tokens: Mamba, gated delta net, KDA, short convolutions, linear attention.

    Attributes:
        name: in words ("Mamba 2").
        conv_channels: of the convolution, split over the ranks, without those of groups.
        conv_rows: what the convolution remembers, its kernel less one.
        group_channels: convolution channels of one group; a rank holds at least one whole group.
        groups: groups of B and C in Mamba 2.
        state_elements: of the recurrent state, split over the ranks.
        state_element_bytes: of its own dtype; None is the model's.
        checkpoints: blocks that hold a state inside a prefill.
        alignment: tokens to which blocks of attention beside it are rounded, for such checkpoints.
        per_block: states are kept by block (prefix caching); else one per request.
        speculative: tokens proposed in one step: each has a state of its own.
        rows_for_proposed: the convolution remembers a row for each of those too.
    """

    name: str
    conv_channels: int = 0
    conv_rows: int = 0
    group_channels: int = 0
    groups: int = 0
    state_elements: int = 0
    state_element_bytes: int | None = None
    checkpoints: int = 0
    alignment: int = 1
    per_block: bool = True
    speculative: int = 0
    rows_for_proposed: bool = True

    def state_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one state on one rank, with this size of the model's elements."""
        size = tensor_parallel_size
        groups = self.groups if self.groups % size == 0 else size
        channels = (self.conv_channels + groups * self.group_channels) // size
        state = self.state_elements // size * (self.state_element_bytes or element_bytes)
        rows = self.conv_rows + (self.speculative if self.rows_for_proposed else 0)
        return channels * rows * element_bytes + state

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:  # noqa: ARG002
        """Nothing: the state does not grow."""
        return 0

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """States that one request holds, whatever its length."""
        return self.speculative + (_RUNNING_STATES + self.checkpoints if self.per_block else 1)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return f"{self.name} state"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedCache:
    """A cache with a page of its own size, packed beside others in one block (DeepSeek V4).

    Attributes:
        name: in words ("compressed latents").
        tokens: of one page.
        page_bytes: padded as the kernel wants it, the same on every rank and for every cache dtype.
        window: None where every token is kept.
    """

    name: str
    tokens: int
    page_bytes: int
    window: int | None = None

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:  # noqa: ARG002
        """Bytes of one token, its share of the padding included and rounded up; a window does not grow with tokens."""
        return ceil_div(self.page_bytes, self.tokens) if self.window is None else 0

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:
        """Blocks for all tokens, or for the window as in `SlidingWindow`."""
        if self.window is None:
            return ceil_div(tokens, block_size)
        return ceil_div(min(self.window - 1 + max_in_flight_tokens, tokens), block_size) + 1

    def describe(self) -> str:
        """The kind in words."""
        return self.name if self.window is None else f"{self.name} in a window of {self.window} tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossAttention:
    """Keys and values of what an encoder read, written once for a request.

    Attributes:
        batches: as many as the tokens in flight stand for; the encoder fills one of them.
    """

    num_kv_heads: int
    head_size: int
    batches: int = 2  # such a model has one pipeline stage

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one token of the encoder in this layer on one rank: K and V."""
        return kv_heads_per_rank(self.num_kv_heads, tensor_parallel_size) * 2 * self.head_size * element_bytes

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """Blocks for as many tokens of the encoder as one batch may hold, whatever the length."""
        return ceil_div(max_in_flight_tokens // self.batches, block_size)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return "cross attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCache:
    """A layer that keeps nothing between tokens."""

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def describe(self) -> str:
        """The kind in words."""
        return "no cache"
