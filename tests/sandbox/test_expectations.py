"""What an example promises, and when it has come true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.expectations import (
    Expectation,
    Finding,
    ObjectName,
    Promise,
    after_apply,
    of_deployments,
    of_pods,
    parse_expectation,
    read_example,
    read_examples,
)

PATH = Path("example.yaml")
READY = Expectation(promise=Promise.READY)
FAILED = Expectation(promise=Promise.NOT_READY, detail="TestFailed")
REFUSED = Expectation(promise=Promise.REFUSED, detail="spec.model.revision")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# expect: Ready", READY),
        ("# expect: Ready=False reason=TestFailed", FAILED),
        ("# expect: refused by admission: spec.model.revision", REFUSED),
        ("# expect: filled", Expectation(promise=Promise.FILLED)),
        ("#expect:Ready  ", READY),
        ("apiVersion: v1", READY),
    ],
)
def test_a_first_line_promises(line: str, expected: Expectation) -> None:
    assert expected == parse_expectation(line, PATH)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("# expect: Redy", "expects 'Redy'; write Ready, Ready=False reason=REASON"),
        ("# expect: Ready=False", "expects 'Ready=False'; write"),
        ("# expect: Ready=False reason=Tired", "Tired is no reason"),
        ("# expect: refused by admission:", "expects 'refused by admission:'"),
    ],
)
def test_a_promise_that_nobody_understands_is_refused(line: str, sentence: str) -> None:
    with pytest.raises(SandboxError, match=sentence):
        parse_expectation(line, PATH)


def test_two_files_that_name_one_object_are_refused(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for path in files:
        path.write_text(text)

    with pytest.raises(SandboxError, match=r"a\.yaml and .*b\.yaml both name Secret default/s; rename one"):
        read_examples(files)


def test_no_two_examples_of_the_project_name_one_object() -> None:
    files = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))

    assert len(read_examples(files)) == len(files) > 0


def test_the_objects_of_a_file_are_named_with_their_namespace(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(
        "kind: Secret\nmetadata: {name: a}\n---\n---\nkind: ModelDeployment\nmetadata: {name: b, namespace: n}\n"
    )

    example = read_example(path)

    assert (
        ObjectName(kind="Secret", namespace="default", name="a"),
        ObjectName(kind="ModelDeployment", namespace="n", name="b"),
    ) == example.objects
    assert (example.objects[1],) == example.names("ModelDeployment")


@pytest.mark.parametrize("text", ["", "[", "- 1\n", "a: 1\n", "\x00"], ids=repr)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)

    with pytest.raises(SandboxError, match=r"e\.yaml"):
        read_example(path)


@pytest.mark.parametrize(
    ("expectation", "ok", "output", "met"),
    [
        (REFUSED, False, "Error: spec.model.revision: is a path", True),
        (REFUSED, False, "Error: something else", False),
        (REFUSED, True, "", False),
        (READY, False, "Error: refused", False),
        (READY, True, "", None),
        (FAILED, True, "Warning: x", None),
    ],
)
def test_what_the_apply_decides(expectation: Expectation, ok: bool, output: str, met: bool | None) -> None:
    found = after_apply(expectation, ok=ok, output=output)

    assert met == (None if found is None else found.met)
    assert found is None or found.final


def deployment(
    status: str, reason: str, *, stalled: bool = False, observed: int = 1, generation: int = 1
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": status, "reason": reason, "observedGeneration": observed}]
    if stalled:
        conditions.append(
            {"type": "Stalled", "status": "True", "reason": reason, "observedGeneration": observed}
        )
    return {"metadata": {"generation": generation}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("expectation", "found", "met", "final"),
    [
        (READY, deployment("True", "Serving"), True, True),
        (READY, deployment("False", "Loading"), False, False),
        (READY, deployment("False", "TestFailed", stalled=True), False, True),
        (READY, deployment("True", "Serving", observed=1, generation=2), False, False),
        (READY, None, False, False),
        (READY, {"metadata": {"generation": 1}}, False, False),
        (FAILED, deployment("False", "TestFailed", stalled=True), True, True),
        (FAILED, deployment("False", "TestError", stalled=True), False, True),
        (FAILED, deployment("True", "Serving"), False, True),
        (FAILED, deployment("False", "Testing"), False, False),
    ],
)
def test_how_a_deployment_stands(
    expectation: Expectation, found: dict[str, Any] | None, met: bool, final: bool
) -> None:
    finding = of_deployments(expectation, [found])

    assert (met, final) == (finding.met, finding.final)


def test_an_example_with_two_deployments_needs_both() -> None:
    finding = of_deployments(READY, [deployment("True", "Serving"), deployment("False", "Loading")])

    assert (finding.met, finding.seen) == (False, "Ready=False (Loading)")


FULL = {"requests": {"cpu": "4", "memory": "12Gi"}, "limits": {"cpu": "8", "memory": "24Gi"}}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (FULL, Finding(met=True, seen="filled: cpu 4, memory 12Gi")),
        (
            {"limits": FULL["limits"]},
            Finding(met=False, seen="c has no requests of cpu and memory", final=True),
        ),
        (
            {**FULL, "limits": {"cpu": "8"}},
            Finding(met=False, seen="c has no limits of memory", final=True),
        ),
    ],
)
def test_pods_are_filled_when_cpu_and_memory_are_there(resources: dict[str, Any], expected: Finding) -> None:
    pod = {"spec": {"containers": [{"name": "c", "resources": resources}]}}

    assert expected == of_pods([pod])


def test_without_a_pod_nothing_is_filled_yet() -> None:
    assert Finding(met=False, seen="no pod yet") == of_pods([])
