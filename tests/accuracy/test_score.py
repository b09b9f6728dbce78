from __future__ import annotations

from typing import Any

import pytest
from accuracy_samples import GIVEN, LLAMA, find, row

from plimsoll.accuracy.groups import BY, grouped
from plimsoll.accuracy.predict import predict
from plimsoll.accuracy.score import Scored, document, score, score_row
from plimsoll.accuracy.summary import mean, median, percentile, share_of
from plimsoll.accuracy.tokens import logged_tokens


def scored(**values: Any) -> Scored:
    return score_row(row(**values), find)


def measure(name: str, **values: Any) -> tuple[float, float, float, bool]:
    found = scored(**values).measure(name)
    assert found is not None
    return round(found.ours, 4), round(found.theirs, 4), round(found.error, 4), found.miss


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({"available_kv_gib": 10.0}, (10.0, 10.0, 0.0, False), id="equal"),
        pytest.param({"available_kv_gib": 8.0}, (10.0, 8.0, 0.25, True), id="a quarter too much"),
        pytest.param({"available_kv_gib": 12.5}, (10.0, 12.5, -0.2, True), id="a fifth too little"),
        pytest.param({"available_kv_gib": 10.9}, (10.0, 10.9, -0.0826, False), id="inside ten per cent"),
    ],
)
def test_available_memory_is_held_against_the_logged_one(
    values: dict[str, Any], expected: tuple[float, float, float, bool]
) -> None:
    assert measure("available_kv", **values) == expected


@pytest.mark.parametrize(
    ("tensor_parallel_size", "logged", "ours", "error"),
    [
        pytest.param(1, 14.99, 14.9888, -0.0001, id="whole"),
        pytest.param(2, 7.51, 7.5103, 0.0, id="split in two, rotary table and norms on both"),
        pytest.param(1, 7.4944, 14.9888, 1.0, id="twice as much"),
    ],
)
def test_weights_are_those_of_one_rank(
    tensor_parallel_size: int, logged: float, ours: float, error: float
) -> None:
    found = measure("weights", weights_gib_per_gpu=logged, tensor_parallel_size=tensor_parallel_size)

    assert found[0] == ours
    assert found[2] == error


def test_of_a_pipeline_the_fullest_stage_counts_unless_the_row_says_rank_0() -> None:
    # 16 layers of 218,112,000 values and an embedding of 525,336,576 stand on both; the last has a norm besides.
    first = 16 * 218_112_000 * 2 + 525_336_576 * 2 + 32 * 2**20 + 16 * 16
    values: dict[str, Any] = {
        "pipeline_parallel_size": 2,
        "max_num_seqs": 1024,
        "other_flags": None,
        "weights_gib_per_gpu": 7.51,
    }
    whole = scored(**values).prediction
    rank_0 = scored(**values, notes="values are rank 0").prediction

    assert whole is not None
    assert rank_0 is not None
    assert (rank_0.weights_bytes, whole.weights_bytes) == (first, first + 4096 * 2)


# 58.11 GiB is 58.105 to 58.115 GiB: 29749 to 29754 blocks of 16 tokens, so 475,984 to 476,064 tokens, and a block more
# on either side.
@pytest.mark.parametrize(
    ("tokens", "equal"),
    [
        pytest.param(476016, True, id="as logged"),
        pytest.param(475968, True, id="the lowest that rounding allows"),
        pytest.param(475967, False, id="below it"),
        pytest.param(476080, True, id="the highest that rounding allows"),
        pytest.param(476081, False, id="above it"),
    ],
)
def test_bytes_of_a_token_are_equal_within_the_rounding_of_the_log(tokens: int, equal: bool) -> None:
    found = scored(available_kv_gib=58.11, kv_tokens=tokens).measure("bytes_per_token")

    assert found is not None
    assert found.miss is not equal
    assert round(found.ours) == 131073  # 58.11 GiB over the 476,032 tokens that whole blocks hold


def test_fewer_printed_digits_allow_more() -> None:
    assert measure("bytes_per_token", available_kv_gib=58.1, kv_tokens=476016)[3] is False
    assert measure("bytes_per_token", available_kv_gib=58.10, kv_tokens=476500)[3] is True


def test_a_pipeline_has_no_bytes_of_a_token() -> None:
    found = scored(available_kv_gib=58.11, kv_tokens=476016, pipeline_parallel_size=2)

    assert found.measure("bytes_per_token") is None


def test_tokens_come_from_our_own_available_memory() -> None:
    # 10 GiB / 131,072 B = 81,920 tokens.
    assert measure("kv_tokens", kv_tokens=65536) == (81920, 65536, 0.25, True)


GEMMA = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "num_hidden_layers": 26,
    "vocab_size": 262144,
    "max_position_embeddings": 32768,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "rope_theta": 1000000.0,
    "torch_dtype": "bfloat16",
}


def test_where_layers_differ_concurrency_and_length_are_taken_for_the_printed_tokens() -> None:
    values = {
        "model": "google/gemma-3-1b-it",
        "available_kv_gib": 10.0,
        "kv_tokens": 1,
        "max_concurrency": 100.0,
        "max_concurrency_at_len": 8192,
    }
    found = score_row(row(**values), lambda _model: GEMMA).measure("kv_tokens")
    without = score_row(row(**{**values, "max_concurrency": None}), lambda _model: GEMMA).measure("kv_tokens")

    assert found is not None
    assert found.theirs == 819200
    assert without is None


def test_a_concurrency_of_two_decimals_hides_tokens_too() -> None:
    read = row(model="google/gemma-3-1b-it", max_concurrency=7.16, max_concurrency_at_len=8192)

    assert logged_tokens(read, predict(read, GEMMA)) == (7.16 * 8192, 0.005 * 8192)


@pytest.mark.parametrize(
    ("values", "right"),
    [
        pytest.param({"outcome": "serves"}, True, id="fits and serves"),
        pytest.param({"outcome": "OOM at load"}, False, id="fits and does not: unsafe"),
        pytest.param({"tensor_parallel_size": 3, "outcome": "TP indivisible"}, True, id="refused by both"),
        pytest.param(
            {"tensor_parallel_size": 3, "outcome": "serves"}, False, id="refused and serves: wasteful"
        ),
        pytest.param({"outcome": "fails: attention kernel limit"}, None, id="another end is no verdict"),
        pytest.param({"outcome": None}, None, id="no outcome"),
        pytest.param(
            {"gpu_memory_utilization": None, "outcome": "serves"}, None, id="without the share there is none"
        ),
        pytest.param(
            {
                "gpu_memory_utilization": None,
                "gpu": None,
                "gpu_total_reported_gib": None,
                "tensor_parallel_size": 3,
                "outcome": "TP indivisible",
            },
            True,
            id="a split that no card makes right needs no card",
        ),
    ],
)
def test_a_verdict_is_right_where_it_agrees_with_the_start(
    values: dict[str, Any], right: bool | None
) -> None:
    assert scored(weights_gib_per_gpu=14.99, **values).right is right


@pytest.mark.parametrize(
    ("values", "right"),
    [
        pytest.param(
            {"outcome": "fails: KV cache too small"}, True, id="no length: the model's own, which is too long"
        ),
        pytest.param({"outcome": "serves", "kv_tokens": 16384}, True, id="a log that shows a shorter one"),
        pytest.param({"outcome": "serves", "max_model_len": 131072}, False, id="the same length asked for"),
    ],
)
def test_a_length_that_is_not_said_is_the_models_own(values: dict[str, Any], right: bool) -> None:
    small = {"gpu": "A10", "gpu_mem_gib": 24, "gpu_total_reported_gib": 22.1, "other_flags": None}

    assert scored(**{**small, "max_model_len": None, **values}).right is right


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"model": None}, "the row names no model", id="model"),
        pytest.param({"model": "a/b"}, "no config of a/b in the folder", id="config"),
        pytest.param({"outcome": None}, "nothing was measured", id="measurement"),
        pytest.param(
            {"gpu": "a card", "gpu_total_reported_gib": None}, "the GPU's memory is not known", id="memory"
        ),
        pytest.param({"gpu_memory_utilization": None}, "the utilisation is not known", id="utilisation"),
    ],
)
def test_a_row_is_skipped_for_what_it_lacks(values: dict[str, Any], reason: str) -> None:
    assert scored(**values).skipped == reason


def test_a_config_that_is_not_whole_is_replaced_by_the_catalogues_or_lacks() -> None:
    config = {key: value for key, value in LLAMA.items() if key != "model_type"}
    unknown = score_row(row(model="a/b"), lambda _model: config)
    known = score_row(row(weights_gib_per_gpu=14.99), lambda _model: config)

    assert unknown.skipped == "the config of a/b lacks model_type"
    assert known.prediction is not None
    assert known.prediction.weights_bytes == 16_060_522_496 + 32 * 2**20 + 512
    assert (
        "the catalogue's config, as of the one given: the config lacks model_type" in known.prediction.assumed
    )


def test_a_model_that_cannot_be_sized_is_promised_nothing() -> None:
    config = {**LLAMA, "architectures": ["NoSuchModel"]}
    found = score_row(row(available_kv_gib=8.0), lambda _model: config)

    assert found.skipped is None
    assert [(one.name, one.ours, one.error) for one in found.measures] == [("available_kv", 0.0, -1.0)]
    assert (found.covered, found.right) == (False, False)


def test_the_interval_is_held_against_the_log_and_the_card() -> None:
    """Before 0.20 graphs are outside the budget, so that a share of the card decides."""
    wide = scored(other_flags=None, available_kv_gib=50.0)
    assert wide.prediction is not None
    low, high = wide.prediction.available_low, wide.prediction.available_high
    assert low is not None
    assert high is not None

    assert wide.width == (high - low) / (80 * 2**30)
    assert scored(other_flags=None, available_kv_gib=round(low / 2**30 + 0.01, 2)).covered is True
    assert scored(other_flags=None, available_kv_gib=round(low / 2**30 - 0.02, 2)).covered is False
    assert scored(other_flags=None, available_kv_gib=round(high / 2**30 + 0.02, 2)).covered is False


def test_the_sums_are_those_of_the_rows() -> None:
    rows = [
        row(id="a", available_kv_gib=10.0, weights_gib_per_gpu=14.99),
        row(id="b", available_kv_gib=8.0),
        row(id="c", available_kv_gib=20.0),
        row(id="d", available_kv_gib=9.6, outcome="OOM at profile"),
        row(id="e", model="a/b"),
        row(id="f", tensor_parallel_size=3),
    ]
    sums = document(score(rows, find))

    assert {key: sums[key] for key in ("rows", "scored", "skipped")} == {
        "rows": 6,
        "scored": 5,
        "skipped": [{"id": "e", "reason": "no config of a/b in the folder"}],
    }
    # Errors 0, 0.25, 0.5 and 1/24: the middle two give 0.14583; the 90th percentile is 0.7 of the way to the worst.
    assert sums["available_kv"] == {
        "n": 4,
        "median_abs_error": 0.14583,
        "p90_abs_error": 0.425,
        "unsafe_share": 0.25,
        "over_promised_by_point": 0.25,
        "interval_coverage": 0.25,
        "interval_width": 0.0,
    }
    assert sums["weights"] == {"n": 1, "median_abs_error": 8e-05, "p90_abs_error": 8e-05}
    assert sums["verdict"] == {"n": 5, "correct": 3, "unsafe": 1, "wasteful": 1}
    assert [(miss["id"], miss["measure"], miss["ours"], miss["theirs"]) for miss in sums["misses"]] == [
        ("d", "verdict", "fits", "OOM at profile"),
        ("f", "verdict", "refused", "serves"),
        ("c", "available_kv", 10.0, 20.0),
        ("b", "available_kv", 10.0, 8.0),
    ]
    assert "32 attention heads are not divisible by 3" in sums["misses"][1]["reason"]


def test_reasons_name_what_was_assumed_and_what_the_row_notes() -> None:
    found = document(
        score(
            [
                row(
                    available_kv_gib=8.0,
                    vllm_version="0.7.2",
                    gpu_total_reported_gib=None,
                    other_flags=f"{GIVEN} MTP 1",
                    notes="a note",
                )
            ],
            find,
        )
    )

    reason = found["misses"][0]["reason"]
    assert [
        words
        for words in (
            "the engine before V1 ran (vLLM 0.7.2)",
            "a draft is resident",
            "the total memory of H100 from the catalogue",
            "noted: a note",
        )
        if words not in reason
    ] == []


def test_more_stages_than_layers_are_refused() -> None:
    found = scored(pipeline_parallel_size=33, weights_gib_per_gpu=1.0)

    assert found.right is False
    assert found.measures == ()
    assert found.prediction is not None
    assert found.prediction.refused == "pipeline parallel size 33: the model has 32 layers"


def test_tokens_that_another_option_explains_say_so() -> None:
    # 10 GiB hold 81,920 tokens of 131,072 B, and twice as many with a cache in fp8.
    unsaid = document(score([row(available_kv_gib=10.0, kv_tokens=163840)], find))["misses"]
    said = document(score([row(available_kv_gib=10.0, kv_tokens=163840, kv_cache_dtype="auto")], find))[
        "misses"
    ]
    (words,) = [miss["reason"] for miss in unsaid if miss["measure"] == "bytes_per_token"]
    (others,) = [miss["reason"] for miss in said if miss["measure"] == "bytes_per_token"]

    assert "equal with a KV cache in fp8, which the row does not say" in words
    assert "which the row does not say" not in others


def test_weights_over_the_budget_of_a_start_that_served_are_another_builds() -> None:
    small = {
        "gpu": "T4",
        "gpu_mem_gib": 16,
        "gpu_total_reported_gib": 14.56,
        "other_flags": None,
        "dtype": "float16",
    }
    (miss,) = document(score([row(**small)], find))["misses"]

    assert (miss["measure"], miss["ours"]) == ("verdict", "refused")
    assert "another build must have run" in miss["reason"]


def test_groups_stand_with_the_largest_first_and_leave_out_what_is_skipped() -> None:
    rows = [
        row(available_kv_gib=8.0, attention="MLA"),
        row(available_kv_gib=10.0, attention="plain"),
        row(weights_gib_per_gpu=14.99, attention="plain", outcome="OOM at load"),
        row(model="a/b", attention="other"),
    ]
    plain, latent = grouped(score(rows, find), BY["attention"])

    assert (plain.name, plain.rows, plain.measured, plain.median, plain.p90) == ("plain", 2, 1, 0.0, 0.0)
    assert (plain.verdicts, plain.exact) == ((1, 2), (0, 0))
    assert plain.weights == pytest.approx(8e-5, abs=1e-5)
    assert (latent.name, latent.rows, latent.median) == ("MLA", 1, 0.25)


def test_nothing_has_no_median() -> None:
    assert (median([]), percentile([], 0.9), mean([]), share_of([])) == (None, None, None, None)
    assert (median([3.0, 1.0]), percentile([1.0, 2.0, 3.0], 0.9)) == (2.0, 2.8)
    assert document(())["available_kv"]["median_abs_error"] is None
