"""What our own children already take of a quota, so that a plan is not held against its own pods."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests import labels
from plimsoll.manifests.labels import Component
from plimsoll.units import QuantityError, parse_bytes, parse_millicores, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Manifest = dict[str, Any]
_FINISHED: Final = ("Complete", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnUse:
    """By the quota's name of a resource: millicores, bytes or a count.

    Attributes:
        server, jobs: of the pods that exist.
        downloaded, tested: that Job is over, so it asks for nothing any more.
    """

    server: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)
    downloaded: bool = False
    tested: bool = False
    has_claim: bool = False


def own_use(children: Iterable[Manifest], revision: str | None) -> OwnUse:
    """Add up Deployments, Jobs and claims; pods are seen through the objects that made them."""
    server: Counter[str] = Counter()
    jobs: Counter[str] = Counter()
    finished: set[str] = set()
    has_claim = False
    for child in children:
        metadata = child.get("metadata") or {}
        marks = metadata.get("labels") or {}
        of_revision = revision is None or marks.get(labels.REVISION) == revision
        match child.get("kind"):
            case "PersistentVolumeClaim":
                has_claim = True
            case "Deployment" if of_revision:
                server += _times(child, "replicas")
            case "Job":
                jobs += _times(child, "active")
                current = marks.get(labels.COMPONENT) != Component.TEST or of_revision
                if current and metadata.get("deletionTimestamp") is None and _is_finished(child):
                    finished.add(marks.get(labels.COMPONENT, ""))
    return OwnUse(
        server=dict(server),
        jobs=dict(jobs),
        downloaded=Component.DOWNLOAD.value in finished,
        tested=Component.TEST.value in finished,
        has_claim=has_claim,
    )


def _is_finished(job: Manifest) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c.get("type") in _FINISHED and c.get("status") == "True" for c in conditions)


def _times(owner: Manifest, count_field: str) -> Counter[str]:
    """The template's requests times the pods that status says there are."""
    pods = (owner.get("status") or {}).get(count_field) or 0
    template = ((owner.get("spec") or {}).get("template") or {}).get("spec") or {}
    found: Counter[str] = Counter()
    if pods < 1:
        return found
    found["pods"] = pods
    for container in template.get("containers") or ():
        resources = container.get("resources") or {}
        for kind in ("requests", "limits"):
            for name, text in (resources.get(kind) or {}).items():
                # Quotas know extended resources by their requests only.
                if kind == "limits" and name not in {"cpu", "memory"}:
                    continue
                found[f"{kind}.{name}"] += pods * _amount(name, text)
    return found


def _amount(name: str, text: Any) -> int:
    try:
        if name == "cpu":
            return parse_millicores(text)
        return parse_bytes(text) if name == "memory" else int(parse_quantity(text))
    except QuantityError:
        return 0
