from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.headers import (
    MAX_HEADER_BYTES,
    HeaderError,
    StoredTensor,
    header_length,
    parameters_by_dtype,
    read_header,
    unloaded,
)

FILE = "model.safetensors"
WHOLE: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "model.embed_tokens.weight": {"dtype": "BF16", "shape": [8, 4], "data_offsets": [0, 64]},
    "model.norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [64, 80]},
    "model.scale": {"dtype": "F8_E4M3", "shape": [], "data_offsets": [80, 81]},
}


def encoded(header: object) -> bytes:
    return json.dumps(header).encode()


def changed(name: str, **fields: Any) -> dict[str, Any]:
    return WHOLE | {name: WHOLE[name] | fields}


def read(header: bytes, data_bytes: int = 81) -> tuple[StoredTensor, ...]:
    return read_header(header, FILE, 8 + len(header) + data_bytes)


def test_the_tensors_come_in_the_order_of_their_data() -> None:
    assert read(encoded(WHOLE)) == (
        StoredTensor(name="model.embed_tokens.weight", dtype="BF16", size_bytes=64),
        StoredTensor(name="model.norm.weight", dtype="F32", size_bytes=16),
        StoredTensor(name="model.scale", dtype="F8_E4M3", size_bytes=1),
    )


def test_elements_are_counted_by_dtype() -> None:
    assert parameters_by_dtype(read(encoded(WHOLE))) == {"BF16": 32, "F32": 4, "F8_E4M3": 1}


@pytest.mark.parametrize(
    ("start", "file_bytes", "says"),
    [
        pytest.param(b"", 0, "it is 0 bytes long", id="empty"),
        pytest.param(b"\1\0\0", 3, "it is 3 bytes long", id="shorter-than-the-length"),
        pytest.param(struct.pack("<Q", 1), 100, "its header takes 1", id="no-room-for-an-object"),
        pytest.param(struct.pack("<Q", 93), 100, "its header takes 93", id="longer-than-the-file"),
        pytest.param(struct.pack("<Q", 2**63), 2**40, "its header takes", id="longer-than-any-file"),
        pytest.param(
            struct.pack("<Q", MAX_HEADER_BYTES + 1), 2**40, "is longer than", id="longer-than-any-header"
        ),
    ],
)
def test_a_length_that_cannot_be_is_refused(start: bytes, file_bytes: int, says: str) -> None:
    with pytest.raises(HeaderError, match="is no whole safetensors file") as caught:
        header_length(start, FILE, file_bytes)
    assert says in str(caught.value)


def test_the_length_is_little_endian() -> None:
    assert header_length(struct.pack("<Q", 92) + b"{", FILE, 100) == 92


@pytest.mark.parametrize(
    ("header", "says"),
    [
        pytest.param(b"\xff{}", "is not JSON", id="no-json"),
        pytest.param(encoded(WHOLE)[:-1], "is not JSON", id="cut-off"),
        pytest.param(b"[]", "no JSON object", id="a-list"),
        pytest.param(b"[" * 100_000, "is not JSON", id="deep"),
        pytest.param(b'{"a": ' + b"1" * 5000 + b"}", "is not JSON", id="a-number-beyond-all-bounds"),
        pytest.param(encoded(WHOLE | {"model.scale": 1}), "says nothing of 'model.scale'", id="no-entry"),
        pytest.param(encoded(changed("model.scale", dtype="F128")), "'model.scale'", id="unknown-dtype"),
        pytest.param(encoded(changed("model.scale", dtype=["F8"])), "'model.scale'", id="dtype-of-no-type"),
        pytest.param(encoded(changed("model.scale", shape=[-1])), "'model.scale'", id="negative-size"),
        pytest.param(
            encoded(changed("model.scale", shape=[True])), "'model.scale'", id="a-size-that-is-true"
        ),
        pytest.param(encoded(changed("model.scale", shape=[1] * 17)), "'model.scale'", id="17-dimensions"),
        pytest.param(encoded(changed("model.scale", shape=[2])), "as long as its dtype", id="lying-shape"),
        pytest.param(
            encoded(changed("model.scale", shape=[2**47] * 16)),
            "as long as its dtype",
            id="overflowing-shape",
        ),
        pytest.param(encoded(changed("model.scale", data_offsets=[81, 80])), "'model.scale'", id="backwards"),
        pytest.param(
            encoded(changed("model.scale", data_offsets=[0, 1])), "overlap or leave a gap", id="overlap"
        ),
        pytest.param(
            encoded(changed("model.scale", data_offsets=[81, 82])), "overlap or leave a gap", id="gap"
        ),
        pytest.param(
            encoded({"x" * 300: 1}), "'" + "x" * 77 + "...'", id="a-name-that-would-fill-the-screen"
        ),
    ],
)
def test_a_header_that_does_not_add_up_is_refused_with_what_is_wrong(header: bytes, says: str) -> None:
    with pytest.raises(HeaderError, match="download it again") as caught:
        read(header)
    assert says in str(caught.value)


@pytest.mark.parametrize("data_bytes", [0, 80, 82])
def test_a_file_that_is_cut_off_or_too_long_is_refused(data_bytes: int) -> None:
    with pytest.raises(HeaderError, match="accounts for"):
        read(encoded(WHOLE), data_bytes)


def left_in_the_file(*names: str) -> dict[str, int]:
    tensors = [StoredTensor(name=name, dtype="BF16", size_bytes=10) for name in names]
    return unloaded(tensors, num_layers=2, tied_embeddings=True)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("model.layers.2.mlp.up_proj.weight", "multi-token prediction"),
        ("model.layers.2.shared_head.head.weight", "multi-token prediction"),
        ("mtp.layers.0.self_attn.q_proj.weight", "multi-token prediction"),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "rotary table"),
        ("h.1.attn.bias", "causal mask"),
        ("transformer.h.1.attn.masked_bias", "causal mask"),
        ("lm_head.weight", "output layer once more"),
    ],
)
def test_tensors_that_stay_in_the_file_are_known_by_their_names(name: str, why: str) -> None:
    ((reason, size),) = left_in_the_file(name, name).items()
    assert why in reason
    assert size == 20


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.mlp.up_proj.weight",
        "model.visual.blocks.26.attn.qkv.weight",
        "model.vision_tower.encoder.layers.26.self_attn.q_proj.weight",
        "h.1.attn.c_attn.bias",
        "model.layers.99999999999999999999.mlp.up_proj.weight",
    ],
)
def test_tensors_that_are_loaded_are_not_left_out(name: str) -> None:
    assert left_in_the_file(name) == {}


def test_an_output_layer_of_its_own_is_loaded() -> None:
    tensor = StoredTensor(name="lm_head.weight", dtype="BF16", size_bytes=10)
    assert unloaded((tensor,), num_layers=2, tied_embeddings=False) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["BF16", "F32", "I32", "x"]) | JSON,
        "shape": st.lists(st.integers(0, 5), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(0, 100), min_size=2, max_size=2) | JSON,
    },
)


@given(st.dictionaries(st.text(max_size=8), ENTRY | JSON, max_size=4) | JSON, st.integers(0, 200))
def test_any_header_gives_tensors_that_fill_the_file_or_a_sentence(header: object, data_bytes: int) -> None:
    try:
        held = sum(tensor.size_bytes for tensor in read(encoded(header), data_bytes))
    except HeaderError as error:
        held = data_bytes if str(error).endswith("name another revision.") else -1
    assert held == data_bytes


@given(st.binary(max_size=64), st.integers(0, 2**50))
def test_any_bytes_give_a_length_within_the_file_or_a_sentence(start: bytes, file_bytes: int) -> None:
    try:
        length = header_length(start, FILE, file_bytes)
    except HeaderError as error:
        length = -1 if str(error).startswith(FILE) else MAX_HEADER_BYTES + 1
    assert length <= max(-1, min(file_bytes - 8, MAX_HEADER_BYTES))
