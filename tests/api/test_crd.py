"""The CustomResourceDefinition obeys the rules that Kubernetes' own API review has, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll.api.crd import PATH, crd_yaml, custom_resource_definition
from plimsoll.api.reference import reference

ROOT = Path(__file__).parents[2]
VERSION = custom_resource_definition()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
# The one number that is no integer: vLLM's own --gpu-memory-utilization is a share.
FLOATS = {"spec.engine.vllm.gpuMemoryUtilization"}
# Kubernetes' and promptfoo's own types, which are passed through.
PASSED_THROUGH = {
    "spec.pod.affinity",
    "spec.pod.tolerations[]",
    "spec.pod.topologySpreadConstraints[]",
    "spec.test.promptfoo.tests[]",
}
NOT_OURS = {"apiVersion", "kind", "metadata"}


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        if path or name not in NOT_OURS:
            yield from walk(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


NODES = dict(walk(SCHEMA))


def at_every(kind: str) -> list[Any]:
    return [pytest.param(path, node, id=path) for path, node in NODES.items() if node.get("type") == kind]


def test_the_files_are_what_the_types_say() -> None:
    assert crd_yaml() == (ROOT / PATH).read_text("utf-8")
    assert reference() == (ROOT / "docs" / "api.md").read_text("utf-8")
    assert custom_resource_definition() == yaml.safe_load((ROOT / PATH).read_text("utf-8"))


@pytest.mark.parametrize("path", [path for path in NODES if path and not path.endswith(("[]", "{}"))])
def test_every_field_is_described(path: str) -> None:
    assert NODES[path].get("description", "").strip().endswith((".", ":"))


@pytest.mark.parametrize(("path", "node"), at_every("string"))
def test_every_string_is_bounded(path: str, node: dict[str, Any]) -> None:
    assert "enum" in node or node["maxLength"] > 0


@pytest.mark.parametrize(("path", "node"), at_every("array"))
def test_every_list_is_bounded_and_says_how_it_merges(path: str, node: dict[str, Any]) -> None:
    assert node["maxItems"] > 0
    assert node["x-kubernetes-list-type"] in {"atomic", "set", "map"}
    for key in node.get("x-kubernetes-list-map-keys", ()):
        assert key in node["items"]["required"]


@pytest.mark.parametrize(("path", "node"), at_every("integer"))
def test_every_integer_is_bounded_and_has_a_width(path: str, node: dict[str, Any]) -> None:
    assert node["minimum"] <= node["maximum"] <= 2**53 - 1
    assert node["format"] == ("int32" if node["maximum"] < 2**31 else "int64")


@pytest.mark.parametrize(("path", "node"), at_every("object"))
def test_every_object_has_fields_or_is_a_bounded_map(path: str, node: dict[str, Any]) -> None:
    if node.get("x-kubernetes-preserve-unknown-fields"):
        assert path in PASSED_THROUGH
    elif "additionalProperties" in node:
        assert node["maxProperties"] > 0
    else:
        assert node["properties"]


def test_there_is_no_float_but_the_documented_one() -> None:
    assert {path for path, node in NODES.items() if node.get("type") == "number"} == FLOATS


def test_what_is_passed_through_is_exactly_what_is_listed() -> None:
    found = {path for path, node in NODES.items() if node.get("x-kubernetes-preserve-unknown-fields")}
    assert found == PASSED_THROUGH


def test_only_replicas_has_a_default() -> None:
    assert {path: node["default"] for path, node in NODES.items() if "default" in node} == {
        "spec.replicas": 1
    }


def test_lists_of_named_things_merge_by_name() -> None:
    maps = {
        path: node["x-kubernetes-list-map-keys"]
        for path, node in NODES.items()
        if node.get("x-kubernetes-list-type") == "map"
    }
    assert maps == {
        "spec.engine.env": ["name"],
        "spec.pod.imagePullSecrets": ["name"],
        "status.conditions": ["type"],
    }


@pytest.mark.parametrize(
    "word", ["anyOf", "title", "$ref", "$defs", "pattern", "const", "propertyNames", "nullable"]
)
def test_nothing_of_pydantics_dialect_is_left(word: str) -> None:
    holders = {path for path, node in NODES.items() if word in node}
    quantities = {path for path, node in NODES.items() if node.get("x-kubernetes-int-or-string")}
    assert holders == (quantities if word == "anyOf" else set())


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        pytest.param(path, rule, id=f"{path}-{index}")
        for path, node in NODES.items()
        for index, rule in enumerate(node.get("x-kubernetes-validations", ()))
    ],
)
def test_every_rule_has_a_message_with_a_way_out(path: str, rule: dict[str, str]) -> None:
    assert ": " in rule["message"] or " such as " in rule["message"]
    assert not rule["message"].endswith(".")


def test_the_columns_are_those_of_the_design() -> None:
    columns = [(column["name"], column.get("priority", 0)) for column in VERSION["additionalPrinterColumns"]]
    assert columns == [
        ("Model", 0),
        ("Ready", 0),
        ("Reason", 0),
        ("GPUs", 0),
        ("Context", 0),
        ("Age", 0),
        ("TP", 1),
        ("PP", 1),
        ("Revision", 1),
        ("CPU", 1),
        ("Memory", 1),
        ("KV tokens", 1),
        ("Error %", 1),
        ("URL", 1),
    ]
