from __future__ import annotations

import json
from typing import Any

import pytest

from plimsoll.sizing import catalogue
from plimsoll.sizing.facts import ModelFacts, Provenance
from plimsoll.sizing.files import disagreement, stored_bytes
from plimsoll.sizing.selection import weight_files
from plimsoll.sizing.shape import shape_from_facts

# A safetensors file names each tensor with its type, shape and place: some 130 bytes apiece.
MAX_HEADER_BYTES_PER_TENSOR = 200
ELEMENT_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}
REQUIRED = (
    "facebook/opt-125m",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "meta-llama/Llama-2-13b-chat-hf",
    "meta-llama/Llama-2-70b-chat-hf",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "google/gemma-2-2b",
    "google/gemma-2-2b-it",
    "google/gemma-2-9b",
    "google/gemma-2-9b-it",
    "microsoft/Phi-3-mini-4k-instruct",
    "microsoft/Phi-3-mini-128k-instruct",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2.5-14B-Instruct",
    "Qwen/Qwen2.5-32B-Instruct",
)


def facts_of(model: str) -> ModelFacts:
    facts = catalogue.lookup(model)
    assert facts is not None
    return facts


def test_the_catalogue_has_the_models_that_it_promises() -> None:
    assert sorted(catalogue.model_ids()) == sorted(REQUIRED)


@pytest.mark.parametrize("model", REQUIRED)
def test_a_model_is_found_by_its_id_whatever_the_case(model: str) -> None:
    assert facts_of(model.lower()) == facts_of(model.upper()) == facts_of(model)
    assert facts_of(model).model_id == model


@pytest.mark.parametrize(
    "model", ["", "opt-125m", "facebook/opt-125m ", "facebook/opt", "../facebook/opt-125m"]
)
def test_anything_but_a_whole_id_is_not_found(model: str) -> None:
    assert catalogue.lookup(model) is None
    with pytest.raises(KeyError):
        catalogue.is_gated(model)


@pytest.mark.parametrize("model", REQUIRED)
def test_an_entry_cannot_be_changed_by_one_who_looked_it_up(model: str) -> None:
    config: Any = facts_of(model).config
    before = json.dumps(config)
    config["architectures"].append("Changed")
    config.clear()
    assert json.dumps(facts_of(model).config) == before


@pytest.mark.parametrize("model", REQUIRED)
def test_the_commit_of_an_entry_cannot_be_taken_for_one_of_the_hub(model: str) -> None:
    assert facts_of(model).commit == f"catalogue-{catalogue.CATALOGUE_VERSION}"


@pytest.mark.parametrize("model", REQUIRED)
def test_an_entry_says_where_its_facts_come_from(model: str) -> None:
    facts = facts_of(model)
    assert facts.source.startswith("catalogue ")
    assert ("recalled" in facts.source) or facts.provenance is Provenance.PUBLISHED


def test_entries_that_rest_on_memory_are_marked() -> None:
    recalled = {model for model in REQUIRED if facts_of(model).provenance is Provenance.RECALLED}
    assert recalled == {"facebook/opt-125m", "google/gemma-2-2b", "google/gemma-2-9b-it"}


@pytest.mark.parametrize("model", REQUIRED)
def test_the_parameters_by_dtype_add_up_to_the_bytes_of_the_tensors(model: str) -> None:
    parameters = facts_of(model).parameters_by_dtype
    total = sum(ELEMENT_BYTES[dtype] * number for dtype, number in parameters.items())
    assert total == (catalogue.tensor_bytes(model) if parameters else 0)


@pytest.mark.parametrize("model", REQUIRED)
def test_the_files_hold_the_tensors_and_no_more_than_headers_beside(model: str) -> None:
    files = weight_files(facts_of(model).files)
    surplus = sum(file.size_bytes for file in files) - (catalogue.tensor_bytes(model) or 0)
    tensors = 92_000 if "DeepSeek" in model else 800
    assert 0 <= surplus <= tensors * MAX_HEADER_BYTES_PER_TENSOR


@pytest.mark.parametrize("model", REQUIRED)
def test_the_config_implies_the_tensors_that_the_files_hold(model: str) -> None:
    facts = facts_of(model)
    shape = shape_from_facts(facts)
    implied = stored_bytes(shape, 4 if shape.dtype == "float32" else 2)
    stored = catalogue.tensor_bytes(model)
    assert stored is not None
    if "DeepSeek" in model:
        # The files hold the layer for multi-token prediction too, which the engine does not load.
        assert implied < stored < implied * 103 / 100
    else:
        # Llama 2 stores a rotary table of 64 float32 in each layer, which no engine loads any more.
        assert stored - implied == 4 * facts.parameters_by_dtype.get("F32", 0) * (shape.dtype != "float32")
    assert disagreement(shape, facts) is None


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("mistralai/Mistral-7B-Instruct-v0.3", 7.248),
        ("meta-llama/Llama-2-13b-chat-hf", 13.016),
        ("meta-llama/Llama-3.1-70B-Instruct", 70.554),
        ("google/gemma-2-9b-it", 9.242),
        ("microsoft/Phi-3-mini-4k-instruct", 3.821),
        ("deepseek-ai/DeepSeek-V3", 684.531),
        ("Qwen/Qwen2.5-14B-Instruct", 14.770),
    ],
)
def test_the_files_hold_the_published_number_of_parameters(model: str, billions: float) -> None:
    assert round(sum(facts_of(model).parameters_by_dtype.values()) / 10**9, 3) == billions


def test_licences_that_must_be_accepted_are_known() -> None:
    gated = {model for model in REQUIRED if catalogue.is_gated(model)}
    assert {model.split("/")[0] for model in gated} == {"google", "meta-llama"}


def test_shards_of_unknown_size_share_the_total_without_loss() -> None:
    shards = [f for f in facts_of("meta-llama/Llama-3.1-70B-Instruct").files if f.path.startswith("model-")]
    assert (len(shards), sum(file.size_bytes for file in shards)) == (30, 141107412992)
    assert shards[0].path == "model-00001-of-00030.safetensors"
