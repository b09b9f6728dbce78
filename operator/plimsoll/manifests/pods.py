"""The rule of the pod webhook: CPU and memory that a pod lacks are filled in, by what its model needs.

What the user set is never lowered and never raised. What LimitRanger filled in is a default, no intent: it is raised
to the need, up to what the LimitRange allows. GPU requests are never touched. Doing it twice changes nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests.labels import DEFAULT_CONTAINER
from plimsoll.manifests.limit_ranges import Ceiling, ceiling, defaulted
from plimsoll.units import (
    QuantityError,
    bytes_quantity,
    ceil_fraction,
    format_size,
    millicores_quantity,
    parse_quantity,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plimsoll.sizing.plan import HostResources

_MAX_WARNING: Final = 240
_MILLI: Final = 1000
# The finest amount that is written.
_STEPS: Final = {"cpu": Fraction(1, _MILLI), "memory": Fraction(1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledPod:
    """What the webhook answers.

    Attributes:
        pod: the pod with its resources filled in; None: nothing was missing.
        warnings: one fact each, at most 240 characters.
    """

    pod: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """A request or a limit as the pod has it: None where it is missing; `fixed` where the user set it."""

    amount: Fraction | None
    fixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """Request and limit that the model needs of one resource, in cores or bytes."""

    resource: str
    request: Fraction
    limit: Fraction


def fill_resources(
    pod: Mapping[str, Any], need: HostResources, limit_ranges: Sequence[Mapping[str, Any]] = ()
) -> FilledPod:
    """Fill in what the main container lacks.

    Args:
        pod: a v1 Pod as admission sees it: after API defaulting and after LimitRanger.
        need: of the pod's component and model.
        limit_ranges: the v1 LimitRange objects of its namespace.
    """
    containers = _containers(pod)
    index = _main_container(pod, containers)
    if index is None:
        return FilledPod()
    container = containers[index]
    name = str(container.get("name") or "")
    by_limit_ranger = defaulted(pod, name)
    resources = copy.deepcopy(dict(container.get("resources") or {}))
    warnings: list[str] = []
    for wanted in _needs(need):
        if wanted.resource in _pod_level(pod):
            continue
        bound = ceiling(limit_ranges, wanted.resource)
        try:
            values = _settle(resources, wanted, bound, by_limit_ranger)
        except QuantityError:
            continue  # the API server refuses the pod itself, and says so better
        _store(resources, wanted.resource, values)
        warnings += _warnings(name, wanted, values, bound)
    if resources == (container.get("resources") or {}):
        return FilledPod(warnings=tuple(warnings))
    patched = copy.deepcopy(dict(pod))
    patched["spec"]["containers"][index]["resources"] = resources
    return FilledPod(pod=patched, warnings=tuple(warnings))


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((pod.get("spec") or {}).get("containers") or ())


def _pod_level(pod: Mapping[str, Any]) -> frozenset[str]:
    """Resources that the user set for the pod as a whole: its containers share them."""
    resources = (pod.get("spec") or {}).get("resources") or {}
    return frozenset(key for part in ("requests", "limits") for key in resources.get(part) or {})


def _main_container(pod: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]) -> int | None:
    """The container that does the work: the one named so, else the first with a device, else the first."""
    if not containers:
        return None
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    named = annotations.get(DEFAULT_CONTAINER)
    for index, container in enumerate(containers):
        if named is not None and container.get("name") == named:
            return index
    for index, container in enumerate(containers):
        if any("/" in key for key in (container.get("resources") or {}).get("limits") or {}):
            return index
    return 0


def _needs(need: HostResources) -> tuple[_Need, ...]:
    return (
        _Need(
            resource="cpu",
            request=Fraction(need.cpu_request_millicores, _MILLI),
            limit=Fraction(need.cpu_limit_millicores, _MILLI),
        ),
        _Need(
            resource="memory",
            request=Fraction(need.memory_request_bytes),
            limit=Fraction(need.memory_limit_bytes),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """Request and limit before and after."""

    request_before: _Value
    limit_before: _Value
    request: Fraction
    limit: Fraction


def _settle(
    resources: Mapping[str, Any], need: _Need, bound: Ceiling, by_limit_ranger: frozenset[tuple[str, str]]
) -> _Settled:
    """Request and limit of one resource, so that neither the user's values nor the LimitRange are passed."""

    def found(part: str, kind: str) -> _Value:
        amounts = resources.get(part) or {}
        if need.resource not in amounts:
            return _Value(amount=None, fixed=False)
        fixed = (kind, need.resource) not in by_limit_ranger
        return _Value(amount=parse_quantity(amounts[need.resource]), fixed=fixed)

    request_before, limit_before = found("requests", "request"), found("limits", "limit")
    request = _raised(request_before, need.request, bound.maximum)
    limit = _raised(limit_before, need.limit, bound.maximum)
    if limit < request:
        # One of the two is the user's, and the other gives way; two of the user's are the API server's to refuse.
        if not limit_before.fixed:
            limit = request
        elif not request_before.fixed:
            request = limit
    if bound.ratio is not None and limit > request * bound.ratio:
        step = _STEPS[need.resource]
        if not limit_before.fixed:
            limit = max(request * bound.ratio // step * step, limit_before.amount or Fraction(0))
        if not request_before.fixed and limit > request * bound.ratio:
            request = ceil_fraction(limit / bound.ratio / step) * step
    return _Settled(request_before=request_before, limit_before=limit_before, request=request, limit=limit)


def _raised(value: _Value, need: Fraction, maximum: Fraction | None) -> Fraction:
    """The user's value as it is; else the need, within what the LimitRange allows and not below what is there."""
    if value.amount is not None and value.fixed:
        return value.amount
    wanted = need if maximum is None else min(need, maximum)
    return wanted if value.amount is None else max(wanted, value.amount)


def _store(resources: dict[str, Any], resource: str, values: _Settled) -> None:
    """Write only what changed: a quantity that says the same in another spelling stays."""
    pairs = (
        ("requests", values.request_before, values.request),
        ("limits", values.limit_before, values.limit),
    )
    for part, before, after in pairs:
        if before.amount != after:
            resources[part] = {**(resources.get(part) or {}), resource: _quantity(resource, after)}


def _quantity(resource: str, amount: Fraction) -> str:
    if resource == "cpu":
        return millicores_quantity(ceil_fraction(amount * _MILLI))
    return _exact_bytes(ceil_fraction(amount))


def _exact_bytes(amount: int) -> str:
    """Bytes as Mi or Gi where that is exact, else as they are: a rounded value could pass the LimitRange's maximum."""
    text = bytes_quantity(amount)
    return text if parse_quantity(text) == amount else str(amount)


def _warnings(container: str, need: _Need, values: _Settled, bound: Ceiling) -> list[str]:
    """What is too little, judged by the outcome alone, so that a second look says the same."""
    if values.limit >= need.request:
        return []
    got, wanted = _shown(need.resource, values.limit), _shown(need.resource, need.request)
    if values.limit == bound.maximum:
        text = (
            f"container {container}: {need.resource} is held at {got} by LimitRange {bound.source}, "
            f"but the model needs {wanted}; raise its max."
        )
    elif need.resource == "memory":
        text = (
            f"container {container}: the memory limit of {got} stays as it was set, "
            f"but the model needs {wanted}; it may be killed for memory."
        )
    else:
        return []
    return [text[:_MAX_WARNING]]


def _shown(resource: str, amount: Fraction) -> str:
    if resource == "cpu":
        return f"{millicores_quantity(ceil_fraction(amount * _MILLI))} CPU"
    return format_size(ceil_fraction(amount))
