"""Why a row misses, in words, from what the row and the prediction say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.accuracy.era import Flags
from plimsoll.accuracy.tokens import switch_that_agrees
from plimsoll.sizing.draft import draft_of
from plimsoll.units import GIB

if TYPE_CHECKING:
    from plimsoll.accuracy.predict import Prediction
    from plimsoll.accuracy.rows import LogRow

_WEIGHTS_OFF: Final = 0.01


def reason_for(row: LogRow, prediction: Prediction | None, measure: str) -> str:
    """The likeliest reasons, the most certain first; the row's own notes last."""
    if prediction is None:
        return "there is no prediction"
    if prediction.refused is not None:
        return f"refused: {prediction.refused}"
    reasons: list[str] = []
    if measure == "verdict" and prediction.verdict is not None:
        reasons.append(prediction.verdict.reason)
    if measure in ("available_kv", "kv_tokens", "verdict"):
        reasons += _budget(row, prediction)
    if Flags(row.other_flags or "").speculative and not _drafts(prediction):
        reasons.append("a draft is resident, whose weights and cache are not in the estimate")
    if measure == "bytes_per_token":
        reasons += _tokens(row, prediction)
    reasons += prediction.assumed
    if row.confidence and row.confidence != "high":
        reasons.append(f"the collector's confidence is {row.confidence}")
    if row.notes:
        reasons.append(f"noted: {row.notes}")
    return "; ".join(reasons) or "nothing in the row explains it"


def _drafts(prediction: Prediction) -> bool:
    """Whether the estimate has the draft in it."""
    launch = prediction.launch
    return launch is not None and draft_of(launch.shape, launch.serving) is not None


def _tokens(row: LogRow, prediction: Prediction) -> list[str]:
    """What explains tokens that are not those of the logged memory."""
    found = []
    unsaid = switch_that_agrees(row, prediction)
    if unsaid is not None:
        found.append(f"equal with {unsaid}, which the row does not say")
    if prediction.launch is not None and prediction.launch.tensor_parallel_size > 1:
        found.append("blocks follow the rank with least memory, and the GiB may be another's")
    return found


def _budget(row: LogRow, prediction: Prediction) -> list[str]:
    """Where the bytes went: weights against the logged ones, and what is left for everything else."""
    launch = prediction.launch
    if launch is None:
        return []
    found = []
    if row.served and prediction.weights_bytes > launch.usable_bytes:
        found.append(
            "by its config the weights alone are over the budget, so that another build must have run"
        )
    weights = row.weights_gib_per_gpu
    ours = prediction.weights_bytes / GIB
    if weights and abs(ours - float(weights)) > _WEIGHTS_OFF * float(weights):
        found.append(f"weights {ours:.2f} GiB, logged {float(weights):.2f}")
    if weights and row.available_kv_gib is not None and prediction.available_bytes is not None:
        usable = launch.usable_bytes / GIB
        theirs = usable - float(weights) - float(row.available_kv_gib)
        rest = usable - ours - prediction.available_bytes / GIB
        found.append(f"beside weights and cache {rest:.2f} GiB, by the log {theirs:.2f}")
    return found
