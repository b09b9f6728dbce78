"""Fixtures of the folder: one sandbox and one operator for all of its tests, a namespace for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from plimsoll.sandbox.binaries import Binaries
from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.session import Sandbox
from support.operator_process import OperatorProcess, World


@pytest.fixture(scope="session")
def running(binaries: Binaries) -> Iterator[Sandbox]:
    with Sandbox(binaries, with_operator=False) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def operator(running: Sandbox) -> Iterator[OperatorProcess]:
    process = OperatorProcess(running)
    process.start_and_lead()
    yield process
    process.child.stop()
    log = process.log()
    refused = [line for line in log.splitlines() if "forbidden" in line.lower()]
    lacks = [line for line in refused if "being terminated" not in line]
    assert not lacks, f"the operator lacks rights: {lacks[:5]}"
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]


@pytest.fixture
def world(running: Sandbox, operator: OperatorProcess) -> Iterator[World]:
    kubectl = running.kubectl
    name = f"test-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name)
    wait_until(
        lambda: kubectl.exists("serviceaccount", "default", "-n", name),
        what="the service account",
        seconds=10,
    )
    yield World(kubectl=kubectl, namespace=name, operator=operator)
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
