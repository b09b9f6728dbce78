"""The rows of a score by what they have in common."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.accuracy.summary import median, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plimsoll.accuracy.score import Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows with one thing in common; errors are shares of what was measured, None where nothing was.

    Attributes:
        median, p90: errors of the available KV cache.
        weights: the median error of the weights.
        exact: rows whose bytes of a token are equal, of those that say them.
        verdicts: rows with the right verdict, of those with one.
    """

    name: str
    rows: int
    measured: int
    median: float | None
    p90: float | None
    weights: float | None
    exact: tuple[int, int]
    verdicts: tuple[int, int]


def _attention(one: Scored) -> str:
    return one.row.attention or "not said"


def _card(one: Scored) -> str:
    if one.prediction is None or not one.prediction.card.catalogued:
        return "others" if one.row.gpu else "not said"
    return one.prediction.card.accelerator.alias


def _quantization(one: Scored) -> str:
    return one.row.quantization or "none"


def _version(one: Scored) -> str:
    if one.prediction is None or one.prediction.era is None:
        return "not said"
    major, minor, _ = one.prediction.era.written
    said = any(character.isdigit() for character in one.row.vllm_version or "")
    return f"{major}.{minor}" if said else "not said"


BY: Final[dict[str, Callable[[Scored], str]]] = {
    "attention": _attention,
    "GPU": _card,
    "quantization": _quantization,
    "vLLM": _version,
}


def grouped(scored: Sequence[Scored], key: Callable[[Scored], str]) -> tuple[Group, ...]:
    """The scored rows by a key, the largest group first."""
    members: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        if one.skipped is None:
            members[key(one)].append(one)
    groups = [_group(name, rows) for name, rows in members.items()]
    return tuple(sorted(groups, key=lambda group: (-group.rows, group.name)))


def _group(name: str, rows: Sequence[Scored]) -> Group:
    errors = [abs(measure.error) for one in rows if (measure := one.measure("available_kv")) is not None]
    weights = [abs(measure.error) for one in rows if (measure := one.measure("weights")) is not None]
    exact = [not measure.miss for one in rows if (measure := one.measure("bytes_per_token")) is not None]
    verdicts = [one.right for one in rows if one.right is not None]
    return Group(
        name=name,
        rows=len(rows),
        measured=len(errors),
        median=median(errors),
        p90=percentile(errors, 0.9),
        weights=median(weights),
        exact=(sum(exact), len(exact)),
        verdicts=(sum(verdicts), len(verdicts)),
    )
