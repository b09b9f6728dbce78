"""What a plan promises is the safe end of an interval, which holds every release that may have run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accuracy_samples import find, row

from plimsoll.accuracy.score import document, score, score_row

if TYPE_CHECKING:
    from plimsoll.accuracy.score import Scored


def scored(**values: Any) -> Scored:
    return score_row(row(**values), find)


def test_what_a_plan_promises_is_the_safe_end_and_the_point_is_told_apart() -> None:
    prediction = scored(other_flags=None, available_kv_gib=10.0).prediction
    assert prediction is not None
    assert prediction.available_low is not None
    assert prediction.available_bytes is not None
    low, point = prediction.available_low / 2**30, prediction.available_bytes / 2**30
    between = round((low + point) / 2 / 1.05, 2)  # 5 % over it lies above the safe end and below the point
    assert low < 1.05 * between < point

    sums = document(score([row(other_flags=None, available_kv_gib=between)], find))["available_kv"]
    beyond = document(score([row(other_flags=None, available_kv_gib=round(low / 1.06, 2))], find))

    assert (sums["unsafe_share"], sums["over_promised_by_point"]) == (0.0, 1.0)
    assert beyond["available_kv"]["unsafe_share"] == 1.0


def test_where_no_release_is_said_the_interval_holds_two() -> None:
    rows = [
        scored(other_flags=None, vllm_version=version, max_num_seqs=1024, available_kv_gib=10.0)
        for version in (None, "0.19.0", "0.13.0")
    ]
    unsaid, late, early = (one.prediction for one in rows)
    assert unsaid is not None
    assert late is not None
    assert early is not None
    assert late.available_low is not None
    assert early.available_low is not None
    assert late.available_high is not None
    assert early.available_high is not None

    assert unsaid.available_bytes == late.available_bytes
    assert unsaid.available_low == min(late.available_low, early.available_low)
    assert unsaid.available_high == max(late.available_high, early.available_high)
    assert early.available_low < late.available_low
