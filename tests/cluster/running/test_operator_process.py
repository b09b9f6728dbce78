"""The operator's process: restarts, two of them, rights, health."""

from __future__ import annotations

import os
import signal
import time

import pytest

from support.operator_process import OperatorProcess

NAMESPACE = "plimsoll-system"


def lease_holder(world):
    return world.kubectl.get("lease", "plimsoll-operator", "-n", NAMESPACE)["spec"]["holderIdentity"]


def test_restarted_in_the_middle_it_goes_on(world):
    slow = {"annotations": {"sandbox.plimsoll.dev/behaviour": "slow-download"}}
    world.apply(world.manifest(pod=slow))
    world.wait_reason("Downloaded", "Downloading")
    world.operator.child.stop()
    world.operator.start_and_lead()
    world.wait_ready()
    assert len(world.children(kinds="jobs")) == 2


def test_restarted_when_all_is_done_it_changes_nothing(world):
    world.apply(world.manifest())
    world.wait_ready()
    world.settle()
    before = {
        key: item["metadata"]["generation"] for key, item in world.children(kinds="deployments,jobs").items()
    }
    status = world.read()["status"]
    world.operator.child.stop()
    world.operator.start_and_lead()
    world.settle()
    after = {
        key: item["metadata"]["generation"] for key, item in world.children(kinds="deployments,jobs").items()
    }
    assert (before, status) == (after, world.read()["status"])


def test_a_clean_end_gives_the_lease_up_at_once(world):
    world.operator.child.stop()
    assert lease_holder(world) == ""
    began = time.monotonic()
    world.operator.start_and_lead()
    assert time.monotonic() - began < 10


def test_of_two_one_leads_and_the_other_takes_over_when_it_is_killed(world, running):
    second = OperatorProcess(running, "second")
    second.start()
    try:
        world.wait("the second to wait", lambda: "waiting for the Lease" in second.log())
        first_holder = lease_holder(world)
        world.apply(world.manifest())
        world.wait_ready()
        assert second.writes() == {}
        assert second.fetch(second.health_port, "/healthz")[0] == 200
        os.kill(world.operator.child.pid, signal.SIGKILL)
        world.apply(world.manifest("n"))
        world.wait("the second to lead", lambda: "watching all namespaces" in second.log())
        assert first_holder != lease_holder(world)
        world.wait_ready("n")
    finally:
        second.child.stop()
        world.operator.child.stop()
        world.operator.start_and_lead()


def test_a_leader_whose_lease_is_taken_ends(world):
    taken = '{"spec":{"holderIdentity":"an impostor","leaseDurationSeconds":2}}'
    world.kubectl("patch", "lease", "plimsoll-operator", "-n", NAMESPACE, "--type=merge", "-p", taken)
    world.wait("the process to end", lambda: not world.operator.child.running)
    assert "an impostor took the Lease" in world.operator.log()
    world.operator.child.stop()
    world.operator.start_and_lead()


@pytest.mark.parametrize(
    ("verb", "resource", "may"),
    [
        ("list", "secrets", "no"),
        ("watch", "secrets", "no"),
        ("create", "secrets", "no"),
        ("create", "pods", "no"),
        ("delete", "pods", "no"),
        ("update", "modeldeployments.plimsoll.dev", "no"),
        ("patch", "nodes", "no"),
        ("create", "roles.rbac.authorization.k8s.io", "no"),
        ("get", "secrets", "yes"),
        ("patch", "deployments.apps", "yes"),
    ],
)
def test_the_operator_has_the_rights_that_it_needs_and_no_more(world, verb, resource, may):
    account = f"--as=system:serviceaccount:{NAMESPACE}:plimsoll-operator"
    answer = world.kubectl("auth", "can-i", verb, resource, account, "-n", world.namespace, check=False)
    assert may == answer.stdout.strip()


@pytest.mark.parametrize("resource", ["secrets", "pods", "configmaps", "modeldeployments.plimsoll.dev"])
def test_the_webhook_may_read_none_of_it(world, resource):
    account = f"--as=system:serviceaccount:{NAMESPACE}:plimsoll-webhook"
    answer = world.kubectl("auth", "can-i", "get", resource, account, "-n", world.namespace, check=False)
    assert answer.stdout.strip() == "no"


def test_health_and_numbers_are_served(world):
    assert world.operator.fetch(world.operator.health_port, "/healthz") == (200, "ok")
    _, text = world.operator.fetch(world.operator.metrics_port, "/metrics")
    assert "# TYPE plimsoll_reconciles_total counter" in text
    assert "plimsoll_queue_depth" in text
