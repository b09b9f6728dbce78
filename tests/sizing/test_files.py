from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import ModelFacts, RepoFile
from plimsoll.sizing.files import disagreement, stored_bytes, unexplained_bytes, with_what_headers_say
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import Plan
from plimsoll.sizing.selection import weight_files
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
TIED = "google/gemma-2-2b-it"
DRAFTING = "deepseek-ai/DeepSeek-V3"


def facts_of(model: str, **changes: Any) -> ModelFacts:
    known = lookup(model)
    assert known is not None
    return replace(known, **({"unloaded_bytes": {}, "parameters_by_dtype": {}} | changes))


def implied_bytes(model: str) -> int:
    return stored_bytes(shape_from_facts(facts_of(model)), 2)


def one_file(size_bytes: int) -> tuple[RepoFile, ...]:
    return (RepoFile(path="model.safetensors", size_bytes=size_bytes),)


def weights_per_gpu(facts: ModelFacts) -> int:
    pool = NodePool(name="x", accelerator=find("H100"), gpus_per_node=1, nodes=1)
    found = estimate(shape_from_facts(facts), facts, Serving(engine_version="0.33.0"), (pool,))
    assert isinstance(found, Plan)
    return next(part.bytes for part in found.parts if part.name.value == "weights")


@pytest.mark.parametrize(
    ("model", "beyond", "changes"),
    [
        pytest.param(MISTRAL, 0, {}, id="equal"),
        pytest.param(MISTRAL, 60_000_000, {}, id="headers-and-odd-buffers"),
        pytest.param(TIED, 256000 * 2304 * 2, {}, id="the-tied-output-layer-once-more"),
        pytest.param(DRAFTING, 15 * GIB, {}, id="layers-for-multi-token-prediction"),
        pytest.param(
            MISTRAL, 1_000_000_000, {"parameters_by_dtype": {"BF16": 1, "F32": 250_000_000}}, id="float32"
        ),
        pytest.param(MISTRAL, 3 * GIB, {"unloaded_bytes": {"a copy": 3 * GIB}}, id="known-by-name"),
    ],
)
def test_files_that_agree_or_whose_surplus_is_explained_give_no_warning(
    model: str, beyond: int, changes: dict[str, Any]
) -> None:
    facts = facts_of(model, files=one_file(implied_bytes(model) + beyond), **changes)
    assert unexplained_bytes(shape_from_facts(facts), facts) == 0
    assert disagreement(shape_from_facts(facts), facts) is None


@pytest.mark.parametrize(
    ("model", "beyond", "changes"),
    [
        pytest.param(MISTRAL, 3 * GIB, {}, id="more"),
        pytest.param(MISTRAL, -3 * GIB, {}, id="less"),
        pytest.param(MISTRAL, 32768 * 4096 * 2, {}, id="an-output-layer-more-of-a-model-that-is-not-tied"),
        pytest.param(TIED, 2 * 256000 * 2304 * 2, {}, id="two-output-layers-more"),
        pytest.param(MISTRAL, GIB, {"parameters_by_dtype": {"F32": 250_000}}, id="too-little-float32"),
    ],
)
def test_files_that_do_not_hold_what_the_config_implies_are_told_with_both_sizes(
    model: str, beyond: int, changes: dict[str, Any]
) -> None:
    implied = implied_bytes(model)
    facts = facts_of(model, files=one_file(implied + beyond), **changes)
    said = disagreement(shape_from_facts(facts), facts)
    assert said is not None
    assert (
        f"The files hold {(implied + beyond) / GIB:.2f} GiB and config.json implies {implied / GIB:.2f} GiB"
        in said
    )
    assert unexplained_bytes(shape_from_facts(facts), facts) == beyond
    assert weights_per_gpu(facts) == weights_per_gpu(facts_of(model))


def test_what_the_headers_name_beyond_the_config_is_counted_whole_on_every_gpu() -> None:
    implied = implied_bytes(MISTRAL)
    facts = facts_of(MISTRAL, tensor_bytes=implied + 5 * GIB, unloaded_bytes={"a copy": 2 * GIB})
    assert weights_per_gpu(facts) - weights_per_gpu(facts_of(MISTRAL)) == 3 * GIB
    (said,) = with_what_headers_say(shape_from_facts(facts), facts).warnings
    assert "The headers of the weight files name 16.50 GiB of tensors to load" in said
    assert f"config.json implies {implied / GIB:.2f} GiB: the plan counts the larger" in said


def test_what_the_headers_lack_is_told_and_counted_all_the_same() -> None:
    facts = facts_of(MISTRAL, tensor_bytes=implied_bytes(MISTRAL) - 5 * GIB)
    assert weights_per_gpu(facts) == weights_per_gpu(facts_of(MISTRAL))
    said = disagreement(shape_from_facts(facts), facts)
    assert said is not None
    assert "the plan counts the larger" in said


def test_headers_leave_nothing_to_be_explained_by_its_size() -> None:
    facts = facts_of(TIED, tensor_bytes=implied_bytes(TIED) + 256000 * 2304 * 2)
    assert disagreement(shape_from_facts(facts), facts) is not None


@pytest.mark.parametrize(
    ("model", "silent", "layers", "tied"),
    [
        pytest.param(
            "mistralai/Mistral-Small-3.2-24B-Instruct-2506", True, 1, False, id="an-output-layer-of-its-own"
        ),
        pytest.param("mistralai/Mistral-Small-3.2-24B-Instruct-2506", True, 0, True, id="none"),
        pytest.param(
            "mistralai/Mistral-Small-3.2-24B-Instruct-2506", True, 2, True, id="something-else-beside"
        ),
        pytest.param(
            "mistralai/Mistral-Small-3.2-24B-Instruct-2506", False, 1, True, id="the-config-says-tied"
        ),
        pytest.param(TIED, True, 1, True, id="a-class-that-always-ties"),
    ],
)
def test_files_decide_what_a_config_leaves_out_of_tied_embeddings(
    model: str, layers: int, *, silent: bool, tied: bool
) -> None:
    known = facts_of(model, files=())
    config = {key: value for key, value in known.config.items() if key != "tie_word_embeddings"}
    if not silent:
        config["tie_word_embeddings"] = True
    alone = shape_from_facts(replace(known, config={**config, "tie_word_embeddings": True}))
    beside = layers * alone.vocab_size * alone.hidden_size * 2
    facts = replace(known, config=config, files=one_file(stored_bytes(alone, 2) + beside))

    assert shape_from_facts(facts).tied_embeddings is tied


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(
            (*SHARDS, INDEX, "consolidated.safetensors", "original/consolidated.00.pth"),
            SHARDS,
            id="consolidated-and-original",
        ),
        pytest.param(
            (*SHARDS, INDEX, "model.safetensors"), SHARDS, id="the-same-in-one-file-beside-an-index"
        ),
        pytest.param(
            (*SHARDS, "pytorch_model.bin", "nested/model.safetensors"), SHARDS, id="bin-and-nested-folder"
        ),
        pytest.param(("pytorch_model.bin", "training_args.bin"), ("pytorch_model.bin",), id="bin-alone"),
        pytest.param(("part-a.safetensors", INDEX), ("part-a.safetensors",), id="shards-of-another-name"),
        pytest.param((INDEX, "nested/model.safetensors"), (), id="nothing-at-the-root"),
    ],
)
def test_copies_of_the_same_tensors_never_count_twice(
    paths: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    found = weight_files(RepoFile(path=path, size_bytes=1) for path in paths)
    assert tuple(file.path for file in found) == expected
