"""Draft layers of a model's own, and other ways to propose tokens, as vLLM 0.33.0's own code builds and plans them.

data/vllm_drafts.json is made as data/vllm_plans.json is, by the code of bench/oracle with --speculative-config: model
and draft are built by vLLM's classes, what they share is shared by the worker's own function and counts once. A vector
says where its config comes from ("made": altered or put together for the test), and in `made_with` what stood in for
packages that this needs beside the code there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.engine import parse_version
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.explain import explain
from plimsoll.sizing.gpus import find
from plimsoll.sizing.plan import PartName, Plan, Refusal, RefusalReason
from plimsoll.sizing.rules import precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.speculation import speculation_of
from plimsoll.units import GIB
from support.configs import MISSING, facts, patched

if TYPE_CHECKING:
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.speculation import Speculation

VERSION = parse_version("0.33.0")
CARDS = {"h100-80": "H100", "a100-80": "A100-80GB", "h200": "H200"}
VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("data").joinpath("vllm_drafts.json").read_text()
)
CASES = [
    pytest.param(
        vector,
        plan,
        id=f"{vector['model']}-{plan['gpu']}-tp{plan['tp']}-pp{plan['pp']}-{plan['kv']}"
        f"-{plan['speculative']['method']}{plan['speculative']['num_speculative_tokens']}"
        + "".join(f"-{option}={value}" for option, value in plan["engine"].items()),
    )
    for vector in VECTORS
    for plan in vector["plans"]
]
# Ling 2.5 with few layers: linear attention, latent attention in every fourth layer, and experts.
LING: dict[str, Any] = next(
    vector["config"]
    for vector in json.loads(Path(__file__).with_name("data").joinpath("vllm_plans_states.json").read_text())
    if vector["model"] == "a small Ling 2.5"
)
CONFIGS = {vector["model"]: vector["config"] for vector in VECTORS}
DEEPSEEK, GLM, NEXT = "deepseek-ai/DeepSeek-V3", "zai-org/GLM-4.5-Air", "Qwen/Qwen3-Next-80B-A3B-Instruct"
SMALL, LLAMA = "Qwen/Qwen3.5-9B-Text", "meta-llama/Llama-3.1-8B-Instruct"


def proposing(method: str = "mtp", tokens: int = 1, **more: Any) -> Speculation:
    return speculation_of({"method": method, "num_speculative_tokens": tokens, **more})


def pool(card: str = "H100", gpus: int = 8) -> NodePool:
    return NodePool(name="a node", accelerator=find(card), gpus_per_node=gpus, nodes=1)


def launched(vector: dict[str, Any], plan: dict[str, Any]) -> Launch:
    shape, card = shape_from_facts(facts(vector["config"])), find(CARDS[plan["gpu"]])
    serving = Serving(
        engine_version="0.33.0",
        kv_cache_dtype=plan["kv"],
        speculative=speculation_of(plan["speculative"]),
        **plan["engine"],
    )
    placement = Placement(
        pool=pool(),
        accelerator=card,
        precision=precision_for(shape, serving, card, VERSION),
        tensor_parallel_size=plan["tp"],
        pipeline_parallel_size=plan["pp"],
        nodes=1,
    )
    return Search(shape, serving, VERSION).launch(placement)


def planned(config: dict[str, Any], speculative: Speculation | None, **serving: Any) -> Plan | Refusal:
    known = facts(config)
    wishes = Serving(**{"engine_version": "0.33.0", "speculative": speculative, **serving})
    return estimate(shape_from_facts(known), known, wishes, [pool()])


def plan_of(config: dict[str, Any], speculative: Speculation | None, **serving: Any) -> Plan:
    result = planned(config, speculative, **serving)
    assert isinstance(result, Plan), result
    return result


@pytest.mark.parametrize(("vector", "plan"), CASES)
def test_weights_and_buffers_of_each_rank_equal_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    stages = launched(vector, plan).stages
    ends = stages if len(stages) == 1 else (stages[0], stages[-1])

    assert plan["parameters"] == [rank.parameter_bytes for rank in ends]
    assert plan["buffers"] == [rank.buffer_bytes for rank in ends]


@pytest.mark.parametrize(("vector", "plan"), CASES)
def test_limits_groups_and_blocks_equal_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    launch = launched(vector, plan)
    length, layout = vector["max_model_len"], launch.layout
    limits = launch.limits(length)

    assert length == launch.shape.unset_max_model_len
    assert plan["batch"] == [limits.max_num_batched_tokens, limits.max_num_seqs, limits.in_flight_tokens]
    assert plan["groups"] == [len(group.layers) for group in layout.groups]
    assert plan["block"] == [layout.block_size, layout.bytes_per_block]
    assert plan["need"] == layout.need_blocks(length, limits.in_flight_tokens)


@pytest.mark.parametrize(("vector", "plan"), CASES)
def test_capacity_equals_vllms(vector: dict[str, Any], plan: dict[str, Any]) -> None:
    launch = launched(vector, plan)
    length, layout = vector["max_model_len"], launch.layout
    in_flight, available = launch.limits(length).in_flight_tokens, (plan["available_gib"] * GIB,) * plan["pp"]
    capacity, longest = (
        layout.capacity(length, in_flight, available),
        layout.longest(length, in_flight, available),
    )

    assert plan["blocks"] == capacity.blocks
    assert (plan["at_own_length"] is not None) == layout.fits(length, in_flight, available)
    if plan["at_own_length"] is not None:
        tokens, concurrency = plan["at_own_length"]
        assert tokens == capacity.tokens
        assert concurrency == pytest.approx(float(capacity.max_concurrency), abs=1e-6)
    assert plan["longest"] == [longest, layout.capacity(longest, in_flight, available).tokens]


def test_a_draft_is_a_line_of_the_bill_on_the_last_stage() -> None:
    config = CONFIGS[GLM]
    parallel = {"tensor_parallel_size": 4, "max_model_len": 32768}
    alone, drafting = plan_of(config, None, **parallel), plan_of(config, proposing(), **parallel)
    lines = {part.name: part for part in drafting.parts}
    draft = lines[PartName.DRAFT]

    assert PartName.DRAFT not in [part.name for part in alone.parts]
    assert alone.parts[0].bytes == lines[PartName.WEIGHTS].bytes
    assert drafting.usable_bytes == sum(part.bytes for part in drafting.parts)
    assert draft.exact
    assert "1 layer over TP 4" in draft.formula
    assert "shared with the model: embedding, output layer" in draft.formula
    assert "not loaded" in alone.parts[0].formula
    assert "not loaded" not in lines[PartName.WEIGHTS].formula
    assert drafting.kv_cache.bytes_per_token_per_gpu == alone.kv_cache.bytes_per_token_per_gpu // 46 * 47
    assert "draft_bytes" in [line.name for line in explain(drafting)]


def test_with_several_stages_only_the_last_one_drafts_with_an_embedding_of_its_own() -> None:
    vector = next(vector for vector in VECTORS if vector["model"] == GLM)
    plan = next(plan for plan in vector["plans"] if plan["pp"] == 2)
    first, last = launched(vector, plan).stages
    (whole,) = launched(vector, {**plan, "pp": 1}).stages
    assert last.draft is not None
    assert whole.draft is not None

    embedding = 151552 * 4096 * 2 // plan["tp"]
    assert first.draft is None
    assert last.draft.total_bytes == whole.draft.total_bytes + embedding
    assert (first.layers, last.layers, last.alone.layers) == ((0, 23), (23, 47), (23, 46))


@pytest.mark.parametrize(
    ("model", "version", "heads"),
    [
        pytest.param(GLM, "0.15.0", 1, id="a head in each layer"),
        pytest.param(GLM, "0.16.0", 0, id="the model's since 0.16"),
        pytest.param("mimo-7b", "0.15.0", 0, id="the model's always"),
    ],
)
def test_before_0_16_a_draft_with_a_head_in_its_layers_kept_it(model: str, version: str, heads: int) -> None:
    config = CONFIGS[model]
    then, now = (
        plan_of(config, proposing(), engine_version=release, tensor_parallel_size=4, max_model_len=8192)
        for release in (version, "0.33.0")
    )
    lines = [next(part for part in plan.parts if part.name is PartName.DRAFT) for plan in (then, now)]

    head = config["vocab_size"] * config["hidden_size"] * 2 // 4
    assert lines[0].bytes - lines[1].bytes == heads * head
    assert ("output layer" in lines[0].formula) == (heads == 0)


def test_without_a_gpu_the_draft_is_in_host_memory() -> None:
    drafting, alone = (
        plan_of(CONFIGS["mimo-7b"], speculative, tensor_parallel_size=0, max_model_len=4096)
        for speculative in (proposing(), None)
    )
    on_gpu = plan_of(CONFIGS["mimo-7b"], proposing(), tensor_parallel_size=1, max_model_len=4096)
    here, there = (
        next(part for part in plan.parts if part.name is PartName.DRAFT) for plan in (drafting, on_gpu)
    )

    assert alone.parts[0].bytes == drafting.parts[0].bytes
    assert here.bytes == there.bytes


@pytest.mark.parametrize(
    ("model", "patch", "words"),
    [
        pytest.param(LLAMA, {}, "no draft layers for this LlamaForCausalLM", id="no class"),
        pytest.param(GLM, {"num_nextn_predict_layers": 0}, "no draft layers", id="none in the checkpoint"),
        pytest.param(DEEPSEEK, {"model_type": "kimi_k2"}, "no draft layers", id="Kimi K2"),
        pytest.param("mimo-7b", {"num_nextn_predict_layers": MISSING}, "no draft layers", id="not said"),
    ],
)
def test_a_model_without_draft_layers_cannot_draft(model: str, patch: dict[str, Any], words: str) -> None:
    result = planned(patched(CONFIGS[model], patch), proposing())

    assert isinstance(result, Refusal)
    assert result.reason is RefusalReason.UNSUPPORTED_OPTION
    assert words in result.message
    assert "leave it out" in result.message


@pytest.mark.parametrize(
    ("tokens", "fits"),
    [
        pytest.param(1, True, id="fewer"),
        pytest.param(4, True, id="twice"),
        pytest.param(3, False, id="a rest"),
    ],
)
def test_tokens_beyond_the_draft_layers_are_a_multiple_of_them(tokens: int, fits: bool) -> None:
    config = {**CONFIGS[GLM], "num_nextn_predict_layers": 2}
    result = planned(config, proposing(tokens=tokens), max_model_len=8192)

    assert fits == isinstance(result, Plan)
    if isinstance(result, Refusal):
        assert (
            "num_speculative_tokens is 3: it must be a multiple of the model's 2 draft layers"
            in result.message
        )


def test_a_batch_must_hold_more_than_the_proposed_tokens() -> None:
    result = planned(CONFIGS[SMALL], proposing(tokens=8), max_num_batched_tokens=8, max_num_seqs=1)

    assert isinstance(result, Refusal)
    assert "maxNumBatchedTokens is 8" in result.message


def test_as_many_tokens_as_predictors_where_nobody_says_how_many() -> None:
    config = {**CONFIGS[GLM], "num_nextn_predict_layers": 2}
    said, unsaid = (
        plan_of(config, speculative, max_model_len=8192)
        for speculative in (proposing(tokens=2), speculation_of({"method": "mtp", "model": "a/b"}))
    )

    assert said.parts == unsaid.parts
    assert [warning for warning in unsaid.warnings if "speculative_config.model is 'a/b'" in warning]


@pytest.mark.parametrize(
    ("model", "speculative", "words"),
    [
        pytest.param(
            LLAMA,
            proposing("eagle3", 3, model="a/b"),
            "method eagle3 brings another model",
            id="another model",
        ),
        pytest.param(
            LLAMA, proposing("mtp", 3, model="a/b"), "method mtp brings another model", id="an assistant"
        ),
        pytest.param(
            SMALL, proposing(kv_cache_dtype="fp8"), "speculative_config.kv_cache_dtype", id="a field"
        ),
        pytest.param(SMALL, proposing(), None, id="own layers"),
        pytest.param(LLAMA, proposing("ngram", 3), None, id="prompt lookup"),
    ],
)
def test_what_of_a_draft_is_not_in_the_sum_is_told(
    model: str, speculative: Speculation, words: str | None
) -> None:
    told = [warning for warning in plan_of(CONFIGS[model], speculative).warnings if "speculative" in warning]

    assert len(told) == (words is not None)
    assert words is None or words in told[0]


def test_draft_layers_that_nobody_counted_are_told_and_the_rest_is_reckoned() -> None:
    alone, drafting = (
        plan_of({**LING, "num_nextn_predict_layers": 1}, speculative) for speculative in (None, proposing())
    )

    assert PartName.DRAFT not in [part.name for part in drafting.parts]
    assert alone.parts[0] == drafting.parts[0]
    assert [warning for warning in drafting.warnings if "are not in the sum" in warning]


def test_a_draft_whose_quantization_cannot_be_read_changes_no_plan_without_it() -> None:
    unread = {
        "quant_method": "compressed-tensors",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                "input_activations": {"num_bits": 8, "dynamic": True},
            }
        },
        "ignore": ["lm_head", "model.layers.46.self_attn.q_proj"],
    }
    shape = shape_from_facts(facts({**CONFIGS[GLM], "quantization_config": unread}))

    assert shape.draft is None
    assert shape.uncounted_draft is not None
    assert "fuses it" in shape.uncounted_draft


@pytest.mark.parametrize(
    ("model", "patch", "words"),
    [
        pytest.param(NEXT, {"num_nextn_predict_layers": "one"}, "num_nextn_predict_layers", id="no number"),
        pytest.param(GLM, {"first_k_dense_replace": 46}, "no layer of the model is like", id="none alike"),
        pytest.param(
            "a Nemotron 3 Super in 16 bits",
            {"mtp_hybrid_override_pattern": "M"},
            "spelled 'M'",
            id="another pattern",
        ),
    ],
)
def test_draft_layers_that_cannot_be_read_are_no_fault_of_the_model(
    model: str, patch: dict[str, Any], words: str
) -> None:
    known = facts(patched(CONFIGS[model], patch))
    shape = shape_from_facts(known)
    serving = Serving(engine_version="0.33.0", max_model_len=4096)
    alone, drafting = (
        estimate(shape, known, replace(serving, speculative=speculative), [pool("H200")])
        for speculative in (None, proposing())
    )

    assert isinstance(alone, Plan)
    assert isinstance(drafting, Plan)
    assert shape.draft is None
    assert [warning for warning in drafting.warnings if words in warning]


def test_prompt_lookup_keeps_all_tokens_on_the_card() -> None:
    vector = next(vector for vector in VECTORS if vector["model"] == LLAMA)
    plan = next(plan for plan in vector["plans"] if plan["speculative"]["method"] == "ngram")
    ngram = launched(vector, plan)
    plain = replace(ngram, serving=replace(ngram.serving, speculative=None))
    length, sequences = 32768, ngram.limits(32768).max_num_seqs

    (with_tokens,), (without,) = ngram.costs(length), plain.costs(length)
    mask = -(-sequences * 128256 * 5 // 8) - -(
        -sequences * 128256 // 8
    )  # of grammars, for each proposed token
    assert with_tokens.weights_bytes == without.weights_bytes
    assert with_tokens.runtime.low - without.runtime.low == sequences * length * 4 + mask


@pytest.mark.parametrize(
    ("method", "batches"),
    [pytest.param("ngram", 2, id="overlapping"), pytest.param("suffix", 1, id="one after the other")],
)
def test_a_suffix_tree_leaves_one_batch_in_flight(method: str, batches: int) -> None:
    vector = next(vector for vector in VECTORS if vector["model"] == "openai/gpt-oss-20b")
    launch = launched(
        vector, {**vector["plans"][0], "speculative": {"method": method, "num_speculative_tokens": 4}}
    )
    limits = launch.limits(8192)

    assert limits.in_flight_tokens == batches * limits.max_num_batched_tokens
