"""A real control plane for the tests of this folder; never a cluster that was not named on purpose.

Fixtures: `control_plane` (one per session: API server, controller manager, scheduler, our CRD; no node, no
operator), `kubectl` on it, `namespace` (a new one per test); `simulation` (one per session: another control plane
with simulated GPU nodes and volumes, no operator) and `simulated_namespace`; `sandbox` (one per session: another
simulated cluster with the Hub stand-in, the operator and its webhooks) and `sandbox_namespace`.
PLIMSOLL_TEST_CONTEXT=<context of your kubeconfig> runs the tests that need no more than `kubectl` against it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries import Binaries, control_plane_binaries
from plimsoll.sandbox.controlplane import ControlPlane
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.progress import Console
from plimsoll.sandbox.session import Sandbox
from plimsoll.sandbox.simulated import SimulatedCluster

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "plimsoll.dev_modeldeployments.yaml"


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    return control_plane_binaries(Console())


@pytest.fixture(scope="session")
def control_plane(binaries: Binaries) -> Iterator[ControlPlane]:
    with ControlPlane(binaries) as control_plane:
        install_crd(control_plane.kubectl)
        yield control_plane


def install_crd(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", str(CRD))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD))


@dataclass(frozen=True)
class NamedCluster:
    """A cluster that somebody named on purpose."""

    kubectl: Kubectl


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest, binaries: Binaries, tmp_path_factory: pytest.TempPathFactory
) -> ControlPlane | NamedCluster:
    """The control plane made here, or the context that PLIMSOLL_TEST_CONTEXT names; nothing else is ever touched."""
    context = os.environ.get("PLIMSOLL_TEST_CONTEXT")
    if not context:
        return request.getfixturevalue("control_plane")
    folder = tmp_path_factory.mktemp("named-cluster")
    source = Path(os.environ.get("KUBECONFIG", Path.home() / ".kube" / "config"))
    outside = Kubectl(binary=binaries["kubectl"], kubeconfig=source, cache=folder / "cache")
    config = folder / "kubeconfig"
    config.touch(mode=0o600)
    config.write_text(
        outside("config", "view", "--raw", "--minify", "--flatten", f"--context={context}").stdout
    )
    kubectl = Kubectl(binary=binaries["kubectl"], kubeconfig=config, cache=folder / "cache")
    install_crd(kubectl)
    return NamedCluster(kubectl=kubectl)


@pytest.fixture(scope="session")
def kubectl(cluster: ControlPlane | NamedCluster) -> Kubectl:
    return cluster.kubectl


def new_namespace(kubectl: Kubectl) -> str:
    name = f"test-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name)
    return name


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    name = new_namespace(kubectl)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def simulation(binaries: Binaries) -> Iterator[SimulatedCluster]:
    with SimulatedCluster(binaries) as simulation:
        install_crd(simulation.kubectl)
        yield simulation


@pytest.fixture
def simulated_namespace(simulation: SimulatedCluster) -> Iterator[str]:
    yield from namespace_for_pods(simulation.kubectl)


def namespace_for_pods(kubectl: Kubectl) -> Iterator[str]:
    """A namespace in which pods can be created: admission wants its service account."""
    name = new_namespace(kubectl)
    wait_until(
        lambda: kubectl.exists("serviceaccount", "default", "-n", name),
        what=f"the service account of {name}",
        seconds=30,
        poll_seconds=0.1,
    )
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def sandbox(binaries: Binaries) -> Iterator[Sandbox]:
    with Sandbox(binaries) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox_namespace(sandbox: Sandbox) -> Iterator[str]:
    yield from namespace_for_pods(sandbox.kubectl)
