"""spec.pod: Kubernetes' own types are passed through, so what would fail later, in a child, is said here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from plimsoll.api import GROUP
from plimsoll.reconcile.problems import TOKEN, FieldProblem, problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plimsoll.api.spec import PodSpec

_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_PREFIX: Final = 253

_TOLERATION: Final = {"key", "operator", "value", "effect", "tolerationSeconds"}
_EFFECTS: Final = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_AFFINITY: Final = {"nodeAffinity", "podAffinity", "podAntiAffinity"}
_AFFINITY_PARTS: Final = {
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
}
_SPREAD: Final = {
    "maxSkew",
    "topologyKey",
    "whenUnsatisfiable",
    "labelSelector",
    "minDomains",
    "nodeAffinityPolicy",
    "nodeTaintsPolicy",
    "matchLabelKeys",
}
_SPREAD_REQUIRED: Final = ("maxSkew", "topologyKey", "whenUnsatisfiable")


def pod_problems(pod: PodSpec | None) -> Iterator[FieldProblem]:
    """Problems of spec.pod."""
    if pod is None:
        return
    yield from _label_map("spec.pod.nodeSelector", pod.node_selector)
    yield from _tolerations(pod)
    yield from _affinity(pod.affinity)
    yield from _spread(pod)
    yield from _label_map("spec.pod.labels", pod.labels, reserved=True)
    yield from _annotations(pod.annotations)


def _label_map(
    path: str, labels: Mapping[str, str] | None, *, reserved: bool = False
) -> Iterator[FieldProblem]:
    for key, value in (labels or {}).items():
        yield from _key(path, key, reserved=reserved)
        if value and _NAME.fullmatch(value) is None:
            yield problem(
                f"{path}[{key}]",
                value,
                "a label's value has at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter "
                "or a digit; correct it",
            )


def _annotations(annotations: Mapping[str, str] | None) -> Iterator[FieldProblem]:
    for key, value in (annotations or {}).items():
        yield from _key("spec.pod.annotations", key, reserved=True)
        if TOKEN.search(value):
            yield problem(
                f"spec.pod.annotations[{key}]",
                value,
                "it looks like a Hugging Face token, which everybody who may read the pod would see; put it into a "
                "Secret and revoke this token",
            )


def _key(path: str, key: str, *, reserved: bool) -> Iterator[FieldProblem]:
    prefix, slash, name = key.rpartition("/")
    well_formed = not slash or (len(prefix) <= _MAX_PREFIX and _PREFIX.fullmatch(prefix) is not None)
    if not well_formed or _NAME.fullmatch(name) is None:
        yield problem(path, key, "it is no label key; write a name, or a domain, a slash and a name")
    elif reserved and prefix == GROUP:
        yield problem(path, key, f"keys of {GROUP}/ belong to the operator; use another key")


def _tolerations(pod: PodSpec) -> Iterator[FieldProblem]:
    for index, toleration in enumerate(pod.tolerations or ()):
        path = f"spec.pod.tolerations[{index}]"
        yield from _unknown(path, toleration, _TOLERATION)
        operator = toleration.get("operator", "Equal")
        if operator not in ("Equal", "Exists"):
            yield problem(f"{path}.operator", operator, "it must be Equal or Exists; correct it")
        if operator == "Exists" and toleration.get("value"):
            yield problem(
                f"{path}.value",
                toleration["value"],
                "Exists tolerates every value; remove value or use Equal",
            )
        if operator != "Exists" and not toleration.get("key"):
            yield problem(f"{path}.key", toleration.get("key"), "Equal needs a key; give one, or use Exists")
        if toleration.get("effect", "") not in _EFFECTS:
            yield problem(
                f"{path}.effect",
                toleration["effect"],
                "it must be NoSchedule, PreferNoSchedule or NoExecute; correct it, or leave it out for all",
            )


def _affinity(affinity: Mapping[str, Any] | None) -> Iterator[FieldProblem]:
    path = "spec.pod.affinity"
    yield from _unknown(path, affinity or {}, _AFFINITY)
    for kind in sorted(_AFFINITY & set(affinity or {})):
        part = (affinity or {})[kind]
        if not isinstance(part, dict):
            yield problem(
                f"{path}.{kind}", part, f"it must be a mapping with {' or '.join(sorted(_AFFINITY_PARTS))}"
            )
            continue
        yield from _unknown(f"{path}.{kind}", part, _AFFINITY_PARTS)


def _spread(pod: PodSpec) -> Iterator[FieldProblem]:
    for index, constraint in enumerate(pod.topology_spread_constraints or ()):
        path = f"spec.pod.topologySpreadConstraints[{index}]"
        yield from _unknown(path, constraint, _SPREAD)
        for field in _SPREAD_REQUIRED:
            if field not in constraint:
                yield problem(f"{path}.{field}", None, f"Kubernetes requires {field}; give it")


def _unknown(path: str, given: Mapping[str, Any], known: set[str]) -> Iterator[FieldProblem]:
    for field in sorted(set(given) - known):
        yield problem(
            f"{path}.{field}", given[field], f"there is no such field; known are {', '.join(sorted(known))}"
        )
