"""What vLLM's own planning code answered, as hack/conformance recorded it, met to the integer."""

from __future__ import annotations

from collections import Counter

import pytest

from support.planning import ours, recorded, summary

ROWS = recorded()


@pytest.mark.parametrize("start", range(0, len(ROWS), 50))
def test_the_recorded_answers_of_vllm_are_met(start: int) -> None:
    for case, answer in ROWS[start : start + 50]:
        assert answer == summary(ours(case)), case


def test_the_table_has_every_kind_of_cache_and_every_outcome() -> None:
    kinds = Counter(kind["kind"] for case, _ in ROWS for kind in case["kinds"])
    assert min(kinds.values()) >= 10
    assert set(kinds) >= {
        "FullAttention",
        "SlidingWindow",
        "ChunkedLocal",
        "MultiHeadLatent",
        "SparseIndexer",
        "State",
    }
    assert {answer["refused"] for _, answer in ROWS} == {True, False, "pages"}
    assert {len(case["stages"]) for case, _ in ROWS} >= {1, 2, 3, 4}
