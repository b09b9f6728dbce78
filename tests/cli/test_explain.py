from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from plimsoll.cli.main import cli

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(
        cli, ["explain", *arguments], env={"COLUMNS": "80", "HF_ENDPOINT": "http://127.0.0.1:9"}
    )


def numbers(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments, "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(result.stdout)["numbers"]
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((MISTRAL, "--gpu", "A10"), id="one GPU"),
        pytest.param(("deepseek-ai/DeepSeek-V3", "--gpu", "H200"), id="MLA and experts"),
        pytest.param(("facebook/opt-125m", "-tp", "0"), id="CPU"),
        pytest.param((MISTRAL,), id="the smallest GPU that fits"),
    ],
)
def test_every_number_has_a_value_a_formula_and_a_source(arguments: tuple[str, ...]) -> None:
    found = numbers(*arguments)

    assert {"weights_bytes", "kv_cache_bytes"} <= {one["name"] for one in found}
    assert [one for one in found if not all(one[key] for key in ("name", "value", "formula", "source"))] == []


def test_the_text_shows_what_the_document_holds() -> None:
    text = " ".join(run(MISTRAL, "--gpu", "A10").stdout.split())

    for one in numbers(MISTRAL, "--gpu", "A10"):
        assert f"{one['name']} = {one['value']}" in text
        assert f"Source: {one['source']}" in text


def test_only_keeps_the_numbers_of_that_name() -> None:
    everything = numbers(MISTRAL, "--gpu", "A10")
    some = numbers(MISTRAL, "--gpu", "A10", "--only", "KV_cache")

    assert [one for one in everything if "kv_cache" in one["name"].lower()] == some
    assert 0 < len(some) < len(everything)


def test_a_name_that_is_not_there_lists_those_that_are() -> None:
    result = run(MISTRAL, "--gpu", "A10", "--only", "nothing")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "weights" in result.stderr


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_refusal_is_explained_as_by_estimate(form: str) -> None:
    result = run("deepseek-ai/DeepSeek-V3", "--gpu", "T4", "-o", form)

    assert (result.exit_code, result.stderr) == (1, "")
    assert "refused" in result.stdout.lower()
