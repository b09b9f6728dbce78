"""Rows held against predictions: each measure of each row, and the sums over all."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from plimsoll.accuracy.predict import Prediction, predict
from plimsoll.accuracy.reasons import reason_for
from plimsoll.accuracy.summary import mean, median, percentile, rounded, share_of
from plimsoll.accuracy.tokens import agrees, half_a_digit, logged_tokens, tokens_in
from plimsoll.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from plimsoll.accuracy.rows import LogRow

# What counts as a miss of a measure, as a share of what was measured.
AVAILABLE_MISS: Final = 0.10
TOKENS_MISS: Final = 0.10
WEIGHTS_MISS: Final = 0.01
UNSAFE: Final = (
    0.05  # promised over what there was: by a plan, which reckons with the safe end of the interval
)

NO_CONFIG: Final = "no config of {model} in the folder"
NO_MODEL: Final = "the row names no model"
NO_MEMORY: Final = "the GPU's memory is not known"
NO_UTILIZATION: Final = "the utilisation is not known"
NO_MEASUREMENT: Final = "nothing was measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of a row: ours, theirs, and the distance as a share of theirs (above zero: ours is more)."""

    name: str
    ours: float
    theirs: float
    error: float
    miss: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One row with everything that could be held against it.

    Attributes:
        covered: whether the interval holds what was measured; None where it was not measured.
        width: of the interval, as a share of the GPU's memory.
        right: whether the verdict is the log's; None where there is none.
        skipped: why the row is not scored; None where it is.
    """

    row: LogRow
    prediction: Prediction | None
    measures: tuple[Measure, ...] = ()
    covered: bool | None = None
    width: float | None = None
    right: bool | None = None
    skipped: str | None = None

    def measure(self, name: str) -> Measure | None:
        """The measure of this name."""
        return next((one for one in self.measures if one.name == name), None)


def score(rows: Iterable[LogRow], find: Callable[[str], Mapping[str, Any] | None]) -> tuple[Scored, ...]:
    """Score every row; `find` gives a model's config."""
    return tuple(score_row(row, find) for row in rows)


def score_row(row: LogRow, find: Callable[[str], Mapping[str, Any] | None]) -> Scored:
    """Score one row, or say what it lacks."""
    values = None if row.model is None else find(row.model)
    if values is None:
        lacks = NO_MODEL if row.model is None else NO_CONFIG.format(model=row.model)
        return Scored(row=row, prediction=None, skipped=lacks)
    prediction = predict(row, values)
    if prediction.lacking is not None:
        return Scored(
            row=row, prediction=prediction, skipped=f"the config of {row.model} lacks {prediction.lacking}"
        )
    measures = tuple(
        one
        for one in (
            _available(row, prediction),
            _weights(row, prediction),
            _bytes_per_token(row, prediction),
            _tokens(row, prediction),
        )
        if one is not None
    )
    right = None
    if row.served is not None and prediction.verdict is not None and _verdict_known(row, prediction):
        right = prediction.verdict.fits == row.served
    covered, width = _interval(row, prediction)
    if not measures and right is None:
        return Scored(row=row, prediction=prediction, skipped=_lacks(row, prediction))
    return Scored(
        row=row,
        prediction=prediction,
        measures=measures,
        covered=covered,
        width=width,
        right=right,
    )


def _verdict_known(row: LogRow, prediction: Prediction) -> bool:
    """A refusal stands by itself; a fit needs the card and the share of it."""
    if prediction.refused is not None:
        return True
    return prediction.card.memory_known and row.gpu_memory_utilization is not None


def _lacks(row: LogRow, prediction: Prediction) -> str:
    measured = (row.available_kv_gib, row.weights_gib_per_gpu, row.kv_tokens, row.served)
    if all(value is None for value in measured):
        return NO_MEASUREMENT
    if not prediction.card.memory_known:
        return NO_MEMORY
    return NO_UTILIZATION if row.gpu_memory_utilization is None else NO_MEASUREMENT


def _measure(name: str, ours: float, theirs: float, miss: float) -> Measure:
    error = (ours - theirs) / theirs
    return Measure(name=name, ours=ours, theirs=theirs, error=error, miss=abs(error) > miss)


def _has_available(row: LogRow, prediction: Prediction) -> bool:
    return (
        row.available_kv_gib is not None
        and row.available_kv_gib > 0
        and prediction.card.memory_known
        and row.gpu_memory_utilization is not None
    )


def _available(row: LogRow, prediction: Prediction) -> Measure | None:
    """GiB for the KV cache; a model that is refused is promised nothing."""
    if not _has_available(row, prediction) or row.available_kv_gib is None:
        return None
    ours = max(prediction.available_bytes or 0, 0) / GIB
    return _measure("available_kv", ours, float(row.available_kv_gib), AVAILABLE_MISS)


def _promised(one: Scored) -> float:
    """How far a plan's promise, the safe end of the interval, lies above what there was, as a share of it."""
    row, prediction = one.row, one.prediction
    if prediction is None or prediction.available_low is None or row.available_kv_gib is None:
        return -1.0  # refused: nothing is promised
    there = float(row.available_kv_gib)
    return (prediction.available_low / GIB - there) / there


def _interval(row: LogRow, prediction: Prediction) -> tuple[bool | None, float | None]:
    if not _has_available(row, prediction) or row.available_kv_gib is None:
        return None, None
    if prediction.available_low is None or prediction.available_high is None:
        return False, None
    half = half_a_digit(row.available_kv_gib)
    low, high = (Decimal(end) / GIB for end in (prediction.available_low, prediction.available_high))
    covered = low - half <= row.available_kv_gib <= high + half
    width = (prediction.available_high - prediction.available_low) / prediction.card.accelerator.memory_bytes
    return covered, width


def _weights(row: LogRow, prediction: Prediction) -> Measure | None:
    """GiB on one rank once the model is loaded."""
    if not row.weights_gib_per_gpu or row.weights_gib_per_gpu < 0 or prediction.refused is not None:
        return None
    return _measure("weights", prediction.weights_bytes / GIB, float(row.weights_gib_per_gpu), WEIGHTS_MISS)


def _bytes_per_token(row: LogRow, prediction: Prediction) -> Measure | None:
    """Bytes of the cache that a token takes: what was available over the tokens that came of it."""
    launch, tokens = prediction.launch, logged_tokens(row, prediction)
    equal = agrees(row, prediction)
    if launch is None or tokens is None or equal is None or row.available_kv_gib is None:
        return None
    available = float(row.available_kv_gib) * GIB
    of_ours = tokens_in(prediction, int(available))
    theirs = available / tokens[0]
    ours = available / of_ours if of_ours else float(launch.layout.bytes_per_block)
    return Measure(
        name="bytes_per_token", ours=ours, theirs=theirs, error=(ours - theirs) / theirs, miss=not equal
    )


def _tokens(row: LogRow, prediction: Prediction) -> Measure | None:
    """Tokens of the cache from the card alone, as the engine printed them."""
    if prediction.launch is None or prediction.available_bytes is None:
        return None
    tokens = logged_tokens(row, prediction)
    if tokens is None:
        return None
    ours = tokens_in(prediction, max(prediction.available_bytes, 0))
    return _measure("kv_tokens", ours, tokens[0], TOKENS_MISS)


def document(scored: Sequence[Scored]) -> dict[str, Any]:
    """The sums in the form of `plimsoll accuracy -o json`; errors, shares and widths are parts of one."""
    skipped = [one for one in scored if one.skipped is not None]
    available = _errors(scored, "available_kv")
    rows = [one for one in scored if one.measure("available_kv") is not None]
    available["unsafe_share"] = rounded(share_of([_promised(one) > UNSAFE for one in rows]))
    available["over_promised_by_point"] = rounded(
        share_of([one.error > UNSAFE for one in _of(scored, "available_kv")])
    )
    available["interval_coverage"] = rounded(share_of([bool(one.covered) for one in rows]))
    available["interval_width"] = rounded(mean([one.width for one in rows if one.width is not None]))
    exact = _errors(scored, "bytes_per_token")
    exact["equal"] = sum(not one.miss for one in _of(scored, "bytes_per_token"))
    verdicts = [one for one in scored if one.right is not None]
    return {
        "rows": len(scored),
        "scored": len(scored) - len(skipped),
        "skipped": [{"id": one.row.id, "reason": one.skipped} for one in skipped],
        "available_kv": available,
        "kv_tokens": _errors(scored, "kv_tokens"),
        "weights": _errors(scored, "weights"),
        "bytes_per_token": exact,
        "verdict": {
            "n": len(verdicts),
            "correct": sum(one.right is True for one in verdicts),
            "unsafe": sum(one.right is False and one.row.served is False for one in verdicts),
            "wasteful": sum(one.right is False and one.row.served is True for one in verdicts),
        },
        "misses": misses(scored),
    }


def _of(scored: Sequence[Scored], name: str) -> list[Measure]:
    return [measure for one in scored if (measure := one.measure(name)) is not None]


def _errors(scored: Sequence[Scored], name: str) -> dict[str, Any]:
    errors = [abs(one.error) for one in _of(scored, name)]
    return {
        "n": len(errors),
        "median_abs_error": rounded(median(errors)),
        "p90_abs_error": rounded(percentile(errors, 0.9)),
    }


def misses(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """The rows that miss, the worst first: wrong verdicts, then measures by their distance."""
    found: list[tuple[float, dict[str, Any]]] = []
    for one in scored:
        if one.right is False:
            ours = "fits" if one.row.served is False else "refused"
            found.append((float("inf"), _miss(one, "verdict", ours, one.row.outcome, None)))
        found += [
            (abs(measure.error), _miss(one, measure.name, measure.ours, measure.theirs, measure.error))
            for measure in one.measures
            if measure.miss
        ]
    return [miss for _, miss in sorted(found, key=lambda pair: -pair[0])]


def _miss(
    one: Scored, measure: str, ours: float | str, theirs: float | str | None, error: float | None
) -> dict[str, Any]:
    digits = 0 if measure in ("kv_tokens", "bytes_per_token") else 3
    return {
        "id": one.row.id,
        "model": one.row.model,
        "measure": measure,
        "ours": ours if isinstance(ours, str) else round(ours, digits),
        "theirs": theirs if not isinstance(theirs, float) else round(theirs, digits),
        "error": rounded(error),
        "reason": reason_for(one.row, one.prediction, measure),
    }
