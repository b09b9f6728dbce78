"""What a start needs outside its share of the card: what stands there before, beside and after the share is reckoned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plimsoll.sizing.constants import BASELINE
from plimsoll.sizing.draft import built_draft
from plimsoll.sizing.engine import FREE_CHECKED, ONLINE_LAYERWISE
from plimsoll.sizing.placement import Miss
from plimsoll.sizing.plan import RefusalReason
from plimsoll.sizing.weights import rank_weights
from plimsoll.units import ceil_fraction, format_gib

if TYPE_CHECKING:
    from fractions import Fraction

    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.placement import Placement


def outside_miss(launch: Launch, placement: Placement, utilization: Fraction) -> Miss | None:
    """Why the card has no room beside the engine's share of it; None where it has."""
    edges = _Edges(launch, placement, utilization)
    return edges.before_start() or edges.graphs() or _whole_weights(launch, placement)


@dataclass(frozen=True, slots=True)
class _Edges:
    """A start beside its share of the card."""

    launch: Launch
    placement: Placement
    utilization: Fraction

    @property
    def requested_bytes(self) -> int:
        """The share, whatever is used of it later."""
        return ceil_fraction(self.placement.accelerator.memory_bytes * self.utilization)

    def before_start(self) -> Miss | None:
        """Memory in use before vLLM looks: the share must be free at start-up."""
        if not self.launch.version.at_least(FREE_CHECKED):
            return None
        return self._beside(
            BASELINE.high_bytes, "what the driver and CUDA take before vLLM looks", "set {} or less"
        )

    def graphs(self) -> Miss | None:
        """CUDA graphs that come on top of the share (sizing/runner.py): the engine dies while it captures or warms up.

        Reckoned with what is likely of them: where only the most would not fit, the plan warns. A KV space that is given
        is held against the whole card, graphs included.
        """
        launch = self.launch
        if launch.graphs_charged:
            return None
        likely = launch.graphs.expected
        return self._beside(
            BASELINE.low_bytes + likely,
            f"{format_gib(likely)} of CUDA graphs that vLLM {launch.version} takes outside that share",
            "set {} or less, fewer maxNumSeqs, or enforceEager",
        )

    def _beside(self, needed: int, what: str, way_out: str) -> Miss | None:
        memory, requested = self.placement.accelerator.memory_bytes, self.requested_bytes
        if memory - requested >= needed:
            return None
        most = max(memory - needed, 0) * 100 // memory / 100
        return Miss(
            reason=RefusalReason.DOES_NOT_FIT,
            problem=f"gpuMemoryUtilization {float(self.utilization):g}, beside {what} ({way_out.format(f'{most:.2f}')}),",
            placement=self.placement,
            needed_bytes=requested + needed,
            available_bytes=memory,
        )


def _whole_weights(launch: Launch, placement: Placement) -> Miss | None:
    """Quantization while loading passed all weights through the card in 16 bits, until each layer was made on its own.

    Source: layers/quantization/fp8.py in the wheels of 0.15 to 0.19 (layers on the meta device).
    """
    if not placement.precision.online or launch.version.at_least(ONLINE_LAYERWISE):
        return None
    whole = rank_weights(
        launch.shape,
        placement.tensor_parallel_size,
        placement.pipeline_parallel_size,
        placement.precision.element_bytes,
        None,
        draft=built_draft(launch.shape, launch.serving, launch.version),
    )
    needed = max(stage.total_bytes for stage in whole) + BASELINE.high_bytes
    if needed <= placement.accelerator.memory_bytes:
        return None
    return Miss(
        reason=RefusalReason.DOES_NOT_FIT,
        problem="quantization fp8, which passes all weights of a 16-bit checkpoint through the card before vLLM 0.16,",
        placement=placement,
        needed_bytes=needed,
        available_bytes=placement.accelerator.memory_bytes,
    )
