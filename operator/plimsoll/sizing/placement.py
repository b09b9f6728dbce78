"""Ways of splitting a model over nodes, those that serve it, and why the others are out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll.sizing.plan import RefusalReason
from plimsoll.units import format_gib

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from plimsoll.sizing.accelerators import Accelerator, NodePool
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.rules import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One way of splitting a model over the nodes of a pool."""

    pool: NodePool
    accelerator: Accelerator
    precision: Precision
    tensor_parallel_size: int
    pipeline_parallel_size: int
    nodes: int

    @property
    def gpus(self) -> int:
        """Cards of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A placement that serves a context of this length."""

    placement: Placement
    launch: Launch
    max_model_len: int
    concurrency: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """Why a pool or a placement is out, with bytes where bytes are the matter."""

    reason: RefusalReason
    problem: str  # with a placement the subject of "... needs N GiB", without one a clause
    placement: Placement | None = None
    needed_bytes: int | None = None
    available_bytes: int | None = None
    shorter: int = 0  # the longest context that would fit there


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best fit, if any, and everything that was out."""

    fit: Fit | None
    misses: tuple[Miss, ...]


def too_many_sequences(placement: Placement, wanted: int, most: int) -> Miss:
    """More sequences than the cache has blocks for their states."""
    return Miss(
        reason=RefusalReason.DOES_NOT_FIT,
        problem=f"the maxNumSeqs of {wanted} is above the {most} blocks that {placement.gpus} x {placement.accelerator.alias} "
        f"have room for: each sequence of this model takes one for its recurrent state; set maxNumSeqs to {most} or less",
    )


def given_too_small(
    launch: Launch, placement: Placement, given_bytes: int, length: int, shorter: int
) -> Miss:
    """A KV space that the card has no room for, or one that is too small for the length."""
    if not launch.has_room(shorter or 1):
        return Miss(
            reason=RefusalReason.DOES_NOT_FIT,
            problem=f"kvCacheMemory {format_gib(given_bytes)}, which stands beside weights, activations and graphs,",
            placement=placement,
            needed_bytes=given_bytes + launch.fullest_bytes(shorter or 1),
            available_bytes=launch.usable_bytes,
        )
    needed = launch.cache_bytes(length)
    wanted = launch.serving.max_model_len
    return Miss(
        reason=RefusalReason.CONTEXT_TOO_LONG if wanted and shorter else RefusalReason.DOES_NOT_FIT,
        problem=f"{context_of(launch, length)} in the given kvCacheMemory",
        placement=placement,
        needed_bytes=needed,
        available_bytes=given_bytes,
        shorter=shorter,
    )


def best(fits: Sequence[Fit]) -> Fit:
    """The longest context, on the fewest GPUs and nodes, then the most concurrency; the first of equals."""
    return max(
        fits,
        key=lambda fit: (fit.max_model_len, -fit.placement.gpus, -fit.placement.nodes, fit.concurrency),
    )


def context_of(launch: Launch, length: int) -> str:
    """What was asked for, in words."""
    if launch.requests == 1:
        return f"a context of {length} tokens"
    return f"a context of {length} tokens for {launch.requests} requests at once"
