"""Whatever stands in a config.json or at the head of a safetensors file, the answer is a plan or one clear sentence.

Real configs of the catalogue are changed as people and programs change them: types swapped, numbers that nothing
can count, fields gone, lists for objects, objects inside objects. Nothing but the errors that name a field may
come out, and no size in the input may decide how long that takes.
"""

from __future__ import annotations

import copy
import json
import tracemalloc
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup, model_ids
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import ModelFacts, RepoFile
from plimsoll.sizing.gpus import find
from plimsoll.sizing.headers import HeaderError, header_length, read_header
from plimsoll.sizing.plan import Plan, Refusal
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB

POOL = NodePool(name="a node of eight", accelerator=find("H100"), gpus_per_node=8, nodes=2)
MODELS = tuple(model_ids())
# Too large for Hypothesis to show, so that it draws their names.
NAMED: dict[str, Any] = {
    "@a long list": [0] * 200_000,
    "@many layer types": ["full_attention", "mamba"] * 100_000,
    "@a deep object": json.loads('{"text_config":' * 900 + "1" + "}" * 900),
    "@deep lists": json.loads("[" * 900 + "]" * 900),
}
ODD = st.one_of(
    st.sampled_from(
        (
            None, True, False, 0, -1, 1, 2, 3, 7, 16, 2**31, 2**63, 10**12, 10**30, -(10**30), 0.5, 1e308, -0.0,
            float("nan"), float("inf"), "", "0", "4096", "null", "bfloat16", "full_attention", [], {}, [[]], [None],
            [1, 2], ["full_attention"] * 7, {"a": 1}, {"rope_type": "yarn", "factor": float("nan")},
            *NAMED,
        )
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    ),
).map(copy.deepcopy)  # fmt: skip


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a config, those inside objects and short lists too."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value[:8]))
    return [path, *(found for key, item in inside for found in paths(item, (*path, key)))]


@st.composite
def changed_configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config of the catalogue with one to four places changed or gone."""
    known = lookup(draw(st.sampled_from(MODELS)))
    assert known is not None
    config: dict[str, Any] = copy.deepcopy(dict(known.config))
    for _ in range(draw(st.integers(1, 4))):
        places = [path for path in paths(config) if path]
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder: Any = config
        for key in above:
            holder = holder[key]
        if draw(st.integers(0, 4)) == 0:
            del holder[last]
        else:
            holder[last] = draw(ODD)
    return config


def meant(value: Any) -> Any:
    """The same with what the names in NAMED stand for."""
    if isinstance(value, dict):
        return {key: meant(item) for key, item in value.items()}
    if isinstance(value, list):
        return [meant(item) for item in value]
    return NAMED.get(value, value) if isinstance(value, str) else value


def facts_of(config: dict[str, Any]) -> ModelFacts:
    file = RepoFile(path="model.safetensors", size_bytes=16 * GIB)
    return ModelFacts(
        model_id="a/b",
        requested_revision="main",
        commit="0" * 40,
        config=config,
        files=(file,),
        parameters_by_dtype={"BF16": 8 * GIB},
    )


def answer(config: dict[str, Any], **serving: Any) -> str:
    """The sentence, or the number of GPUs."""
    facts = facts_of(config)
    try:
        shape = shape_from_facts(facts)
    except UnsupportedModelError as error:
        return str(error) if error.field else ""
    result = estimate(shape, facts, Serving(engine_version="0.33.0", **serving), [POOL])
    if isinstance(result, Refusal):
        return result.message
    assert isinstance(result, Plan)
    return f"{result.gpus} GPUs"


@settings(derandomize=True, max_examples=600, suppress_health_check=list(HealthCheck))
@given(
    config=changed_configs(),
    kv_cache_dtype=st.sampled_from(("auto", "fp8")),
    length=st.sampled_from((None, 8192)),
)
def test_a_changed_config_gives_a_plan_or_a_sentence(
    config: dict[str, Any], kv_cache_dtype: str, length: int | None
) -> None:
    said = answer(meant(config), kv_cache_dtype=kv_cache_dtype, max_model_len=length)
    assert 0 < len(said) < 4000
    assert "\n" not in said


@settings(derandomize=True, max_examples=200)
@given(config=st.dictionaries(st.text(max_size=12), ODD, max_size=6))
def test_any_object_is_refused_by_a_field(config: dict[str, Any]) -> None:
    assert answer(meant(config))


BASE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"num_hidden_layers": 10**12}, "num_hidden_layers", id="a-trillion-layers"),
        pytest.param({"vocab_size": 10**30}, "vocab_size", id="a-vocabulary-beyond-all-numbers"),
        pytest.param({"hidden_size": -4096}, "hidden_size", id="a-negative-width"),
        pytest.param({"num_attention_heads": 0}, "num_attention_heads", id="no-heads"),
        pytest.param({"hidden_size": "4096"}, "hidden_size", id="a-number-as-a-string"),
        pytest.param({"hidden_size": float("nan")}, "hidden_size", id="no-number"),
        pytest.param({"max_position_embeddings": float("inf")}, "max_position_embeddings", id="infinity"),
        pytest.param({"rope_scaling": [1]}, "rope_scaling", id="a-list-for-an-object"),
        pytest.param(
            {"layer_types": ["full_attention"] * 1_000_000}, "layer_types", id="a-million-layer-types"
        ),
        pytest.param(
            {"architectures": ["MyOwnForCausalLM"]}, "architectures", id="an-architecture-of-nobody"
        ),
        pytest.param(
            {"quantization_config": NAMED["@a deep object"]},
            "quantization_config",
            id="nine-hundred-objects-deep",
        ),
        pytest.param({"architectures": None}, "architectures", id="no-architecture"),
    ],
)
def test_the_sentence_names_the_field_soon_and_in_little_memory(change: dict[str, Any], field: str) -> None:
    config = BASE | change
    tracemalloc.start()
    began = process_time()
    said = answer(config)
    took, (_, peak) = process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert field in said
    assert took < 5
    assert peak < 64 * 2**20


def test_a_value_without_end_is_named_and_not_shown() -> None:
    value: Any = 1
    for _ in range(50_000):
        value = [value]
    assert "rope_scaling is nested too deeply" in str(
        UnsupportedModelError("rope_scaling", value, "no", "go")
    )


def test_a_config_that_declares_code_of_its_own_gets_a_clear_answer() -> None:
    code = {"auto_map": {"AutoModelForCausalLM": "modeling_mine.MyModel"}}
    assert answer(BASE | code) == answer(BASE)  # vLLM serves such a class with its own code
    said = answer(BASE | code | {"architectures": ["MyModel"]})
    assert "architectures" in said
    assert "MyModel" in said


def header_of(tensors: dict[str, Any]) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, int]:
    """The first bytes of a whole safetensors file, and its length."""
    tensors: dict[str, Any] = {}
    at = 0
    for number in range(draw(st.integers(1, 5))):
        shape = draw(st.lists(st.integers(1, 64), max_size=3))
        size = 2
        for length in shape:
            size *= length
        tensors[f"model.layers.{number}.weight"] = {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [at, at + size],
        }
        at += size
    head = header_of(tensors)
    return head, len(head) + at


def read(head: bytes, file_bytes: int) -> str:
    """The sentence of the error; empty where the header adds up."""
    try:
        length = header_length(head, "model.safetensors", file_bytes)
        read_header(head[8 : 8 + length], "model.safetensors", file_bytes)
    except HeaderError as error:
        return str(error)
    return ""


@settings(derandomize=True, max_examples=200)
@given(file=files())
def test_a_whole_header_is_read(file: tuple[bytes, int]) -> None:
    assert not read(*file)


@settings(derandomize=True, max_examples=300)
@given(file=files(), data=st.data())
def test_a_truncated_or_lying_header_is_refused_by_name(file: tuple[bytes, int], data: st.DataObject) -> None:
    head, file_bytes = file
    cut = data.draw(st.integers(0, len(head) - 1))
    assert "model.safetensors" in read(head[:cut], file_bytes)
    assert "model.safetensors" in read(head, file_bytes + data.draw(st.integers(1, 2**60)))
    lie = data.draw(st.integers(0, 2**64 - 1).filter(lambda length: length != len(head) - 8))
    data_of_tensors = bytes(file_bytes - len(head))
    assert "model.safetensors" in read(lie.to_bytes(8, "little") + head[8:] + data_of_tensors, file_bytes)


@settings(derandomize=True, max_examples=500)
@given(file=files(), data=st.data())
def test_any_other_bytes_are_read_or_refused(file: tuple[bytes, int], data: st.DataObject) -> None:
    head, file_bytes = file
    tensors = json.loads(head[8:])
    entry = tensors[data.draw(st.sampled_from(sorted(tensors)))]
    entry[data.draw(st.sampled_from(("dtype", "shape", "data_offsets")))] = meant(data.draw(ODD))
    said = read(header_of(tensors), file_bytes)
    assert not said or "model.safetensors" in said
    noise = data.draw(st.binary(max_size=64))
    assert "model.safetensors" in read(len(noise).to_bytes(8, "little") + noise, 8 + len(noise) + 1)
