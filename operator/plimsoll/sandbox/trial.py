"""A trial of examples on a cluster: apply each file, look until each is as it promises."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll import api
from plimsoll.sandbox.expectations import Finding, Promise, after_apply, of_deployments, of_pods

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from plimsoll.sandbox.expectations import Example, ObjectName
    from plimsoll.sandbox.kubectl import Kubectl, Outcome

_KINDS: Final = f"{api.PLURAL}.{api.GROUP},pods,events"
# How long something final and wrong is believed to be a moment between two steps.
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the cluster holds at one moment, of all namespaces."""

    deployments: tuple[Mapping[str, Any], ...] = ()
    pods: tuple[Mapping[str, Any], ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()

    def deployment(self, name: ObjectName) -> Mapping[str, Any] | None:
        """The ModelDeployment of that name."""
        for found in self.deployments:
            metadata = found["metadata"]
            if (metadata["namespace"], metadata["name"]) == (name.namespace, name.name):
                return found
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one example stands; `seconds` from its apply until it was as promised, None while it is not."""

    example: Example
    finding: Finding
    seconds: float | None = None


class Trial:
    """Some examples, applied in order, and how each stands."""

    def __init__(
        self, kubectl: Kubectl, examples: Sequence[Example], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take kubectl of the cluster, and the files."""
        self._kubectl = kubectl
        self._examples = tuple(examples)
        self._clock = clock
        self._applied_at: dict[Path, float] = {}
        self._decided: dict[Path, Finding] = {}
        self._met_after: dict[Path, float] = {}
        self._wrong_since: dict[Path, float] = {}

    @property
    def examples(self) -> tuple[Example, ...]:
        """The files, in the order in which they are applied."""
        return self._examples

    def apply(self, example: Example) -> Outcome:
        """Apply one file as a user would; what kubectl printed, warnings included."""
        self._applied_at[example.path] = self._clock()
        outcome = self._kubectl("apply", "-f", str(example.path), check=False)
        decided = after_apply(example.expectation, ok=outcome.ok, output=outcome.stderr)
        if decided is not None:
            self._decided[example.path] = decided
        return outcome

    def look(self) -> Snapshot:
        """What the cluster holds now."""
        items = self._kubectl.items(_KINDS)
        return Snapshot(
            deployments=tuple(item for item in items if item["kind"] == api.KIND),
            pods=tuple(item for item in items if item["kind"] == "Pod"),
            events=tuple(item for item in items if item["kind"] == "Event"),
        )

    def results(self, snapshot: Snapshot) -> tuple[Result, ...]:
        """How each example stands."""
        return tuple(self._result(example, snapshot) for example in self._examples)

    def is_over(self, results: Sequence[Result]) -> bool:
        """Whether each example is as promised, or one has been finally wrong for some seconds."""
        return all(result.finding.met or self._is_hopeless(result) for result in results)

    def _result(self, example: Example, snapshot: Snapshot) -> Result:
        finding = self._decided.get(example.path) or self._finding(example, snapshot)
        now = self._clock()
        if finding.met:
            self._met_after.setdefault(example.path, now - self._applied_at.get(example.path, now))
        else:
            self._met_after.pop(example.path, None)
        if finding.final and not finding.met:
            self._wrong_since.setdefault(example.path, now)
        else:
            self._wrong_since.pop(example.path, None)
        return Result(example=example, finding=finding, seconds=self._met_after.get(example.path))

    def _is_hopeless(self, result: Result) -> bool:
        since = self._wrong_since.get(result.example.path)
        return since is not None and self._clock() - since >= _PATIENCE_SECONDS

    def _finding(self, example: Example, snapshot: Snapshot) -> Finding:
        if example.path not in self._applied_at:
            return Finding(met=False, seen="not applied yet")
        if example.expectation.promise is Promise.FILLED:
            return of_pods(self._pods_of(example, snapshot))
        names = example.names(api.KIND)
        if not names:
            return Finding(met=True, seen="applied")
        return of_deployments(example.expectation, [snapshot.deployment(name) for name in names])

    @staticmethod
    def _pods_of(example: Example, snapshot: Snapshot) -> tuple[Mapping[str, Any], ...]:
        """The pods of the file's Deployments, found by the name that Kubernetes gives them."""
        owners = [(name.namespace, f"{name.name}-") for name in example.names("Deployment")]
        return tuple(
            pod
            for pod in snapshot.pods
            for namespace, prefix in owners
            if pod["metadata"]["namespace"] == namespace and pod["metadata"]["name"].startswith(prefix)
        )
