"""Quantities of a spec: each must parse, and a limit is never below its request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.reconcile.problems import FieldProblem, problem
from plimsoll.units import QuantityError, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from plimsoll.api.pod import ComponentResourcesSpec, ResourceAmounts, ResourcesSpec
    from plimsoll.api.spec import ModelDeploymentSpec

# Kubernetes keeps a quantity in 64 bits and cuts off what is above.
_LARGEST: Final = 2**63 - 1


def resource_problems(resources: ResourcesSpec | None) -> Iterator[FieldProblem]:
    """Problems of spec.resources."""
    if resources is None:
        return
    for component in ("download", "server", "test"):
        wish: ComponentResourcesSpec | None = getattr(resources, component)
        if wish is not None:
            yield from _component(f"spec.resources.{component}", wish)


def quantity_problems(spec: ModelDeploymentSpec) -> Iterator[FieldProblem]:
    """Problems of the quantities outside spec.resources."""
    gpu = spec.hardware.gpu if spec.hardware is not None else None
    vllm = spec.engine.vllm if spec.engine is not None else None
    fields = (
        ("spec.engine.vllm.cpuOffload", vllm.cpu_offload if vllm is not None else None, True),
        ("spec.engine.vllm.kvCacheMemory", vllm.kv_cache_memory if vllm is not None else None, False),
        ("spec.hardware.gpu.minMemory", gpu.min_memory if gpu is not None else None, True),
        ("spec.storage.size", spec.storage.size if spec.storage is not None else None, False),
    )
    for path, text, may_be_zero in fields:
        if text is None:
            continue
        amount, found = _amount(path, text)
        yield from found
        if amount == 0 and not may_be_zero:
            yield problem(
                path, text, "it must be more than nothing; give a size such as 40Gi, or leave it unset"
            )


def _component(path: str, wish: ComponentResourcesSpec) -> Iterator[FieldProblem]:
    for resource in ("cpu", "memory"):
        amounts: dict[str, Fraction] = {}
        for part, given in (("requests", wish.requests), ("limits", wish.limits)):
            text = _text(given, resource)
            if text is None:
                continue
            amount, found = _amount(f"{path}.{part}.{resource}", text)
            yield from found
            if amount is not None:
                amounts[part] = amount
        if "limits" not in amounts:
            continue
        limit = _text(wish.limits, resource)
        if amounts["limits"] == 0:
            yield problem(
                f"{path}.limits.{resource}", limit, "a limit of nothing starts nothing; raise or remove it"
            )
        elif amounts.get("requests", amounts["limits"]) > amounts["limits"]:
            yield problem(
                f"{path}.limits.{resource}",
                limit,
                f"it is below the request of {_text(wish.requests, resource)}; raise the limit or lower the request",
            )


def _text(amounts: ResourceAmounts | None, resource: str) -> str | None:
    if amounts is None:
        return None
    return amounts.cpu if resource == "cpu" else amounts.memory


def _amount(path: str, text: str) -> tuple[Fraction | None, tuple[FieldProblem, ...]]:
    try:
        amount = parse_quantity(text)
    except QuantityError as error:
        return None, (FieldProblem(path=path, value=repr(text), message=f"{error}."),)
    if not 0 <= amount <= _LARGEST:
        says = f"it must be between 0 and {_LARGEST}, which is all that Kubernetes can hold; correct it"
        return None, (problem(path, text, says),)
    return amount, ()
