"""A trial is over when all is as promised, or when something has been finally wrong for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plimsoll.sandbox.expectations import Example, ObjectName, parse_expectation
from plimsoll.sandbox.kubectl import Outcome
from plimsoll.sandbox.trial import Snapshot, Trial


class Kubectl:
    """kubectl whose answers are given."""

    def __init__(self, *, ok: bool = True, stderr: str = "", items: tuple[dict[str, Any], ...] = ()) -> None:
        self.outcome = Outcome(status=0 if ok else 1, stdout="", stderr=stderr)
        self.found = items
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str, check: bool = True) -> Outcome:
        self.calls.append(arguments)
        return self.outcome

    def items(self, kinds: str) -> tuple[dict[str, Any], ...]:
        return self.found


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def example(promise: str, kind: str = "ModelDeployment", name: str = "m") -> Example:
    path = Path(f"{name}.yaml")
    return Example(
        path=path,
        expectation=parse_expectation(f"# expect: {promise}", path),
        objects=(ObjectName(kind=kind, namespace="default", name=name),),
    )


def deployment(ready: str, reason: str, *, stalled: bool = False) -> dict[str, Any]:
    kinds = [("Ready", ready), *([("Stalled", "True")] if stalled else [])]
    conditions = [{"type": k, "status": s, "reason": reason, "observedGeneration": 1} for k, s in kinds]
    metadata = {"name": "m", "namespace": "default", "generation": 1}
    return {"kind": "ModelDeployment", "metadata": metadata, "status": {"conditions": conditions}}


def test_an_example_is_met_after_the_time_since_its_apply() -> None:
    clock, tried = Clock(), example("Ready")
    trial = Trial(Kubectl(), [tried], clock)
    before = trial.results(Snapshot())
    trial.apply(tried)
    clock.now += 7

    after = trial.results(Snapshot(deployments=(deployment("True", "Serving"),)))

    assert (before[0].finding.seen, trial.is_over(before)) == ("not applied yet", False)
    assert (after[0].seconds, trial.is_over(after)) == (7.0, True)


def test_an_example_that_lost_its_state_is_no_longer_met() -> None:
    clock, tried = Clock(), example("Ready")
    trial = Trial(Kubectl(), [tried], clock)
    trial.apply(tried)
    trial.results(Snapshot(deployments=(deployment("True", "Serving"),)))

    lost = trial.results(Snapshot(deployments=(deployment("False", "Loading"),)))

    assert (lost[0].seconds, trial.is_over(lost)) == (None, False)


def test_what_is_finally_wrong_ends_the_trial_after_a_while() -> None:
    clock, tried = Clock(), example("Ready")
    trial = Trial(Kubectl(), [tried], clock)
    trial.apply(tried)
    wrong = Snapshot(deployments=(deployment("False", "TestFailed", stalled=True),))

    at_once = trial.is_over(trial.results(wrong))
    clock.now += 6
    later = trial.is_over(trial.results(wrong))

    assert (at_once, later) == (False, True)


def test_what_was_wrong_for_a_moment_does_not_end_it() -> None:
    clock, tried = Clock(), example("Ready")
    trial = Trial(Kubectl(), [tried], clock)
    trial.apply(tried)
    trial.results(Snapshot(deployments=(deployment("False", "TestFailed", stalled=True),)))
    clock.now += 6
    trial.results(Snapshot(deployments=(deployment("False", "Testing"),)))

    again = trial.results(Snapshot(deployments=(deployment("False", "TestFailed", stalled=True),)))

    assert not trial.is_over(again)


@pytest.mark.parametrize(
    ("ok", "stderr", "met"),
    [(False, "denied: spec.model.revision: a path", True), (False, "other", False), (True, "", False)],
    ids=["refused as promised", "refused for another reason", "accepted"],
)
def test_a_refusal_is_decided_by_the_apply(ok: bool, stderr: str, met: bool) -> None:
    tried = example("refused by admission: spec.model.revision")
    trial = Trial(Kubectl(ok=ok, stderr=stderr), [tried], Clock())
    trial.apply(tried)

    assert met is trial.results(Snapshot())[0].finding.met


@pytest.mark.parametrize(
    ("pod", "met"),
    [("m-5c9-x1", True), ("other-5c9-x1", False)],
    ids=["pod of the Deployment", "pod of another"],
)
def test_a_filled_deployment_is_judged_by_its_pods(pod: str, met: bool) -> None:
    resources = {part: {"cpu": "1", "memory": "1Gi"} for part in ("requests", "limits")}
    found = {
        "kind": "Pod",
        "metadata": {"name": pod, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "resources": resources}]},
    }
    tried = example("filled", kind="Deployment")
    trial = Trial(Kubectl(), [tried], Clock())
    trial.apply(tried)

    assert met is trial.results(Snapshot(pods=(found,)))[0].finding.met


def test_a_look_sorts_what_kubectl_lists() -> None:
    items = tuple({"kind": kind} for kind in ("Pod", "ModelDeployment", "Event", "Pod"))

    found = Trial(Kubectl(items=items), [], Clock()).look()

    assert (len(found.deployments), len(found.pods), len(found.events)) == (1, 2, 1)
