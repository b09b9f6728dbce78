from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from accuracy_samples import LLAMA, RAN, find, row
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.accuracy.cards import card_of
from plimsoll.accuracy.checkpoints import config_of, quantized_while_loading
from plimsoll.accuracy.era import Flags, era_of, serving_of
from plimsoll.accuracy.predict import predict
from plimsoll.accuracy.reading import Configs, InputError, Record, parse_json, records
from plimsoll.accuracy.rows import FIELDS, row_from
from plimsoll.accuracy.score import score_row
from plimsoll.sizing import catalogue
from plimsoll.sizing.shape import shape_from_facts

if TYPE_CHECKING:
    from pathlib import Path


def of(**values: Any) -> Record:
    text = json.dumps({**RAN, **values}, default=float)
    return Record(parse_json(text), "logs.jsonl, line 3")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        pytest.param({"model": 7}, "model is 7: it must be a string", id="text"),
        pytest.param({"kv_tokens": "many"}, "kv_tokens is 'many': it must be a number", id="number"),
        pytest.param({"kv_tokens": True}, "kv_tokens is True: it must be a number", id="a flag is no number"),
        pytest.param(
            {"max_num_seqs": Decimal("1.5")}, "max_num_seqs is 1.5: it must be a whole number", id="whole"
        ),
        pytest.param(
            {"tensor_parallel_size": 0},
            "tensor_parallel_size is 0: it must be a whole number from 1",
            id="least",
        ),
        pytest.param(
            {"pipeline_parallel_size": 10**6}, "it must be a whole number from 1 to 4096", id="most"
        ),
        pytest.param({"enforce_eager": "yes"}, "enforce_eager is 'yes': it must be true or false", id="flag"),
        pytest.param(
            {"gpu_memory_utilization": 90},
            "gpu_memory_utilization is 90: it must be above 0 and at most 1",
            id="share",
        ),
        pytest.param({"gpu_total_reported_gib": -1}, "it must be a size in GiB above 0", id="memory"),
    ],
)
def test_a_field_of_another_type_gets_a_sentence_with_the_line(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        row_from(of(**values), 3)

    assert str(caught.value).startswith("logs.jsonl, line 3: ")
    assert sentence in str(caught.value)


def test_a_length_left_to_the_engine_is_none_and_flags_may_be_an_object() -> None:
    read = row_from(of(max_model_len=-1, other_flags={"enable_prefix_caching": False}, id=None), 3)

    assert (read.max_model_len, read.other_flags, read.id) == (None, "enable_prefix_caching=False", "line 3")


@pytest.mark.parametrize(
    ("outcome", "served"),
    [
        ("serves", True),
        ("serves at a shorter length than asked", False),
        ("fails: KV cache too small", False),
        ("OOM at sampler warm-up", False),
        ("TP indivisible", False),
        ("fails: max_num_seqs above Mamba cache blocks", False),
        ("fails to start (out of memory; phase not in the excerpt)", False),
        ("fails: attention kernel limit (65536 tokens), not memory", None),
        (None, None),
    ],
)
def test_an_outcome_is_a_start_or_none(outcome: str | None, served: bool | None) -> None:
    assert row(outcome=outcome).served is served


@pytest.mark.parametrize(
    ("gpu", "platform"),
    [
        ("H100-80GB-HBM3", "cuda"),
        ("MI300X", "rocm"),
        ("AMD Radeon gfx1201 (RX 9070 / R9700 class)", "rocm"),
        ("Ascend NPU 64GB", "other"),
        ("16 GB Intel Arc (XPU)", "other"),
        ("22GB cards (21.48 GiB; RTX 2080 Ti 22G)", "cuda"),
    ],
)
def test_a_card_of_another_maker_is_known_by_its_name(gpu: str, platform: str) -> None:
    assert card_of(row(gpu=gpu, gpu_mem_gib=None)).accelerator.platform == platform


@pytest.mark.parametrize(
    ("written", "tokens", "early"),
    [
        pytest.param("0.7.x", 2048, (0, 7, 2), id="either-is-possible"),
        pytest.param("0.7.2", 65536, None, id="whole-prompts"),
        pytest.param("0.7.3", 2048, None, id="chunks"),
    ],
)
def test_latent_attention_was_cut_off_from_chunked_prefill_at_first(
    written: str, tokens: int, early: tuple[int, int, int] | None
) -> None:
    facts = catalogue.lookup("deepseek-ai/DeepSeek-V2-Lite-Chat")
    assert facts is not None
    ran = row(vllm_version=written, max_num_batched_tokens=None, max_model_len=65536, other_flags=None)
    era = era_of(ran, shape_from_facts(facts))
    assert (era.early and era.early.release) == early
    serving = serving_of(ran, era, online_fp8=False, max_model_len=65536)
    assert serving.max_num_batched_tokens == tokens

    found = predict(ran, facts.config).available_low
    whole = predict(replace(ran, vllm_version="0.7.2"), facts.config).available_low
    assert found is not None
    assert whole is not None
    assert (found == whole, found > whole) == ((False, True) if written == "0.7.3" else (True, False))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({"gpu": "H100-80GB-HBM3"}, ("H100", 80.0, True), id="printed"),
        pytest.param(
            {"gpu": "A10G", "gpu_mem_gib": 24, "gpu_total_reported_gib": None},
            ("A10G", 22.1, True),
            id="A10G",
        ),
        pytest.param(
            {"gpu": "A10", "gpu_mem_gib": 24, "gpu_total_reported_gib": None}, ("A10", 22.1, True), id="A10"
        ),
        pytest.param(
            {"gpu": "A100", "gpu_mem_gib": 40, "gpu_total_reported_gib": None},
            ("A100-40GB", 39.5, True),
            id="by the size beside it",
        ),
        pytest.param(
            {"gpu": "RTX 3090/4090 (23.57 GiB)", "gpu_mem_gib": 24, "gpu_total_reported_gib": None},
            ("RTX-3090", 23.6, True),
            id="printed in the name",
        ),
        pytest.param(
            {"gpu": "H100 of another size", "gpu_mem_gib": 20, "gpu_total_reported_gib": None},
            ("H100 of another size", 20.0, False),
            id="another size than the catalogue's",
        ),
        pytest.param(
            {"gpu": "A100 cut to a part", "gpu_mem_gib": 5, "gpu_total_reported_gib": None},
            ("A100 cut to a part", 5.0, False),
            id="not the card's own size",
        ),
        pytest.param(
            {"gpu": None, "gpu_mem_gib": None, "gpu_total_reported_gib": None},
            ("a card without a name", 80.0, False),
            id="nothing said",
        ),
    ],
)
def test_a_card_is_found_by_its_name_and_size(
    values: dict[str, Any], expected: tuple[str, float, bool]
) -> None:
    card = card_of(row(**values))

    shown = round(card.accelerator.memory_bytes / 2**30, 1)
    assert (card.accelerator.alias, shown, card.memory_known) == expected


@pytest.mark.parametrize(
    ("values", "release"),
    [
        pytest.param({"vllm_version": "0.19.1rc1.dev71"}, (0, 19, 1), id="as logged"),
        pytest.param({"vllm_version": ">=0.21"}, (0, 21, 0), id="a bound"),
        pytest.param({"vllm_version": "0.7.x (V0)"}, (0, 7, 0), id="a family"),
        pytest.param(
            {"vllm_version": None, "source": "vllm-project/vllm#10517"}, (0, 6, 4), id="by the issue's number"
        ),
        pytest.param(
            {"vllm_version": None, "weights_gib_per_gpu": 14.9889}, (0, 11, 0), id="by four decimals"
        ),
        pytest.param({"vllm_version": None, "weights_gib_per_gpu": 14.99}, (0, 19, 0), id="by nothing"),
        pytest.param(
            {"vllm_version": None, "gpu_blocks": 100, "kv_tokens": 1600},
            (0, 7, 0),
            id="by blocks of 16 tokens",
        ),
        pytest.param(
            {"vllm_version": None, "notes": "version of early 2026 (0.15-0.16 era)"},
            (0, 15, 0),
            id="by a note",
        ),
        pytest.param({"vllm_version": "2026-09"}, (0, 33, 0), id="by a date"),
    ],
)
def test_the_release_is_the_one_of_the_time(values: dict[str, Any], release: tuple[int, int, int]) -> None:
    assert era_of(row(**values), None).written == release


def test_no_release_is_older_than_the_models_class() -> None:
    launch = predict(row(), LLAMA).launch
    assert launch is not None
    unsaid = row(vllm_version=None, weights_gib_per_gpu=14.9889)

    assert era_of(unsaid, launch.shape).written == (0, 11, 0)
    assert era_of(unsaid, replace(launch.shape, model_type="deepseek_v4")).written == (0, 21, 0)


@pytest.mark.parametrize(
    ("values", "version"),
    [
        pytest.param({"vllm_version": "0.6.4"}, "0.6.4", id="before it"),
        pytest.param({"vllm_version": "0.8.5"}, "0.8.5", id="V1"),
        pytest.param(
            {"vllm_version": "0.8.5", "gpu": "V100-32GB"}, "0.7.3", id="a card that V1 did not take"
        ),
        pytest.param({"vllm_version": "0.8.5", "notes": "V0, all defaults"}, "0.7.3", id="chosen"),
        pytest.param(
            {"vllm_version": "0.8.5", "gpu": "V100-32GB", "max_num_batched_tokens": 8192},
            "0.8.5",
            id="a given batch",
        ),
        pytest.param({"vllm_version": "0.11.0", "gpu": "V100-32GB"}, "0.11.0", id="after it"),
    ],
)
def test_the_engine_of_before_v1_is_known_by_release_card_and_notes(
    values: dict[str, Any], version: str
) -> None:
    read = row(**{"max_num_seqs": None, "max_num_batched_tokens": None, **values})
    era = era_of(read, None, card_of(read))
    serving = serving_of(read, era, online_fp8=False, max_model_len=20000)

    assert str(era.version) == version
    assert (serving.max_num_batched_tokens, serving.max_num_seqs) == (
        (20000, 256) if era.first_engine else (values.get("max_num_batched_tokens"), None)
    )
    assert era.first_engine is (version in ("0.6.4", "0.7.3"))


@pytest.mark.parametrize(
    ("text", "prefix_caching", "expert_parallel", "speculative", "given"),
    [
        pytest.param('{"enable_prefix_caching": false}', False, False, False, None, id="JSON"),
        pytest.param("no prefix caching, async scheduling", False, False, False, None, id="words"),
        pytest.param("prefix caching; MTP 2", True, False, True, None, id="more words"),
        pytest.param("-dp=8 --enable-expert-parallel", None, True, False, None, id="command line"),
        pytest.param("--kv-cache-memory-bytes=1024", None, False, False, 1024, id="a given space"),
        pytest.param("", None, False, False, None, id="nothing"),
    ],
)
def test_options_are_read_in_any_form(
    text: str, prefix_caching: bool | None, expert_parallel: bool, speculative: bool, given: int | None
) -> None:
    flags = Flags(text)

    assert (
        flags.prefix_caching,
        flags.says("expert[-_ ]parallel"),
        flags.speculative,
        flags.kv_cache_memory_bytes,
    ) == (prefix_caching, expert_parallel, speculative, given)


@pytest.mark.parametrize(
    ("model", "section", "expected"),
    [
        pytest.param("a/b-AWQ", {"quant_method": "awq"}, {"zero_point": True}, id="AWQ"),
        pytest.param("a/b-GPTQ", {"quant_method": "gptq"}, {"desc_act": False}, id="GPTQ"),
        pytest.param(
            "a/b-GPTQ", {"quant_method": "gptq", "desc_act": True}, {"desc_act": True}, id="said is kept"
        ),
        pytest.param(
            "a/b-FP8", None, {"quant_method": "fp8", "weight_block_size": [128, 128]}, id="FP8 by name"
        ),
        pytest.param(
            "nvidia/b-FP8", None, {"quant_method": "modelopt", "quant_algo": "FP8"}, id="modelopt by name"
        ),
    ],
)
def test_a_stub_of_a_quantization_is_completed(
    model: str, section: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    config, filled = config_of({**LLAMA, "quantization_config": section}, model, None)

    found = config["quantization_config"]
    assert {key: found[key] for key in expected} == expected
    assert (filled is None) == (section is not None and "desc_act" in section)


@pytest.mark.parametrize(
    ("model", "kind"),
    [("a/b-quantized.w8a8", "int"), ("a/b-FP8-dynamic", "float"), ("a/b-quantized.w4a16", "int")],
)
def test_eight_bit_builds_are_integers_or_floats_by_their_name(model: str, kind: str) -> None:
    config, _ = config_of(
        {"quantization_config": {"quant_method": "compressed-tensors"}}, model, "compressed"
    )

    assert config["quantization_config"]["config_groups"]["group_0"]["weights"]["type"] == kind


def test_fp8_of_a_model_that_is_no_fp8_build_is_made_while_loading() -> None:
    assert quantized_while_loading(LLAMA, "meta-llama/Llama-3.1-8B", "fp8") is True
    assert quantized_while_loading(LLAMA, "nvidia/Llama-3.1-8B-FP8", "fp8") is False
    assert quantized_while_loading(LLAMA, "meta-llama/Llama-3.1-8B", None) is False


def test_experts_over_data_parallel_ranks_leave_the_rest_whole() -> None:
    config = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "torch_dtype": "bfloat16",
    }
    flags = "--enable-expert-parallel --kv-cache-memory-bytes 1073741824"
    alone = predict(row(model="m", other_flags=flags), config)
    spread = predict(row(model="m", other_flags=flags, data_parallel_size=8), config)

    # Seven of the eight experts of 3 x 4096 x 14336 values in each of 32 layers are elsewhere.
    assert alone.weights_bytes - spread.weights_bytes == 7 * 3 * 4096 * 14336 * 2 * 32


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("{", "line 1: not JSON", id="half an object"),
        pytest.param("[1]", "line 1: list is not an object", id="a list"),
        pytest.param('{"kv_tokens": NaN}', "NaN is not a number of JSON", id="NaN"),
        pytest.param(
            '{"a": 1}\n\n{"b": 1e999}', "line 3: not JSON (1e999 is out of range", id="a number out of range"
        ),
        pytest.param("[" * 100_000, "line 1: not JSON (nested too deep", id="nesting"),
    ],
)
def test_lines_that_are_no_json_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "logs.jsonl"
    path.write_text(text)

    with pytest.raises(InputError) as caught:
        list(records(path))
    assert sentence in str(caught.value)


def test_configs_are_found_by_the_models_name_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "a--b.json").write_text(json.dumps({"x": 1}))
    (folder / "A--C.json").write_text(json.dumps({"x": 2}))
    (folder / "a--list.json").write_text("[]")
    (folder / "a--broken.json").write_text("{")
    (tmp_path / "outside.json").write_text("{}")
    configs = Configs(folder)

    assert configs.find("a/b") == configs.find("A/B") == {"x": 1}
    assert configs.find("a/c") == {"x": 2}  # the Hub does not look at the case of letters either
    assert [configs.find(name) for name in ("a/d", "../outside", "..", "", "a\0b", "a" * 300)] == [None] * 6
    for broken in ("a/list", "a/broken"):
        with pytest.raises(InputError, match="replace it with the model's config"):
            configs.find(broken)
    with pytest.raises(InputError, match="there is no such folder"):
        Configs(tmp_path / "none")


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-1000, max_value=1000),
    st.text(max_size=20),
    st.sampled_from(["fp8", "auto", "H100", "0.33.0", "float16", "serves", "mxfp4"]),
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), _VALUES, max_size=8))
def test_any_row_is_scored_or_skipped_or_gets_a_sentence(values: dict[str, Any]) -> None:
    with contextlib.suppress(InputError):
        found = score_row(row_from(of(**{"available_kv_gib": 8, "kv_tokens": 1000, **values}), 3), find)
        assert bool(found.skipped) == (not found.measures and found.right is None)
