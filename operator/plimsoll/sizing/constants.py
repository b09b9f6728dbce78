"""Every empirical number of sizing, once: what it is worth, what it mirrors and where it was read.

What vLLM measures at start-up can only be modelled. The numbers stand in constants.toml; a plan reckons with
the safe end of each, and shows the value that is most likely.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sizing.interval import Interval
from plimsoll.units import GIB, MIB, ceil_fraction

if TYPE_CHECKING:
    from plimsoll.sizing.engine import EngineVersion

_DATE: Final = "2026-11"
_SCALES: Final = {"GiB": GIB, "MiB": MIB, "KiB": 1024, "B": 1, "ratio": 1, "widths": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A number with its interval and its provenance.

    Attributes:
        low, expected, high: `high` is the safe end of a need.
        bytes: the same in whole bytes, rounded up; of a factor that has none, the bytes for one unit.
        unit: of all three.
        since: the first engine release that it holds for.
        basis: "fitted" on logs, "derived" from the engine's code, "read" off logs.
        mirrors: the quantity in the engine.
        source: where it was read.
        date: when it was read.
        guard: the test that fails if it is changed alone.
    """

    name: str
    low: Fraction
    expected: Fraction
    high: Fraction
    bytes: Interval
    unit: str
    since: tuple[int, int, int]
    basis: str
    mirrors: str
    source: str
    date: str = _DATE
    guard: str = "tests/sizing/test_constants.py"

    @property
    def low_bytes(self) -> int:
        """The low end in whole bytes."""
        return self.bytes.low

    @property
    def high_bytes(self) -> int:
        """The safe end in whole bytes."""
        return self.bytes.high

    def of(self, amount: int) -> Interval:
        """A need that is this factor times an amount, rounded up."""
        return Interval(_scaled(self.low, amount), _scaled(self.expected, amount), _scaled(self.high, amount))


def _scaled(ratio: Fraction, amount: int) -> int:
    return -(-ratio.numerator * amount // ratio.denominator)


def _read(entry: dict[str, Any]) -> Constant:
    low, expected, high = (Fraction(entry[end]) for end in ("low", "expected", "high"))
    scale = _SCALES[entry["unit"]]
    major, minor, patch = map(int, entry["since"].split("."))
    return Constant(
        name=entry["name"],
        low=low,
        expected=expected,
        high=high,
        bytes=Interval(*(ceil_fraction(end * scale) for end in (low, expected, high))),
        unit=entry["unit"],
        since=(major, minor, patch),
        basis=entry["basis"],
        mirrors=entry["mirrors"],
        source=entry["source"],
    )


def _load() -> tuple[Constant, ...]:
    text = resources.files("plimsoll.sizing").joinpath("constants.toml").read_text(encoding="utf-8")
    return tuple(_read(entry) for entry in tomllib.loads(text)["constant"])


CONSTANTS: Final = _load()


def _named(name: str) -> tuple[Constant, ...]:
    """A number by engine release, the newest first."""
    found = [constant for constant in CONSTANTS if constant.name == name]
    return tuple(sorted(found, key=lambda constant: constant.since, reverse=True))


def at(table: tuple[Constant, ...], version: EngineVersion) -> Constant:
    """The number that holds for this engine release."""
    return next(constant for constant in table if version.at_least(constant.since))


SAMPLER: Final = _named("SAMPLER")
SAMPLER_SCRATCH: Final = _named("SAMPLER_SCRATCH")[0]
FORWARD_HIDDEN: Final = _named("FORWARD_HIDDEN")[0]
PIPELINE_HIDDEN: Final = _named("PIPELINE_HIDDEN")[0]
MULTIMODAL_HIDDEN: Final = _named("MULTIMODAL_HIDDEN")[0]
COMPILED_TABLE: Final = _named("COMPILED_TABLE")[0]
KEPT_TABLE: Final = _named("KEPT_TABLE")[0]
UNIFIED: Final = _named("UNIFIED")[0]
UNIFIED_FREE: Final = _named("UNIFIED_FREE")[0]
GATED_DELTA_WARMUP: Final = _named("GATED_DELTA_WARMUP")[0]
GATED_DELTA_GRAPHS: Final = _named("GATED_DELTA_GRAPHS")[0]
ENCODER: Final = _named("ENCODER")[0]
GRAPHS_PER_LAYER: Final = _named("GRAPHS_PER_LAYER")
GRAPHS_PER_EXPERT_LAYER: Final = _named("GRAPHS_PER_EXPERT_LAYER")
GRAPHS_PER_FP4_EXPERT_LAYER: Final = _named("GRAPHS_PER_FP4_EXPERT_LAYER")
GRAPHS_PER_LATENT_LAYER: Final = _named("GRAPHS_PER_LATENT_LAYER")[0]
LOADING: Final = _named("LOADING")[0]
LOADING_MOST: Final = _named("LOADING_MOST")[0]
LOADING_ENCODER: Final = _named("LOADING_ENCODER")[0]
NON_TORCH_SINGLE: Final = _named("NON_TORCH_SINGLE")
NON_TORCH_ELSEWHERE: Final = _named("NON_TORCH_ELSEWHERE")
NON_TORCH_EIGHT: Final = _named("NON_TORCH_EIGHT")[0]
NON_TORCH_LINKED: Final = _named("NON_TORCH_LINKED")
NON_TORCH_UNLINKED: Final = _named("NON_TORCH_UNLINKED")
UNFITTED: Final = {"rocm": _named("UNFITTED_ROCM")[0], "other": _named("UNFITTED_OTHER")[0]}
TRITON_EXPERTS: Final = _named("TRITON_EXPERTS")
BASELINE: Final = _named("BASELINE")[0]
ENGINE_PROCESS: Final = _named("ENGINE_PROCESS")[0]
