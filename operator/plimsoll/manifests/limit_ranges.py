"""What a namespace's LimitRanges allow one container, and which of a pod's values they filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests.labels import LIMIT_RANGER
from plimsoll.units import QuantityError, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from fractions import Fraction

# LimitRanger writes "LimitRanger plugin set: cpu, memory request for container a; cpu limit for container a; memory
# request for init container b" (k8s.io/kubernetes plugin/pkg/admission/limitranger).
_PREFIX: Final = "LimitRanger plugin set:"
_CLAUSE: Final = re.compile(
    r"^(?P<resources>[^;]+?) (?P<kind>request|limit) for container (?P<container>[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most that a container may have of one resource, and how far its limit may be above its request.

    Attributes:
        maximum: cores or bytes; None: no bound.
        ratio: maxLimitRequestRatio; None: no bound.
        source: names of the LimitRanges.
    """

    maximum: Fraction | None = None
    ratio: Fraction | None = None
    source: str = ""


def ceiling(limit_ranges: Iterable[Mapping[str, Any]], resource: str) -> Ceiling:
    """The narrowest bound over all LimitRanges of a namespace, for one container.

    A bound for a whole pod is one for its main container too; what its sidecars take is left to Kubernetes.
    """
    maximum: Fraction | None = None
    ratio: Fraction | None = None
    sources: list[str] = []
    for limit_range in limit_ranges:
        for item in (limit_range.get("spec") or {}).get("limits") or ():
            if item.get("type") not in {"Container", "Pod"}:
                continue
            most = _amount(item.get("max"), resource)
            widest = _amount(item.get("maxLimitRequestRatio"), resource)
            if most is not None or widest is not None:
                sources.append(str((limit_range.get("metadata") or {}).get("name") or ""))
            maximum = _lower(maximum, most)
            ratio = _lower(ratio, widest)
    return Ceiling(maximum=maximum, ratio=ratio, source=", ".join(sorted(set(sources))))


def defaulted(pod: Mapping[str, Any], container: str) -> frozenset[tuple[str, str]]:
    """What LimitRanger filled in for a container, as ("request" or "limit", resource)."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    text = str(annotations.get(LIMIT_RANGER) or "")
    if not text.startswith(_PREFIX):
        return frozenset()
    found: set[tuple[str, str]] = set()
    for clause in text.removeprefix(_PREFIX).split(";"):
        match = _CLAUSE.match(clause.strip())
        if match is not None and match["container"] == container:
            found |= {(match["kind"], name.strip()) for name in match["resources"].split(",")}
    return frozenset(found)


def _amount(amounts: object, resource: str) -> Fraction | None:
    if not isinstance(amounts, dict) or resource not in amounts:
        return None
    try:
        return parse_quantity(amounts[resource])
    except QuantityError:
        return None


def _lower(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
