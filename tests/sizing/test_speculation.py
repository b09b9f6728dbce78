"""The value of --speculative-config: read as vLLM reads it, or refused by field, value and way out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.speculation import Speculation, read_speculation, speculation_of


@pytest.mark.parametrize(
    ("fields", "method", "tokens"),
    [
        pytest.param({"method": "mtp", "num_speculative_tokens": 1}, "mtp", 1, id="own layers"),
        pytest.param({"method": "deepseek_mtp", "num_speculative_tokens": 3}, "mtp", 3, id="an older name"),
        pytest.param({"method": "qwen3_next_mtp", "num_speculative_tokens": 2}, "mtp", 2, id="another one"),
        pytest.param({"method": "mtp", "model": "a/b"}, "mtp", 0, id="the draft's config says the number"),
        pytest.param({"method": "ngram", "num_speculative_tokens": 4}, "ngram", 4, id="prompt lookup"),
        pytest.param(
            {"model": "[ngram]", "num_speculative_tokens": 4}, "ngram", 4, id="prompt lookup by model"
        ),
        pytest.param({"method": "suffix"}, "suffix", 24, id="a suffix tree has a default"),
        pytest.param(
            {"method": "eagle3", "model": "a/b", "num-speculative-tokens": 5}, "eagle3", 5, id="with dashes"
        ),
        pytest.param({"model": "a/b", "num_speculative_tokens": 5}, "draft_model", 5, id="a model alone"),
    ],
)
def test_what_proposes_the_tokens_is_told_by_method_or_model(
    fields: dict[str, Any], method: str, tokens: int
) -> None:
    found = read_speculation(json.dumps(fields))

    assert (method, tokens) == (found.method, found.num_speculative_tokens)
    assert fields == json.loads(found.text)


@pytest.mark.parametrize(
    ("method", "own", "another"),
    [
        pytest.param("mtp", True, False, id="own layers"),
        pytest.param("ngram", False, False, id="prompt lookup"),
        pytest.param("suffix", False, False, id="suffix tree"),
        *(
            pytest.param(method, False, True, id=method)
            for method in ("eagle", "eagle3", "draft_model", "medusa", "dflash", "dspark")
        ),
    ],
)
def test_only_other_models_bring_weights_that_nobody_knows(method: str, own: bool, another: bool) -> None:
    found = speculation_of({"method": method, "model": "a/b", "num_speculative_tokens": 2})

    assert (own, another) == (found.own_layers, found.another_model)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "speculative_config is ''", id="nothing"),
        pytest.param("mtp", "speculative_config is 'mtp': it must be a JSON object", id="a word"),
        pytest.param("[1]", "speculative_config is '[1]'", id="a list"),
        pytest.param("{}", "speculative_config.method is None", id="no field"),
        pytest.param('{"method": "mtpp", "num_speculative_tokens": 1}', "method is 'mtpp'", id="no method"),
        pytest.param(
            '{"method": ["mtp"], "num_speculative_tokens": 1}', "method is ['mtp']", id="a list of them"
        ),
        pytest.param('{"method": "mtp"}', "num_speculative_tokens is None", id="no number"),
        pytest.param(
            '{"method": "mtp", "num_speculative_tokens": 0}', "num_speculative_tokens is 0", id="zero"
        ),
        pytest.param(
            '{"method": "mtp", "num_speculative_tokens": true}', "num_speculative_tokens is True", id="a flag"
        ),
        pytest.param(
            '{"method": "ngram", "num_speculative_tokens": "2"}', "num_speculative_tokens is '2'", id="a text"
        ),
        pytest.param(
            '{"method": "mtp", "num_speculative_tokens": 65537}',
            "from 1 to 65536",
            id="more than any engine takes",
        ),
        pytest.param('{"model": 7, "num_speculative_tokens": 1}', "model is 7", id="a model that is none"),
    ],
)
def test_what_the_engine_would_not_take_is_refused_by_field_and_value(text: str, words: str) -> None:
    with pytest.raises(UnsupportedOptionError) as refused:
        read_speculation(text)

    assert words in str(refused.value)
    assert "; " in str(refused.value)  # the way out


@pytest.mark.parametrize(
    ("more", "uncounted"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param({"kv_cache_dtype": "fp8"}, ("kv_cache_dtype",), id="a cache dtype of its own"),
        pytest.param({"draft_sample_method": "probabilistic"}, ("draft_sample_method",), id="kept logits"),
        pytest.param({"draft_sample_method": "greedy", "max_model_len": 4096}, (), id="fields without bytes"),
    ],
)
def test_fields_that_change_what_a_draft_takes_are_named(
    more: dict[str, Any], uncounted: tuple[str, ...]
) -> None:
    assert uncounted == speculation_of({"method": "mtp", "num_speculative_tokens": 1, **more}).uncounted


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(
    ["method", "model", "num_speculative_tokens", "num-speculative-tokens", "kv_cache_dtype"]
)


@given(st.text(max_size=40) | st.dictionaries(_NAMES | st.text(max_size=5), _VALUES).map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    found: Speculation | None = None
    with contextlib.suppress(UnsupportedOptionError):
        found = read_speculation(text)

    assert found is None or 0 <= found.num_speculative_tokens <= 65536
    assert found is None or found == read_speculation(found.text)


def test_what_is_nested_without_end_is_refused() -> None:
    with pytest.raises(UnsupportedOptionError):
        read_speculation('{"method": ' + "[" * 10_000 + "]" * 10_000 + "}")
