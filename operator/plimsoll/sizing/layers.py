"""What one layer keeps for the tokens it has seen: one type per kind of cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from plimsoll.units import ceil_div

# Source of every rule here: vLLM 0.33.0, v1/kv_cache_interface.py, read in the released wheel.


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
    """Keys and values of every token."""

    num_kv_heads: int
    head_size: int

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one token in this layer on one rank: K and V."""
        return kv_heads_per_rank(self.num_kv_heads, tensor_parallel_size) * 2 * self.head_size * element_bytes

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """Blocks for all the tokens."""
        return ceil_div(tokens, block_size)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return "full attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Keys and values of the last `window` tokens, and of those in flight."""

    num_kv_heads: int
    head_size: int
    window: int

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:
        """Bytes of one token in this layer on one rank: K and V."""
        return kv_heads_per_rank(self.num_kv_heads, tensor_parallel_size) * 2 * self.head_size * element_bytes

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:
        """Blocks for the window and the tokens in flight; one more, since the window may start inside a block."""
        return ceil_div(min(self.window - 1 + max_in_flight_tokens, tokens), block_size) + 1

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return f"sliding window of {self.window} tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiHeadLatent:
    """One compressed latent per token (MLA), the same on every tensor parallel rank."""

    kv_lora_rank: int
    qk_rope_head_dim: int

    def token_bytes(self, tensor_parallel_size: int, element_bytes: int) -> int:  # noqa: ARG002
        """Bytes of one token in this layer; tensor parallelism does not divide them."""
        return (self.kv_lora_rank + self.qk_rope_head_dim) * element_bytes

    def blocks_for(self, tokens: int, block_size: int, max_in_flight_tokens: int) -> int:  # noqa: ARG002
        """Blocks for all the tokens."""
        return ceil_div(tokens, block_size)

    def describe(self) -> str:
        """The kind in vLLM's words."""
        return "multi-head latent attention"


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
