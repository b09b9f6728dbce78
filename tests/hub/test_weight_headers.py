from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from plimsoll.hub.client import HubClient
from plimsoll.hub.resolve import facts_from_folder
from plimsoll.sandbox.hubstandin_storage import Fault
from plimsoll.sizing.files import disagreement
from plimsoll.sizing.shape import shape_from_facts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from plimsoll.sandbox.hubstandin import HubStandIn

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def safetensors(tensors: Mapping[str, int]) -> bytes:
    """A file of BF16 vectors with so many elements each."""
    header, at = {}, 0
    for name, elements in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [elements], "data_offsets": [at, at + 2 * elements]}
        at += 2 * elements
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + b"\0" * at


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_the_tensors_of_all_files_are_added_up_and_those_that_stay_are_told_apart(folder: Path) -> None:
    (folder / "model-00001-of-00002.safetensors").write_bytes(safetensors({"model.embed_tokens.weight": 256}))
    (folder / "model-00002-of-00002.safetensors").write_bytes(
        safetensors({"lm_head.weight": 256, "model.layers.1.mlp.up_proj.weight": 10, "model.norm.weight": 8})
    )
    facts = facts_from_folder(str(folder))
    assert (facts.tensor_bytes, facts.warnings) == (1060, ())
    assert sorted(facts.unloaded_bytes.values()) == [20, 512]
    assert facts.parameters_by_dtype == {"BF16": 530}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "it is 0 bytes long", id="empty"),
        pytest.param(safetensors({"a": 4})[:-1], "accounts for", id="cut-off-in-the-data"),
        pytest.param(safetensors({"a": 4})[:20], "its header takes", id="cut-off-in-the-header"),
        pytest.param(b"\xff" * 64, "its header takes", id="garbage"),
    ],
)
def test_a_file_that_is_not_whole_is_told_and_counts_by_its_size(
    folder: Path, content: bytes, says: str
) -> None:
    (folder / "model.safetensors").write_bytes(content)
    facts = facts_from_folder(str(folder))
    assert facts.tensor_bytes is None
    (said,) = facts.warnings
    assert said.startswith("model.safetensors is no whole safetensors file")
    assert says in said


def test_files_without_headers_count_by_their_size(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100)
    facts = facts_from_folder(str(folder))
    assert (facts.tensor_bytes, facts.unloaded_bytes, facts.warnings) == (None, {}, ())


def test_the_headers_of_a_model_that_cannot_be_sized_are_added_up_all_the_same(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["NobodyKnows"]}))
    (folder / "model.safetensors").write_bytes(safetensors({"lm_head.weight": 4}))
    facts = facts_from_folder(str(folder))
    assert (facts.tensor_bytes, facts.unloaded_bytes) == (8, {})


def repository(tensors: Mapping[str, int]) -> dict[str, bytes]:
    return {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors(tensors)}


BODY = {
    "model.embed_tokens.weight": 256,
    "model.layers.0.self_attn.q_proj.weight": 64,
    "model.layers.0.self_attn.k_proj.weight": 64,
    "model.layers.0.self_attn.v_proj.weight": 64,
    "model.layers.0.self_attn.o_proj.weight": 64,
    "model.layers.0.mlp.gate_proj.weight": 128,
    "model.layers.0.mlp.up_proj.weight": 128,
    "model.layers.0.mlp.down_proj.weight": 128,
    "model.layers.0.input_layernorm.weight": 8,
    "model.layers.0.post_attention_layernorm.weight": 8,
    "model.norm.weight": 8,
}
BODY_BYTES = 2 * sum(BODY.values())


async def test_the_hub_is_asked_for_headers_where_the_sizes_leave_a_question(hub: HubStandIn) -> None:
    hub.add_repo("org/tiny", repository(BODY | {"model.layers.1.mlp.up_proj.weight": 5000}))
    facts = await HubClient(hub.url).fetch("org/tiny", "main")
    assert facts.tensor_bytes == BODY_BYTES + 10_000
    assert list(facts.unloaded_bytes.values()) == [10_000]
    assert disagreement(shape_from_facts(facts), facts) is None


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(None, id="a-header-longer-than-the-first-range"),
        pytest.param(Fault(match=".safetensors", no_ranges=True), id="from-a-mirror-without-ranges"),
    ],
)
async def test_a_header_comes_whole_however_it_is_sent(hub: HubStandIn, fault: Fault | None) -> None:
    hub.faults += [] if fault is None else [fault]
    many = {f"model.layers.0.odd.{index:05d}": 1 for index in range(2000)}
    hub.add_repo("org/tiny", repository(BODY | many))
    facts = await HubClient(hub.url).fetch("org/tiny", "main")
    assert (facts.tensor_bytes, facts.warnings) == (BODY_BYTES + 4000, ())
    said = disagreement(shape_from_facts(facts), facts)
    assert said is not None
    assert "The headers of the weight files name" in said


async def test_a_lying_header_on_the_hub_is_told(hub: HubStandIn) -> None:
    files = repository(BODY)
    files["model.safetensors"] = files["model.safetensors"][:-100]
    hub.add_repo("org/tiny", files)
    facts = await HubClient(hub.url).fetch("org/tiny", "main")
    (said,) = facts.warnings
    assert said.startswith("model.safetensors is no whole safetensors file")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(match=".safetensors", status=500), id="an-error"),
        pytest.param(Fault(match=".safetensors", status=403), id="forbidden"),
        pytest.param(Fault(match=".safetensors", status=200, body=b""), id="nothing"),
    ],
)
async def test_headers_that_cannot_be_had_leave_the_question_and_the_model(
    hub: HubStandIn, fault: Fault
) -> None:
    hub.faults.append(fault)
    hub.add_repo("org/tiny", repository(BODY | {"model.layers.1.mlp.up_proj.weight": 5000}))
    facts = await HubClient(hub.url).fetch("org/tiny", "main")
    assert facts.tensor_bytes is None
    assert disagreement(shape_from_facts(facts), facts) is not None


async def test_a_model_of_the_catalogue_is_asked_for_no_header(hub: HubStandIn) -> None:
    await HubClient(hub.url).fetch("tiiuae/falcon-7b-instruct", "main")
    assert len(hub.requests) == 3
