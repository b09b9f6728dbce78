from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.catalogue import lookup, model_ids
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights, stage_layers, tensor_parallel_problem

if TYPE_CHECKING:
    from plimsoll.sizing.model import ModelShape


def shape_of(model_id: str) -> ModelShape:
    known = lookup(model_id)
    assert known is not None
    return shape_from_facts(known)


@pytest.mark.parametrize(
    ("layers", "stages", "counts"),
    [
        pytest.param(32, 3, [11, 11, 10], id="remainder-of-all-but-the-last"),
        pytest.param(61, 2, [31, 30], id="odd"),
        pytest.param(32, 4, [8, 8, 8, 8], id="even"),
        pytest.param(33, 4, [8, 8, 9, 8], id="one-more-before-the-last"),
        pytest.param(1, 1, [1], id="one"),
    ],
)
def test_layers_are_split_over_stages_as_vllm_does(layers: int, stages: int, counts: list[int]) -> None:
    assert counts == [end - first for first, end in stage_layers(layers, stages)]


@given(layers=st.integers(1, 500), stages=st.integers(1, 32))
def test_stages_cover_all_layers_once(layers: int, stages: int) -> None:
    split = stage_layers(layers, min(stages, layers))
    assert split[0][0] == 0
    assert split[-1][1] == layers
    assert all(left[1] == right[0] for left, right in pairwise(split))
    assert max(end - first for first, end in split) - min(end - first for first, end in split) <= 1


@pytest.mark.parametrize(
    ("model_id", "size", "words"),
    [
        pytest.param("Qwen/Qwen2.5-7B-Instruct", 8, "28 attention heads", id="heads"),
        pytest.param("mistralai/Mistral-7B-Instruct-v0.3", 16, None, id="more-ranks-than-kv-heads"),
        pytest.param("facebook/opt-125m", 12, None, id="whole-heads"),
        pytest.param("facebook/opt-125m", 5, "12 attention heads", id="odd"),
        pytest.param("deepseek-ai/DeepSeek-V3", 16, None, id="experts-in-whole-blocks"),
        pytest.param("deepseek-ai/DeepSeek-V3", 32, "whole blocks of 128", id="experts-in-half-blocks"),
    ],
)
def test_tensor_parallel_sizes_are_refused_with_the_reason(
    model_id: str, size: int, words: str | None
) -> None:
    shape = shape_of(model_id)
    problem = tensor_parallel_problem(shape, size, shape.quantization)
    assert (words is None) == (problem is None)
    assert words is None or (problem is not None and words in problem)


@pytest.mark.parametrize("model_id", model_ids())
def test_splitting_never_takes_less_in_total(model_id: str) -> None:
    shape = shape_of(model_id)
    (whole,) = rank_weights(shape, 1, 1, 2, shape.quantization)
    for size in (2, 4, 8):
        if tensor_parallel_problem(shape, size, shape.quantization) is None:
            (rank,) = rank_weights(shape, size, 1, 2, shape.quantization)
            assert whole.parameter_bytes <= size * rank.parameter_bytes
            assert rank.parameter_bytes < whole.parameter_bytes
    staged = rank_weights(shape, 1, 2, 2, shape.quantization)
    assert whole.parameter_bytes <= sum(stage.parameter_bytes for stage in staged)


def test_a_tied_embedding_stands_on_the_first_and_on_the_last_stage() -> None:
    shape = shape_of("google/gemma-2-2b-it")
    first, last = rank_weights(shape, 1, 2, 2, None)
    embedding = 256000 * 2304 * 2
    assert first.parameter_bytes - first.layer_bytes == embedding + 2304 * 2
    assert last.parameter_bytes - last.layer_bytes == embedding + 2304 * 2
