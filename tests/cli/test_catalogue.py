from __future__ import annotations

import json

import pytest
from cli_samples import run

from plimsoll.sizing import catalogue, gpus


def test_everything_is_listed() -> None:
    document = json.loads(run("catalogue", "-o", "json").stdout)
    assert document["version"] == catalogue.CATALOGUE_VERSION
    assert tuple(one["id"] for one in document["models"]) == catalogue.model_ids()
    assert [one["alias"] for one in document["gpus"]] == [card.alias for card in gpus.catalogue()]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        pytest.param(("models",), {"version", "models"}, id="models"),
        pytest.param(("gpus",), {"version", "gpus"}, id="gpus"),
    ],
)
def test_one_kind_can_be_asked_for(arguments: tuple[str, ...], keys: set[str]) -> None:
    assert set(json.loads(run("catalogue", *arguments, "-o", "json").stdout)) == keys


def test_a_model_comes_with_what_decides_on_it() -> None:
    document = json.loads(
        run("catalogue", "models", "--match", "qwen2.5-7b-instruct-AWQ", "-o", "json").stdout
    )
    (found,) = document["models"]
    assert found["id"] == "Qwen/Qwen2.5-7B-Instruct-AWQ"
    assert found["quantized_of"] == "Qwen/Qwen2.5-7B-Instruct"
    assert (found["architecture"], found["license"], found["gated"]) == (
        "Qwen2ForCausalLM",
        "apache-2.0",
        False,
    )
    assert found["weights_bytes"] == catalogue.tensor_bytes(found["id"])
    assert found["provenance"] == "recalled"


def test_a_card_comes_with_its_slices() -> None:
    document = json.loads(run("catalogue", "gpus", "--match", "h100-nvl", "-o", "json").stdout)
    (found,) = document["gpus"]
    assert (found["product"], found["label_memory_mib"], found["compute_capability"]) == (
        "NVIDIA-H100-NVL",
        95830,
        "9.0",
    )
    assert found["mig_profiles"][0]["name"] == "1g.12gb"


def test_a_card_without_a_label_has_none() -> None:
    document = json.loads(run("catalogue", "gpus", "--match", "MI300X", "-o", "json").stdout)
    (found,) = document["gpus"]
    assert (found["label_memory_mib"], found["platform"]) == (None, "rocm")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param("opt-125m", "facebook/opt-125m*", id="a-recalled-model-is-marked"),
        pytest.param("gemma-2-2b-it", "gemma, gated", id="a-gated-model-says-so"),
        pytest.param("MI325X", "MI325X* rocm", id="a-recalled-card-is-marked"),
        pytest.param(
            "opt-125m", "* recalled: from memory, and checked by nobody", id="the-mark-is-explained"
        ),
    ],
)
def test_the_table_says_what_to_know(name: str, line: str) -> None:
    result = run("catalogue", "--match", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert line in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_name_that_nothing_has_is_wrong_usage() -> None:
    result = run("catalogue", "--match", "no such name")
    assert result.exit_code == 2
    assert "no name of the catalogue contains it" in result.stderr
