"""Draft layers of a model's own, as logs tell of them."""

from __future__ import annotations

import pytest

from plimsoll.accuracy.era import Flags


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("MTP 2", 2, id="words"),
        pytest.param("speculative mtp 1 token", 1, id="more words"),
        pytest.param("MTP; CUDA graphs off", 1, id="no number"),
        pytest.param('--speculative-config {"method": "mtp", "num_speculative_tokens": 3}', 3, id="JSON"),
        pytest.param('{"method": "qwen3_next_mtp", "num_speculative_tokens": 2}', 2, id="an older name"),
        pytest.param("no MTP", None, id="switched off"),
        pytest.param('{"method": "eagle3", "num_speculative_tokens": 3}', None, id="another model"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_draft_layers_of_the_model_are_read_with_their_tokens(text: str, tokens: int | None) -> None:
    found = Flags(text).own_draft

    assert tokens == (None if found is None else found.num_speculative_tokens)
    assert found is None or found.own_layers
