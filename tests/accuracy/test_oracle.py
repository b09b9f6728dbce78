from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from accuracy_samples import LLAMA, MODEL, find

from plimsoll.accuracy.oracle import KINDS, OracleScore, oracle_document, score_oracle
from plimsoll.accuracy.reading import InputError, Record, parse_json
from plimsoll.sizing.plan import RefusalReason

if TYPE_CHECKING:
    from collections.abc import Mapping

# Llama 3.1 8B on one H100 with 2 GiB for the cache: a block is 16 tokens x 131,072 B.
PLAN: dict[str, Any] = {
    "model": MODEL,
    "model_file": MODEL.replace("/", "--"),
    "vllm": "0.33.0",
    "gpu": "h100-80",
    "tp": 1,
    "pp": 1,
    "kv_cache_dtype": "auto",
    "extra": None,
    "available_bytes": 2 * 2**30,
    "status": "ok",
    "config_missing": [],
    "config_patch": None,
    "hf_quant_config": None,
    "max_num_batched_tokens": 8192,
    "max_num_seqs": 1024,
    "max_in_flight_tokens": 16384,
    "max_model_len": 131072,
    "ranks": [{"parameter_bytes": 16_060_522_496, "buffer_bytes": 32 * 2**20 + 512}],
    "block_size": 16,
    "groups": [{"kind": "FullAttentionSpec", "layers": 32, "block_size": 16, "page_bytes": 65536}],
    "bytes_per_block": 2_097_152,
    "need_blocks_max_model_len": 8192,
    "num_blocks": 1024,
    "fits_max_model_len": False,
    "tokens_max_model_len": None,
    "concurrency_max_model_len": None,
    "estimated_max_model_len": 16368,
    "auto_max_model_len": 16368,
    "auto_tokens": 16384,
    "auto_concurrency": 1.000978,
    "need_blocks_8192": 512,
    "block_size_8192": 16,
    "bytes_per_block_8192": 2_097_152,
    "max_num_batched_tokens_8192": 8192,
    "fits_8192": True,
    "num_blocks_8192": 1024,
    "tokens_8192": 16384,
    "concurrency_8192": 2.0,
    "estimated_max_model_len_8192": None,
    "refusal": None,
}
REFUSED: dict[str, Any] = {**PLAN, "status": "refused", "available_bytes": None}


def scored(*lines: Mapping[str, Any], configs: Any = find) -> OracleScore:
    by_file = lambda name: configs(name.replace("--", "/", 1))  # noqa: E731
    return score_oracle(
        (
            (number, Record(parse_json(json.dumps(line)), f"line {number}"))
            for number, line in enumerate(lines, 1)
        ),
        by_file,
    )


def mismatches(line: Mapping[str, Any], configs: Any = find) -> list[tuple[str, object, object]]:
    return [(one.field, one.ours, one.theirs) for one in scored(line, configs=configs).mismatches]


def test_a_plan_that_is_ours_to_the_last_number_is_equal() -> None:
    result = scored(PLAN)

    assert (result.rows, result.scored, result.equal, result.refused, result.mismatches) == (1, 1, 1, (), ())


COMPARED = [
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_in_flight_tokens",
    "max_model_len",
    "block_size",
    "bytes_per_block",
    "need_blocks_max_model_len",
    "num_blocks",
    "estimated_max_model_len",
    "auto_max_model_len",
    "auto_tokens",
    "need_blocks_8192",
    "block_size_8192",
    "max_num_batched_tokens_8192",
    "num_blocks_8192",
    "tokens_8192",
]


@pytest.mark.parametrize("field", COMPARED)
def test_every_number_counts(field: str) -> None:
    assert mismatches({**PLAN, field: PLAN[field] + 1}) == [(field, PLAN[field], PLAN[field] + 1)]


# Qwen3.5 9B (text) with its draft layer: one more layer of attention, and a state more for each sequence.
DELTA: dict[str, Any] = {
    "architectures": ["Qwen3_5ForCausalLM"],
    "model_type": "qwen3_5_text",
    "dtype": "bfloat16",
    "head_dim": 256,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262144,
    "mtp_num_hidden_layers": 1,
    "num_attention_heads": 16,
    "num_hidden_layers": 32,
    "num_key_value_heads": 4,
    "vocab_size": 248320,
}
DRAFTED: dict[str, Any] = {
    **{field: value for field, value in PLAN.items() if not field.endswith("_8192")},
    "model_file": "Qwen--Qwen3.5-9B-Text",
    "extra": {"speculative_config": {"method": "mtp", "num_speculative_tokens": 1}},
    "available_bytes": 8 * 2**30,
    "max_model_len": 262144,
    "ranks": [{"parameter_bytes": 18_394_189_312, "buffer_bytes": 33_554_576}],
    "block_size": 576,
    "groups": [
        *[{"kind": "MambaSpec", "layers": 8, "block_size": 576, "page_bytes": 2_359_296}] * 3,
        {"kind": "FullAttentionSpec", "layers": 9, "block_size": 576, "page_bytes": 2_359_296},
    ],
    "bytes_per_block": 21_233_664,
    "need_blocks_max_model_len": 468,
    "num_blocks": 404,
    "estimated_max_model_len": 225_216,
    "auto_max_model_len": 225_216,
    "auto_tokens": 225_774,
    "auto_concurrency": 1.002481,
}


@pytest.mark.parametrize(
    ("extra", "equal"),
    [
        pytest.param(DRAFTED["extra"], True, id="drafting"),
        pytest.param(None, False, id="without its draft"),
    ],
)
def test_a_line_with_draft_layers_is_scored_with_them(extra: dict[str, Any] | None, *, equal: bool) -> None:
    found = mismatches({**DRAFTED, "extra": extra}, configs=lambda _: DELTA)

    assert equal == (found == [])


def test_two_sizes_of_one_block_are_neither_equal_nor_a_mismatch() -> None:
    """A page does not depend on the length; everything that does not rest on the second size is still compared."""
    line = {**PLAN, "bytes_per_block_8192": PLAN["bytes_per_block_8192"] + 1, "tokens_8192": 1}

    result = scored(line)

    assert (result.scored, result.equal, result.mismatches) == (1, 0, ())
    (found,) = result.contradictory
    assert (found.line, set(found.fields)) == (1, {"bytes_per_block_8192", "tokens_8192"})
    assert [one.field for one in scored({**line, "num_blocks": 1}).mismatches] == ["num_blocks"]
    assert [one.field for one in scored({**line, "need_blocks_8192": 1}).mismatches] == ["need_blocks_8192"]


def test_blocks_of_other_tokens_may_have_other_bytes() -> None:
    line = {**PLAN, "bytes_per_block_8192": 1, "block_size_8192": 1}

    result = scored(line)

    assert result.contradictory == ()
    assert {one.field for one in result.mismatches} == {"bytes_per_block_8192", "block_size_8192"}


@pytest.mark.parametrize("field", ["fits_max_model_len", "fits_8192"])
def test_every_answer_counts(field: str) -> None:
    assert (field, PLAN[field], not PLAN[field]) in mismatches({**PLAN, field: not PLAN[field]})


@pytest.mark.parametrize("field", ["auto_concurrency", "concurrency_8192"])
def test_concurrency_is_compared_to_its_last_digit(field: str) -> None:
    near, far = PLAN[field] + 0.0000005, PLAN[field] + 0.00001

    assert mismatches({**PLAN, field: near}) == []
    assert [one[0] for one in mismatches({**PLAN, field: far})] == [field]


@pytest.mark.parametrize("field", ["parameter_bytes", "buffer_bytes"])
def test_bytes_of_a_rank_count(field: str) -> None:
    (rank,) = PLAN["ranks"]

    assert mismatches({**PLAN, "ranks": [{**rank, field: rank[field] - 1}]}) == [
        (f"ranks[0].{field}", rank[field], rank[field] - 1)
    ]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param([], ("groups", 1, 0), id="another number of them"),
        pytest.param([{"layers": 31}], ("groups[0].layers", 32, 31), id="layers"),
        pytest.param([{"layers": 32, "page_bytes": 1}], ("groups[0].page_bytes", 65536, 1), id="pages"),
    ],
)
def test_groups_count(groups: list[dict[str, int]], expected: tuple[str, int, int]) -> None:
    assert mismatches({**PLAN, "groups": groups}) == [expected]


def test_lines_are_counted_from_one_and_the_tables_own_doubts_are_left_out() -> None:
    result = scored({**REFUSED, "refusal": "oracle"}, {**PLAN, "num_blocks": 1})

    assert (result.rows, result.scored, result.equal) == (2, 1, 0)
    assert [(one.line, one.field) for one in result.mismatches] == [(2, "num_blocks")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param({**REFUSED, "tp": 3, "refusal": "parallel"}, [], id="same kind"),
        pytest.param(
            {**REFUSED, "tp": 3, "refusal": "hardware"},
            [("refusal", "parallel", "hardware")],
            id="another kind",
        ),
        pytest.param(
            {**REFUSED, "refusal": "parallel"}, [("status", "ok", "refused")], id="we would have planned it"
        ),
        pytest.param(
            {**REFUSED, "extra": {"block_size": 32, "no_such_flag": 1}, "refusal": "unsupported"},
            [],
            id="an option that nobody knows",
        ),
    ],
)
def test_refusals_are_held_against_their_kind(
    line: dict[str, Any], expected: list[tuple[str, object, object]]
) -> None:
    assert mismatches(line) == expected


FALCON_H1 = {
    "architectures": ["FalconH1ForCausalLM"],
    "model_type": "falcon_h1",
    "hidden_size": 3072,
    "intermediate_size": 12288,
    "num_hidden_layers": 44,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "mamba_d_ssm": 3072,
    "mamba_n_heads": 24,
    "mamba_d_head": 128,
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "vocab_size": 130049,
    "max_position_embeddings": 262144,
    "tie_word_embeddings": True,
    "rope_theta": 1e11,
    "torch_dtype": "bfloat16",
}


def test_a_class_that_is_not_split_into_stages_is_a_refusal_of_the_split() -> None:
    line = {**REFUSED, "pp": 2, "refusal": "parallel"}

    assert mismatches(line, configs=lambda _model: FALCON_H1) == []
    assert mismatches({**line, "pp": 1}, configs=lambda _model: FALCON_H1) == [("status", "ok", "refused")]


def test_what_we_refuse_by_name_is_listed_and_no_mismatch() -> None:
    unknown = {**LLAMA, "architectures": ["NoSuchModel"]}
    result = scored(PLAN, {**PLAN, "config_missing": ["vocab_size"]}, configs=lambda _model: unknown)

    assert (result.scored, result.equal, result.mismatches) == (2, 0, ())
    assert [(one.line, one.reason, one.config_missing) for one in result.refused] == [
        (1, RefusalReason.UNSUPPORTED_MODEL, False),
        (2, RefusalReason.UNSUPPORTED_MODEL, True),
    ]


def test_a_line_without_a_config_is_refused_by_name_where_others_have_one() -> None:
    (refused,) = scored(PLAN, {**PLAN, "model_file": "a--b"}).refused

    assert (refused.line, refused.message) == (2, "a--b.json is not in the folder of configs; put it there.")


def test_a_patch_is_merged_into_the_config_before_it_is_read() -> None:
    halved = {**PLAN, "config_patch": {"num_key_value_heads": 4}}

    assert ("bytes_per_block", 1_048_576, 2_097_152) in mismatches(halved)


def test_a_quantization_file_beside_the_config_is_read_as_vllm_does() -> None:
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
    config = {**LLAMA, "_hf_quant_config": beside}
    unnamed = {**LLAMA, "_hf_quant_config": {"quantization": {"quant_algo": "FP8"}}}
    line = {**PLAN, "hf_quant_config": True}
    (rank,) = scored(line, configs=lambda _model: config).mismatches[:1]

    assert rank.field == "ranks[0].parameter_bytes"
    assert isinstance(rank.ours, int)
    assert rank.ours < 9_200_000_000  # 8.03e9 parameters, all but the vocabulary's in one byte
    assert scored(PLAN, configs=lambda _model: config).equal == 1
    assert scored(line, configs=lambda _model: unnamed).equal == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param({**PLAN, "model_file": "a--b"}, "No config of any line is in the folder", id="config"),
        pytest.param({**PLAN, "gpu": "no such card"}, "gpu is 'no such card'", id="card"),
        pytest.param({**PLAN, "tp": "two"}, "tp is 'two': it must be a number", id="type"),
        pytest.param({**PLAN, "tp": 0}, "tp is 0: it must be a whole number from 1 to 4096", id="range"),
        pytest.param({**PLAN, "pp": 33}, "pp is 33: it must be a whole number from 1 to 32", id="stages"),
        pytest.param(
            {**PLAN, "extra": {"block_size": "x"}},
            "extra: block_size is 'x': it must be a number",
            id="an option",
        ),
        pytest.param({**PLAN, "extra": [1]}, "extra is [1]: it must be an object", id="options"),
    ],
)
def test_a_line_that_cannot_be_read_gets_a_sentence(line: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        scored(line)

    assert sentence in str(caught.value)


def test_the_document_has_the_names_that_programs_read() -> None:
    document = oracle_document(scored(PLAN, {**PLAN, "num_blocks": 1}))

    assert document == {
        "rows": 2,
        "scored": 2,
        "equal": 1,
        "refused": [],
        "mismatches": [{"line": 2, "field": "num_blocks", "ours": 1024, "theirs": 1}],
        "contradictory": [],
    }


def test_one_table_maps_every_reason_that_needs_no_memory() -> None:
    assert {kind for kinds in KINDS.values() for kind in kinds} == {
        "parallel",
        "hardware",
        "unsupported",
        "config",
    }
