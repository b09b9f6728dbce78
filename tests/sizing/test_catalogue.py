from __future__ import annotations

import json
import tomllib
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any

import pytest

from plimsoll.sizing import catalogue
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import ModelFacts, Provenance
from plimsoll.sizing.files import disagreement, stored_bytes
from plimsoll.sizing.gpus import find
from plimsoll.sizing.outside import DTYPE_BYTES
from plimsoll.sizing.plan import Plan
from plimsoll.sizing.selection import weight_files
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

MODELS = catalogue.model_ids()
# A safetensors file names each tensor with its type, shape and place: some 130 bytes apiece.
MAX_HEADER_BYTES_PER_TENSOR = 200
ELEMENT_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}
# What the tables that users know name, the quantized builds by their original or by themselves.
PROMISED = (
    "facebook/opt-125m",
    "facebook/opt-350m",
    "facebook/opt-1.3b",
    "openai-community/gpt2",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "mistralai/Codestral-22B-v0.1",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "meta-llama/Llama-2-7b-chat-hf",
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
    "deepseek-ai/deepseek-coder-33b-instruct",
    "TheBloke/deepseek-coder-33B-instruct-AWQ",
    "TheBloke/WizardLM-33B-V1.0-Uncensored-AWQ",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct-AWQ",
    "Qwen/Qwen2.5-14B-Instruct",
    "Qwen/Qwen2.5-14B-Instruct-AWQ",
    "Qwen/Qwen2.5-32B-Instruct",
    "Qwen/Qwen2.5-32B-Instruct-AWQ",
    "Qwen/Qwen2.5-Coder-32B-Instruct",
    "Qwen/Qwen3-235B-A22B",
)
AT_LEAST = 60
CARDS = ("L4", "A100-80GB", "H100", "H200", "B300")


def facts_of(model: str) -> ModelFacts:
    facts = catalogue.lookup(model)
    assert facts is not None
    return facts


def row_of(model: str) -> dict[str, Any]:
    name = f"{facts_of(model).model_id.replace('/', '--')}.toml"
    folder = resources.files("plimsoll.sizing.catalogue").joinpath("models")
    return tomllib.loads(folder.joinpath(name).read_text("utf-8"))


def loaded_bytes(model: str) -> int:
    return sum(file.size_bytes for file in weight_files(facts_of(model).files))


def test_the_catalogue_has_the_models_that_it_promises() -> None:
    assert set(PROMISED) <= set(MODELS)
    assert len(MODELS) >= AT_LEAST


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_found_by_its_id_whatever_the_case(model: str) -> None:
    assert facts_of(model.lower()) == facts_of(model.upper()) == facts_of(model)
    assert facts_of(model).model_id == model == row_of(model)["id"]


@pytest.mark.parametrize(
    "model", ["", "opt-125m", "facebook/opt-125m ", "facebook/opt", "../facebook/opt-125m"]
)
def test_anything_but_a_whole_id_is_not_found(model: str) -> None:
    assert catalogue.lookup(model) is None
    assert catalogue.quantized_siblings(model) == ()
    for ask in (catalogue.is_gated, catalogue.base_of, catalogue.license_of, catalogue.tensor_bytes):
        with pytest.raises(KeyError):
            ask(model)


@pytest.mark.parametrize("model", MODELS)
def test_an_entry_cannot_be_changed_by_one_who_looked_it_up(model: str) -> None:
    config: Any = facts_of(model).config
    before = json.dumps(config)
    config["architectures"].append("Changed")
    config.clear()
    assert json.dumps(facts_of(model).config) == before


@pytest.mark.parametrize("model", MODELS)
def test_the_commit_of_an_entry_cannot_be_taken_for_one_of_the_hub(model: str) -> None:
    assert facts_of(model).commit == f"catalogue-{catalogue.CATALOGUE_VERSION}"


@pytest.mark.parametrize("model", MODELS)
def test_an_entry_says_where_its_facts_come_from_and_what_its_licence_is(model: str) -> None:
    facts = facts_of(model)
    assert facts.source.startswith("catalogue ")
    assert ("recalled" in facts.source) or facts.provenance is Provenance.PUBLISHED
    assert catalogue.license_of(model)


@pytest.mark.parametrize("model", MODELS)
def test_an_estimate_that_rests_on_memory_says_so(model: str) -> None:
    facts = facts_of(model)
    warned = any("written from memory" in warning for warning in plan_of(model).warnings)
    assert warned == (facts.provenance is Provenance.RECALLED)


@pytest.mark.parametrize("model", MODELS)
def test_the_parameters_by_dtype_add_up_to_the_bytes_of_the_tensors(model: str) -> None:
    parameters = facts_of(model).parameters_by_dtype
    total = sum(ELEMENT_BYTES[dtype] * number for dtype, number in parameters.items())
    assert total == (catalogue.tensor_bytes(model) if parameters else 0)


@pytest.mark.parametrize("model", MODELS)
def test_the_files_hold_the_tensors_and_no_more_than_headers_beside(model: str) -> None:
    surplus = loaded_bytes(model) - (catalogue.tensor_bytes(model) or 0)
    tensors = 92_000 if "DeepSeek" in model else 800
    assert 0 <= surplus <= tensors * MAX_HEADER_BYTES_PER_TENSOR


@pytest.mark.parametrize("model", MODELS)
def test_the_config_implies_the_tensors_that_the_files_hold_but_for_those_that_are_explained(
    model: str,
) -> None:
    facts = facts_of(model)
    shape = shape_from_facts(facts)
    implied = stored_bytes(shape, DTYPE_BYTES[shape.dtype])
    assert catalogue.tensor_bytes(model) == implied + sum(facts.unloaded_bytes.values())
    assert disagreement(shape, facts) is None


@pytest.mark.parametrize(
    "model", [model for model in MODELS if "published_gib" in row_of(model)["weights"][0]]
)
def test_the_files_add_up_to_the_published_size(model: str) -> None:
    published = row_of(model)["weights"][0]["published_gib"]
    # Two digits were published, of files with their headers: 41,000 tensors of Nemotron 3 Super have the longest.
    printed = round(Fraction(loaded_bytes(model), GIB), 2)
    with_headers = round(Fraction(loaded_bytes(model) + 41_000 * MAX_HEADER_BYTES_PER_TENSOR, GIB), 2)
    assert printed <= Fraction(published) <= with_headers
    assert printed == Fraction(published) or "Super" in model


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("mistralai/Mistral-7B-Instruct-v0.3", 7.248),
        ("meta-llama/Llama-2-13b-chat-hf", 13.016),
        ("meta-llama/Llama-3.1-70B-Instruct", 70.554),
        ("meta-llama/Llama-3.1-405B-Instruct", 405.853),
        ("google/gemma-2-9b-it", 9.242),
        ("google/gemma-3-27b-it", 27.432),
        ("microsoft/Phi-3-mini-4k-instruct", 3.821),
        ("deepseek-ai/DeepSeek-V3", 684.531),
        ("Qwen/Qwen2.5-14B-Instruct", 14.770),
        ("Qwen/Qwen3-235B-A22B", 235.094),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.703),
        ("tiiuae/falcon-7b-instruct", 7.217),
        ("Qwen/Qwen3-0.6B", 0.752),
    ],
)
def test_the_files_hold_the_published_number_of_parameters(model: str, billions: float) -> None:
    assert round(sum(facts_of(model).parameters_by_dtype.values()) / 10**9, 3) == billions


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # pytorch_model.bin and model.safetensors of these have these sizes, pickle or header included.
        pytest.param("facebook/opt-350m", 662_513_657, id="opt-350m"),
        pytest.param("facebook/opt-1.3b", 2_631_639_353, id="opt-1.3b"),
        pytest.param("openai-community/gpt2", 548_105_171, id="gpt2"),
    ],
)
def test_small_models_of_old_come_out_at_the_size_of_their_file(model: str, expected: int) -> None:
    assert 0 <= expected - loaded_bytes(model) <= expected // 4000


@cache
def plan_of(model: str) -> Plan:
    """On the first of these cards, the smallest first, of which a node of eight serves it in a useful length."""
    facts = facts_of(model)
    shape = shape_from_facts(facts)
    for card in map(find, CARDS):
        pool = NodePool(name=card.alias, accelerator=card, gpus_per_node=8, nodes=1)
        found = estimate(shape, facts, Serving(engine_version="0.33.0"), (pool,))
        if isinstance(found, Plan) and found.max_model_len >= min(4096, shape.max_model_len):
            return found
    raise AssertionError(f"no node of eight of {', '.join(CARDS)} serves {model}")


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_served_by_some_card_of_the_catalogue(model: str) -> None:
    found = plan_of(model)
    assert (found.nodes, found.kv_cache.tokens > 0) == (1, True)


def test_licences_that_must_be_accepted_are_known() -> None:
    gated = {model for model in MODELS if catalogue.is_gated(model)}
    assert {model.split("/")[0] for model in gated} == {
        "google",
        "meta-llama",
        "mistralai",
        "CohereLabs",
    }


def test_shards_of_unknown_size_share_the_total_without_loss() -> None:
    shards = [f for f in facts_of("meta-llama/Llama-3.1-70B-Instruct").files if f.path.startswith("model-")]
    assert (len(shards), sum(file.size_bytes for file in shards)) == (30, 141107412992)
    assert shards[0].path == "model-00001-of-00030.safetensors"


@pytest.mark.parametrize("model", [model for model in MODELS if catalogue.base_of(model) is not None])
def test_a_quantized_build_is_smaller_than_its_base_and_a_sibling_of_the_others(model: str) -> None:
    base = catalogue.base_of(model)
    assert base is not None
    assert catalogue.base_of(base) is None
    assert loaded_bytes(model) < loaded_bytes(base)
    assert shape_from_facts(facts_of(model)).quantization is not None
    siblings = catalogue.quantized_siblings(base)
    assert model in siblings
    assert set(catalogue.quantized_siblings(model)) == set(siblings) - {model}


def test_siblings_come_smallest_first() -> None:
    siblings = catalogue.quantized_siblings("meta-llama/Llama-3.1-8B-Instruct")
    sizes = [loaded_bytes(model) for model in siblings]
    assert sizes == sorted(sizes)
    assert siblings[0] == "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4"


def test_a_model_without_a_build_has_no_siblings() -> None:
    assert catalogue.quantized_siblings("facebook/opt-125m") == ()


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("mistral:7b-instruct-v0.3-q4_K_M", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("llama2:13b", "meta-llama/Llama-2-13b-chat-hf"),
        ("llama2:70b-chat-q4_K_M", "meta-llama/Llama-2-70b-chat-hf"),
        ("codestral:22b-v0.1-q5_K_M", "mistralai/Codestral-22B-v0.1"),
        ("deepseek-coder:33b-instruct-q4_K_M", "deepseek-ai/deepseek-coder-33b-instruct"),
        ("qwen2.5-coder:32b-instruct-q8_0", "Qwen/Qwen2.5-Coder-32B-Instruct"),
        ("mixtral:8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("qwen3:235b-a22b", "Qwen/Qwen3-235B-A22B"),
        ("Mistral:latest", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("llama2:9b", None),
        ("nobody", None),
        ("", None),
    ],
)
def test_a_name_of_ollama_leads_to_the_original(name: str, original: str | None) -> None:
    assert catalogue.original_of(name) == original


def test_no_two_models_are_called_alike() -> None:
    names = [name for model in MODELS for name in row_of(model).get("ollama", ())]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("model", "published_gib"), [("openai/gpt-oss-20b", "25.63"), ("openai/gpt-oss-120b", "121.54")]
)
def test_a_repository_that_holds_its_tensors_twice_adds_up_and_counts_once(
    model: str, published_gib: str
) -> None:
    everything = sum(f.size_bytes for f in facts_of(model).files if f.path.endswith(".safetensors"))
    assert round(Fraction(everything, GIB), 2) == Fraction(published_gib)
    assert loaded_bytes(model) * 2 == everything
