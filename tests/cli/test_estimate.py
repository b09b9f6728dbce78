from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli_samples import estimate, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plimsoll.cli.engines import DEFAULT_VERSION
from plimsoll.manifests.context import DEFAULT_VLLM_CPU_IMAGE, DEFAULT_VLLM_IMAGE
from plimsoll.manifests.engine import version_in_tag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def written(folder: Path, config: dict[str, Any] | str) -> str:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return str(path)


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        pytest.param("mistral-a10", (MISTRAL, "--gpu", "A10"), 0, id="Mistral 7B on A10"),
        pytest.param(
            "deepseek-a100",
            ("deepseek-ai/DeepSeek-V3", "--gpu", "A100-80GB", "--gpus-per-node", "2", "--nodes", "1"),
            1,
            id="DeepSeek-V3 on two A100",
        ),
        pytest.param("opt-cpu", ("facebook/opt-125m", "--tensor-parallel-size", "0"), 0, id="OPT on CPU"),
        pytest.param(
            "mistral-a10-given-cache",
            (MISTRAL, "--gpu", "A10", "--kv-cache-memory-bytes", "5Gi"),
            0,
            id="Mistral 7B on A10 with a given cache",
        ),
        pytest.param(
            "opt-cpu-given-cache",
            ("facebook/opt-125m", "--tensor-parallel-size", "0", "--kv-cache-memory-bytes", "300M"),
            0,
            id="OPT on CPU with a given cache",
        ),
        pytest.param("mistral-every-gpu", (MISTRAL,), 0, id="Mistral 7B on every GPU"),
    ],
)
def test_the_text_is_the_golden_one(
    name: str, arguments: tuple[str, ...], status: int, golden: Callable[[str, str], None]
) -> None:
    result = run("estimate", *arguments)

    assert (status, "") == (result.exit_code, result.stderr)
    golden(f"{name}.txt", result.stdout)
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "\x1b" not in result.stdout


def test_the_default_version_is_that_of_the_default_images() -> None:
    assert {DEFAULT_VERSION} == {
        version_in_tag(image) for image in (DEFAULT_VLLM_IMAGE, DEFAULT_VLLM_CPU_IMAGE)
    }


INT, TEXT, NUMBER = "int", "text", "number"
FITS_SCHEMA: dict[str, Any] = {
    "verdict": TEXT,
    "tensor_parallel_size": INT,
    "pipeline_parallel_size": INT,
    "gpus": INT,
    "nodes": INT,
    "max_model_len": INT,
    "kv_cache": {
        "bytes_per_gpu": INT,
        "bytes_per_token_per_gpu": INT,
        "block_size": INT,
        "bytes_per_block": INT,
        "blocks": INT,
        "tokens": INT,
        "max_concurrency": NUMBER,
    },
    "per_gpu": [{"part": TEXT, "bytes": INT, "source": TEXT}],
    "resources": {
        pod: dict.fromkeys(("cpu_request", "cpu_limit", "memory_request", "memory_limit"), TEXT)
        for pod in ("download", "server", "test")
    },
}
REFUSED_SCHEMA: dict[str, Any] = {
    "verdict": TEXT,
    "refusal": {
        "reason": TEXT,
        "message": TEXT,
        "needed_bytes": INT,
        "available_bytes": INT,
        "would_fit": [TEXT],
    },
}


def differences(schema: Any, value: Any, path: str = "$") -> list[str]:
    """Where a document lacks what the contract promises; what it has besides is its own."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{path} is no object"]
        missing = [f"{path}.{key} is missing" for key in schema if key not in value]
        present = [key for key in schema if key in value]
        return missing + [d for key in present for d in differences(schema[key], value[key], f"{path}.{key}")]
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{path} is no list with something in it"]
        return [d for i, item in enumerate(value) for d in differences(schema[0], item, f"{path}[{i}]")]
    kinds: dict[str, tuple[type, ...]] = {INT: (int,), TEXT: (str,), NUMBER: (int, float)}
    right = isinstance(value, kinds[schema]) and not isinstance(value, bool)
    return [] if right else [f"{path} is {value!r}, no {schema}"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((MISTRAL, "--gpu", "A10"), id="one GPU"),
        pytest.param((MISTRAL,), id="every GPU"),
        pytest.param(("facebook/opt-125m", "-tp", "0"), id="CPU"),
        pytest.param(("meta-llama/Llama-3.1-70B-Instruct", "--gpu", "H100"), id="several GPUs at once"),
    ],
)
def test_the_document_of_a_plan_has_what_the_contract_promises(arguments: tuple[str, ...]) -> None:
    document = estimate(*arguments)

    assert differences(FITS_SCHEMA, document) == []
    assert document["refusal"] is None
    assert document["usable_bytes"] == sum(part["bytes"] for part in document["per_gpu"])


def test_the_document_of_a_refusal_has_what_the_contract_promises() -> None:
    document = estimate("deepseek-ai/DeepSeek-V3", "--gpu", "A100-80GB", "--gpus-per-node", "2")

    assert differences(REFUSED_SCHEMA, document) == []
    assert set(FITS_SCHEMA) <= set(document)
    assert document["refusal"]["needed_bytes"] > document["refusal"]["available_bytes"]


def test_a_schema_check_finds_what_lacks() -> None:
    assert differences({"verdict": TEXT, "per_gpu": [{"bytes": INT}]}, {"per_gpu": [{"bytes": "1"}]}) == [
        "$.verdict is missing",
        "$.per_gpu[0].bytes is '1', no int",
    ]


def test_several_gpus_stand_side_by_side_and_the_smallest_that_fits_leads() -> None:
    document = estimate(MISTRAL, "--gpu", "H100", "--gpu", "A10")

    assert [one["gpu"]["name"] for one in document["candidates"]] == ["H100", "A10"]
    assert document["gpu"]["name"] == "A10"
    assert document["candidates"][1] == {key: document[key] for key in document if key != "candidates"}


def test_one_gpu_that_fits_is_enough_among_several() -> None:
    document = estimate(
        "meta-llama/Llama-3.1-70B-Instruct", "--gpu", "T4", "--gpu", "H200", "--gpus-per-node", "4"
    )

    assert [one["verdict"] for one in document["candidates"]] == ["refused", "fits"]
    assert document["gpu"]["name"] == "H200"


@pytest.mark.parametrize(
    ("option", "value", "path", "expected"),
    [
        pytest.param("--max-model-len", "4096", ("max_model_len",), 4096, id="length"),
        pytest.param("--tensor-parallel-size", "2", ("tensor_parallel_size",), 2, id="TP"),
        pytest.param("--pipeline-parallel-size", "2", ("pipeline_parallel_size",), 2, id="PP"),
        pytest.param(
            "--gpu-memory-utilization", "0.8", ("engine", "gpu_memory_utilization"), 0.8, id="share"
        ),
        pytest.param(
            "--kv-cache-memory-bytes", "6Gi", ("engine", "kv_cache_memory_bytes"), 6 * 2**30, id="cache"
        ),
        pytest.param("--max-num-seqs", "7", ("engine", "max_num_seqs"), 7, id="sequences"),
        pytest.param(
            "--max-num-batched-tokens", "4096", ("engine", "max_num_batched_tokens"), 4096, id="tokens"
        ),
        pytest.param("--dtype", "float16", ("engine", "dtype"), "float16", id="dtype"),
        pytest.param("--kv-cache-dtype", "fp8", ("engine", "kv_cache_dtype"), "fp8", id="KV dtype"),
        pytest.param("--block-size", "32", ("kv_cache", "block_size"), 32, id="block size"),
        pytest.param("--max-model-len", "4K", ("max_model_len",), 4096, id="length as vLLM reads it"),
        pytest.param("--kv-cache-memory", "6G", ("engine", "kv_cache_memory_bytes"), 6 * 2**30, id="cache G"),
        pytest.param("--engine-version", "0.30.0", ("engine", "version"), "0.30.0", id="version"),
        pytest.param("--gpu-memory", "40Gi", ("gpu", "memory_bytes"), 40 * 2**30, id="memory"),
    ],
)
def test_an_option_reaches_the_plan(option: str, value: str, path: tuple[str, ...], expected: object) -> None:
    document: Any = estimate(MISTRAL, "--gpu", "L40S", option, value)

    for key in path:
        document = document[key]
    assert expected == document


def test_a_config_and_a_memory_are_enough(tmp_path: Path) -> None:
    document = estimate(
        "--config", written(tmp_path, CONFIG), "--gpu-memory", "24Gi", "--compute-capability", "8.6"
    )

    assert (
        document["verdict"],
        document["max_model_len"],
        document["gpu"]["compute_capability"],
    ) == ("fits", 2048, "8.6")


def test_a_local_folder_is_a_model(tmp_path: Path) -> None:
    written(tmp_path, CONFIG)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 4096)

    assert estimate(str(tmp_path), "--gpu", "L4")["verdict"] == "fits"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"num_attention_heads": 0}, id="zero"),
        pytest.param({"num_attention_heads": -32}, id="negative"),
        pytest.param({"num_attention_heads": None}, id="null"),
        pytest.param({"num_attention_heads": 10**30}, id="huge"),
        pytest.param({"num_attention_heads": "32"}, id="a string"),
        pytest.param({"num_attention_heads": True}, id="true"),
        pytest.param({"num_attention_heads": 32.5}, id="a fraction"),
        pytest.param({"num_attention_heads": [32]}, id="a list"),
        pytest.param({"num_hidden_layers": 2**40}, id="huge layers"),
    ],
)
def test_a_config_with_a_bad_number_is_refused_by_field_and_value(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    document = estimate("--config", written(tmp_path, CONFIG | change), "--gpu", "A10")

    assert (document["verdict"], document["refusal"]["reason"]) == ("refused", "UnsupportedModel")
    assert next(iter(change)) in document["refusal"]["message"]


def test_a_config_without_a_number_is_refused_by_field(tmp_path: Path) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "num_attention_heads"}
    result = run("estimate", "--config", written(tmp_path, config), "--gpu", "A10")

    assert (result.exit_code, result.stderr) == (1, "")
    assert "num_attention_heads" in result.stdout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("{", "is not JSON (line 1, column 2)", id="not JSON"),
        pytest.param("[]", "holds a list where an object is expected", id="a list"),
        pytest.param("null", "holds null where an object is expected", id="null"),
        pytest.param("{}", "names neither `architectures` nor `model_type`", id="empty"),
        pytest.param("[" * 100_000, "is not JSON", id="nested"),
        pytest.param(
            '{"architectures": ["X"], "a": ' + "9" * 5000 + "}", "is not JSON", id="a number of 5,000 digits"
        ),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    result = run("estimate", "--config", written(tmp_path, text), "--gpu", "A10")

    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert sentence in result.stderr


def test_a_config_of_100_mb_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100 * 10**6)
    result = run("estimate", "--config", str(path), "--gpu", "A10")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "95.37 MiB" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        pytest.param((), 2, "no model is named", id="no model"),
        pytest.param(("--config", "absent.json"), 2, "--config absent.json is no file", id="no config"),
        pytest.param(("./absent",), 2, "absent", id="no folder"),
        pytest.param(("~nobody-has-this-name/x",), 2, "name a folder that exists", id="no home"),
        pytest.param(("a/b; rm -rf ~",), 2, "cannot be a Hugging Face repository", id="metacharacters"),
        pytest.param(
            ("a/b", "--revision", "../../x"), 2, "a path is not one", id="a revision that is a path"
        ),
        pytest.param(("a/b",), 3, "cannot be reached", id="no network"),
        pytest.param(("a/b", "--hub-endpoint", "nowhere"), 2, "write a URL", id="no URL"),
        pytest.param(("a/b", "--token-file", "absent"), 2, "--token-file absent is no file", id="no token"),
        pytest.param((MISTRAL, "--gpu", "A1000"), 2, "is not in the catalogue", id="no GPU"),
        pytest.param((MISTRAL, "--gpu-memory", "80"), 2, "such as 80Gi", id="no unit"),
        pytest.param((MISTRAL, "--gpu", "A10", "-tp", "-1"), 2, "-1 is not in the range", id="TP -1"),
        pytest.param((MISTRAL, "--nodes", "1e3"), 2, "'1e3' is not a valid integer", id="nodes"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    result = run("estimate", *arguments)

    assert (status, "") == (result.exit_code, result.stdout)
    assert len(result.stderr.splitlines()) == 1
    assert sentence in result.stderr


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hf_secret_of_mine\n")
    result = run("estimate", "a/b", "--token-file", str(token), "--debug")

    assert result.exit_code == 3
    assert "hf_secret_of_mine" not in result.output


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    option=st.sampled_from(
        [
            "--gpu",
            "--gpu-memory",
            "--compute-capability",
            "--gpus-per-node",
            "--nodes",
            "--engine-version",
            "--max-model-len",
            "--gpu-memory-utilization",
            "--tensor-parallel-size",
            "--pipeline-parallel-size",
            "--quantization",
            "--dtype",
            "--kv-cache-dtype",
            "--max-num-seqs",
            "--max-num-batched-tokens",
            "--block-size",
            "--cpu-offload-gb",
            "--kv-cache-memory-bytes",
            "--plot",
        ]
    ),
    value=st.one_of(
        st.text(max_size=40),
        st.integers(-(2**70), 2**70).map(str),
        st.floats().map(str),
        st.sampled_from(["auto", "fp8", "awq", "gptq", "float16", "0.9.2", "0.33.0", "1Gi", "H100", "8.9"]),
    ),
)
def test_no_value_of_an_option_ends_in_a_fault(option: str, value: str) -> None:
    result = run("estimate", MISTRAL, "--gpu", "L4", f"{option}={value}")

    assert result.exit_code in {0, 1, 2}, result.stderr
    assert (result.exit_code == 2) == (len(result.stderr.splitlines()) == 1)
    assert (result.exit_code == 2) == (result.stdout == "")


@settings(max_examples=60, deadline=None)
@given(model=st.text(max_size=60))
def test_no_name_of_a_model_ends_in_a_fault(model: str) -> None:
    result = run("estimate", "--gpu", "L4", "--", model)

    assert result.exit_code in {1, 2, 3}, result.stderr
    assert len(result.stderr.splitlines()) == 1
