"""What an example promises in its first line, and whether it has come true.

The first line of a file is one of
    # expect: Ready
    # expect: Ready=False reason=<Reason>
    # expect: refused by admission: <part of the text>
    # expect: filled
A file without such a line promises Ready.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import yaml

from plimsoll.api.conditions import ConditionType, Reason
from plimsoll.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_LINE: Final = re.compile(r"^#\s*expect:\s*(?P<promise>.*?)\s*$")
_NOT_READY: Final = re.compile(r"Ready=False reason=(?P<reason>\w+)")
_REFUSED: Final = re.compile(r"refused by admission: (?P<text>.+)")
_FORMS: Final = "Ready, Ready=False reason=REASON, refused by admission: TEXT, or filled"


class Promise(StrEnum):
    """The kinds of promise."""

    READY = "Ready"
    NOT_READY = "Ready=False"
    REFUSED = "refused by admission"
    FILLED = "filled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a file promises; `detail` is the reason, or the part of the text."""

    promise: Promise
    detail: str = ""

    def __str__(self) -> str:
        if self.promise is Promise.NOT_READY:
            return f"{self.promise} ({self.detail})"
        return f"{self.promise}: {self.detail}" if self.detail else str(self.promise)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectName:
    """An object of a file; namespace "default" where the file names none."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One file to apply."""

    path: Path
    expectation: Expectation
    objects: tuple[ObjectName, ...]

    def names(self, kind: str) -> tuple[ObjectName, ...]:
        """Its objects of one kind."""
        return tuple(found for found in self.objects if found.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was seen of an example: whether it is as promised, and in words what is there.

    Attributes:
        final: nothing that is still to come can change it.
    """

    met: bool
    seen: str
    final: bool = False


def read_example(path: Path) -> Example:
    """Read a file and what it promises.

    Raises:
        SandboxError: the file cannot be read, is no YAML, or promises something unknown.
    """
    try:
        text = path.read_text()
        documents = [found for found in yaml.safe_load_all(text) if found is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise SandboxError(f"{path}: {error}; name a file that can be read.") from error
    except yaml.YAMLError as error:
        raise SandboxError(f"{path} is no YAML ({' '.join(str(error).split())}).") from error
    if not documents or not all(isinstance(found, dict) and "kind" in found for found in documents):
        raise SandboxError(f"{path}: every document must be a Kubernetes object with kind and metadata.")
    expectation = parse_expectation(text.splitlines()[0], path)
    return Example(path=path, expectation=expectation, objects=tuple(map(_object_name, documents)))


def read_examples(paths: Iterable[Path]) -> list[Example]:
    """Read the files of one trial; each object belongs to one of them.

    Raises:
        SandboxError: a file is no example, or two files name the same object, so that the last one would win.
    """
    examples = [read_example(path) for path in paths]
    owners: dict[ObjectName, Path] = {}
    for example in examples:
        for name in example.objects:
            other = owners.setdefault(name, example.path)
            if other != example.path:
                raise SandboxError(
                    f"{other} and {example.path} both name {name.kind} {name.namespace}/{name.name}; rename one."
                )
    return examples


def parse_expectation(first_line: str, path: Path) -> Expectation:
    """What the first line promises; Ready where it promises nothing.

    Raises:
        SandboxError: the promise is none of the known forms, or its reason is no reason.
    """
    line = _LINE.match(first_line)
    if line is None:
        return Expectation(promise=Promise.READY)
    promise = line["promise"]
    if promise in (Promise.READY, Promise.FILLED):
        return Expectation(promise=Promise(promise))
    if (refused := _REFUSED.fullmatch(promise)) is not None:
        return Expectation(promise=Promise.REFUSED, detail=refused["text"])
    not_ready = _NOT_READY.fullmatch(promise)
    if not_ready is None:
        raise SandboxError(f"{path}: the first line expects {promise!r}; write {_FORMS}.")
    if not_ready["reason"] not in {reason.value for reason in Reason}:
        raise SandboxError(f"{path}: {not_ready['reason']} is no reason of a ModelDeployment's condition.")
    return Expectation(promise=Promise.NOT_READY, detail=not_ready["reason"])


def after_apply(expectation: Expectation, *, ok: bool, output: str) -> Finding | None:
    """What the apply itself decides; None: it was accepted, and the rest is to be waited for."""
    seen = " ".join(output.split())
    if expectation.promise is Promise.REFUSED:
        if ok:
            return Finding(met=False, seen="accepted", final=True)
        met = expectation.detail in output
        return Finding(met=met, seen=seen if not met else f"refused: {expectation.detail}", final=True)
    return None if ok else Finding(met=False, seen=f"refused: {seen}", final=True)


def of_deployments(expectation: Expectation, found: Sequence[Mapping[str, Any] | None]) -> Finding:
    """Whether the ModelDeployments of an example are as promised."""
    each = [_of_deployment(expectation, deployment) for deployment in found]
    worst = next((finding for finding in each if not finding.met), each[0])
    return Finding(
        met=all(finding.met for finding in each),
        seen=worst.seen,
        final=any(finding.final for finding in each),
    )


def of_pods(pods: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether the webhook filled in the CPU and memory of a Deployment's pods."""
    if not pods:
        return Finding(met=False, seen="no pod yet")
    for container in (c for pod in pods for c in pod["spec"]["containers"]):
        resources = container.get("resources") or {}
        for part in ("requests", "limits"):
            missing = [name for name in ("cpu", "memory") if name not in (resources.get(part) or {})]
            if missing:
                seen = f"{container['name']} has no {part} of {' and '.join(missing)}"
                return Finding(met=False, seen=seen, final=True)
    first = pods[0]["spec"]["containers"][0]["resources"]["requests"]
    return Finding(met=True, seen=f"filled: cpu {first['cpu']}, memory {first['memory']}")


def condition(deployment: Mapping[str, Any], kind: ConditionType) -> Mapping[str, Any] | None:
    """A condition of a ModelDeployment that speaks of its present generation."""
    generation = deployment["metadata"].get("generation")
    for found in (deployment.get("status") or {}).get("conditions") or ():
        if found["type"] == kind and found.get("observedGeneration") == generation:
            result: Mapping[str, Any] = found
            return result
    return None


def _of_deployment(expectation: Expectation, deployment: Mapping[str, Any] | None) -> Finding:
    if deployment is None:
        return Finding(met=False, seen="not there")
    ready = condition(deployment, ConditionType.READY)
    if ready is None:
        return Finding(met=False, seen="nothing said yet")
    seen = "Ready" if ready["status"] == "True" else f"Ready={ready['status']} ({ready['reason']})"
    stalled = condition(deployment, ConditionType.STALLED)
    final = ready["status"] == "True" or (stalled is not None and stalled["status"] == "True")
    if expectation.promise is Promise.NOT_READY:
        met = ready["status"] == "False" and ready["reason"] == expectation.detail
    else:
        met = ready["status"] == "True"
    return Finding(met=met, seen=seen, final=final)


def _object_name(document: Mapping[str, Any]) -> ObjectName:
    metadata = document.get("metadata") or {}
    return ObjectName(
        kind=str(document["kind"]),
        namespace=str(metadata.get("namespace", "default")),
        name=str(metadata.get("name", "")),
    )
