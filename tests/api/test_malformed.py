"""What the types refuse is told by field, and never echoes a value."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from plimsoll.api.malformed import malformed_fields
from plimsoll.api.spec import ModelDeployment

SECRET = "hf_abcdefghijklmnop"


def told(spec: dict[str, Any]) -> tuple[str, ...]:
    body = {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "a", "namespace": "b", "uid": "c"},
        "spec": spec,
    }
    with pytest.raises(ValidationError) as caught:
        ModelDeployment.from_object(body)
    return malformed_fields(caught.value)


@pytest.mark.parametrize(
    ("spec", "sentences"),
    [
        pytest.param({}, ("spec.model is required",), id="missing"),
        pytest.param(
            {"model": {"id": "a/b"}, "modle": {}},
            ("spec.modle is no field of a ModelDeployment",),
            id="unknown",
        ),
        pytest.param(
            {"model": {"id": "a/b"}, "engine": {"vllm": {"extraArgs": ["--seed", 7]}}},
            ("spec.engine.vllm.extraArgs[1]: input should be a valid string",),
            id="inside a list",
        ),
        pytest.param(
            {"replicas": -1},
            ("spec.model is required", "spec.replicas: input should be greater than or equal to 0"),
            id="all at once",
        ),
    ],
)
def test_each_field_is_named_with_what_is_wrong(spec: dict[str, Any], sentences: tuple[str, ...]) -> None:
    assert told(spec) == sentences


def test_no_value_is_repeated() -> None:
    (sentence,) = told({"model": {"id": "a/b"}, "replicas": SECRET})

    assert sentence.startswith("spec.replicas: ")
    assert SECRET not in sentence
