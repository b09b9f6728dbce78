"""Counters for Prometheus in its text format: a dozen numbers need no client library."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# From a reconcile with nothing to do to one that waits for the Hub.
DURATION_BUCKETS_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)

PLAN_ERROR: Final = "plimsoll_plan_error_percent"

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Histogram:
    buckets: list[int] = field(default_factory=lambda: [0] * len(DURATION_BUCKETS_SECONDS))
    total_seconds: float = 0.0
    count: int = 0

    def observe(self, seconds: float) -> None:
        self.total_seconds += seconds
        self.count += 1
        for index, bound in enumerate(DURATION_BUCKETS_SECONDS):
            self.buckets[index] += seconds <= bound


class Metrics:
    """What the operator counts of itself."""

    def __init__(self) -> None:
        """Start at zero."""
        self._counters: dict[str, dict[Labels, int]] = defaultdict(lambda: defaultdict(int))
        self._durations: dict[str, dict[Labels, _Histogram]] = defaultdict(lambda: defaultdict(_Histogram))
        self._gauges: dict[str, Callable[[], float]] = {}
        self._plan_errors: dict[Labels, str] = {}

    def api_request(self, verb: str, kind: str, status: int, seconds: float) -> None:
        """One request to the API server; status 0 stands for no answer."""
        code = "ok" if 200 <= status < 300 else str(status)  # noqa: PLR2004 - HTTP's success
        self._count("plimsoll_api_requests_total", {"verb": verb, "kind": kind, "code": code})
        self._durations["plimsoll_api_request_seconds"][(("verb", verb),)].observe(seconds)

    def reconciled(self, outcome: str, seconds: float) -> None:
        """One reconcile, by how it ended."""
        self._count("plimsoll_reconciles_total", {"outcome": outcome})
        self._durations["plimsoll_reconcile_seconds"][()].observe(seconds)

    def hub_asked(self, outcome: str) -> None:
        """One question to the Hub or its cache, by the kind of answer."""
        self._count("plimsoll_hub_lookups_total", {"outcome": outcome})

    def status_written(self) -> None:
        """One status write."""
        self._count("plimsoll_status_writes_total", {})

    def plan_error(self, namespace: str, name: str, percent: str | None) -> None:
        """How far one plan is from its running engine, as the status says it; None: nobody knows."""
        labels = (("name", name), ("namespace", namespace))
        if percent is None:
            self._plan_errors.pop(labels, None)
        else:
            self._plan_errors[labels] = percent.removeprefix("+")

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """A number that is read when it is asked for."""
        self._gauges[name] = read

    def value(self, name: str, **labels: str) -> int:
        """One counter's number."""
        return self._counters[name][tuple(sorted(labels.items()))]

    def exposition(self) -> str:
        """Everything, as Prometheus reads it."""
        lines: list[str] = []
        for name, counters in sorted(self._counters.items()):
            lines.append(f"# TYPE {name} counter")
            lines += [f"{name}{_labels(labels)} {number}" for labels, number in sorted(counters.items())]
        for name, read in sorted(self._gauges.items()):
            lines += [f"# TYPE {name} gauge", f"{name} {read():g}"]
        if self._plan_errors:
            lines.append(f"# TYPE {PLAN_ERROR} gauge")
            lines += [
                f"{PLAN_ERROR}{_labels(labels)} {value}"
                for labels, value in sorted(self._plan_errors.items())
            ]
        for name, histograms in sorted(self._durations.items()):
            lines.append(f"# TYPE {name} histogram")
            for labels, histogram in sorted(histograms.items()):
                lines += _histogram_lines(name, labels, histogram)
        return "\n".join(lines) + "\n"

    def _count(self, name: str, labels: Mapping[str, str]) -> None:
        self._counters[name][tuple(sorted(labels.items()))] += 1


def _histogram_lines(name: str, labels: Labels, histogram: _Histogram) -> list[str]:
    bounds = [f"{bound:g}" for bound in DURATION_BUCKETS_SECONDS] + ["+Inf"]
    numbers = [*histogram.buckets, histogram.count]
    lines = [
        f"{name}_bucket{_labels((*labels, ('le', bound)))} {number}"
        for bound, number in zip(bounds, numbers, strict=True)
    ]
    lines.append(f"{name}_sum{_labels(labels)} {histogram.total_seconds:.6f}")
    lines.append(f"{name}_count{_labels(labels)} {histogram.count}")
    return lines


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
