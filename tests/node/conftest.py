"""A real node with the operator and the webhook beside it; nothing is simulated.

Fixtures: `stand` (one per session: the cluster, the Hub stand-in with the models of MODELS, operator and webhook; the
node is started here, or is the cluster that PLIMSOLL_NODE_KUBECONFIG names), `kubectl` on it, `namespace` (a new one per
test, which enforces the restricted level), `at_work` (what is under way from the start of the session on).
Where no real node can run, the tests are skipped with the reason; PLIMSOLL_REQUIRE_NODE=1 makes that a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries import cache_folder, control_plane_binaries, node_binaries
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.progress import Console
from plimsoll.sandbox.realnode import layout
from plimsoll.sandbox.realnode.building import Builder, images
from plimsoll.sandbox.realnode.cluster import RealCluster
from plimsoll.sandbox.realnode.machine import obstacle
from plimsoll.sandbox.session import ProcessFlags, Sandbox
from support.early import Early, begin
from support.node_models import MODELS, hub_flags
from support.on_node import restricted_namespace
from support.small_models import write_model
from support.stand import Named, OwnNode, Stand

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def named() -> Named | None:
    """The cluster that the user named; None: the tests start their own node."""
    try:
        return Named.read()
    except ValueError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def machine(named: Named | None) -> None:
    """Skip, or fail, where no real node can run."""
    if named is not None:
        pytest.skip(
            "the tests run on the cluster that PLIMSOLL_NODE_KUBECONFIG names, not on a node of their own"
        )
    reason = obstacle()
    if reason is None:
        return
    if os.environ.get("PLIMSOLL_REQUIRE_NODE") == "1":
        pytest.fail(f"PLIMSOLL_REQUIRE_NODE is set, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The folder of each model that the Hub stand-in has."""
    folder = tmp_path_factory.mktemp("models")
    return {
        model_id: write_model(model, folder / model_id.replace("/", "--"))
        for model_id, model in MODELS.items()
    }


@pytest.fixture(scope="session")
def stand(
    request: pytest.FixtureRequest,
    named: Named | None,
    model_folders: Mapping[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stand]:
    hub_arguments = hub_flags(model_folders)
    if named is not None:
        with named.opened(hub_arguments, tmp_path_factory.mktemp("named")) as opened:
            yield opened
        return
    request.getfixturevalue("machine")
    with _own_node(hub_arguments) as sandbox:
        yield OwnNode(sandbox=sandbox)


@contextmanager
def _own_node(hub_arguments: tuple[str, ...]) -> Iterator[Sandbox]:
    progress = Console()
    wanted, builder = images(ROOT), Builder(cache_folder(), progress)
    builder.build(wanted)
    settings = (
        f"--operator-image={wanted.operator.name}",
        f"--promptfoo-image={wanted.promptfoo.name}",
        f"--vllm-cpu-image={wanted.vllm_cpu.name}",
        "--image-pull-policy=Never",
    )
    cluster = RealCluster(control_plane_binaries(progress), node_binaries(progress), cache_folder())
    flags = ProcessFlags(hub=(f"--host={layout.BRIDGE_ADDRESS}", *hub_arguments), settings=settings)
    with Sandbox(control_plane_binaries(), cluster=cluster, flags=flags) as sandbox:
        for image in wanted.built:
            builder.load(image, cluster.node)
        yield sandbox


@pytest.fixture(scope="session")
def mutants() -> str:
    """The image of engines that are broken on purpose."""
    return images(ROOT).mutants.name


@pytest.fixture(scope="session")
def kubectl(stand: Stand) -> Kubectl:
    return stand.kubectl


@pytest.fixture(scope="session")
def at_work(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Early]:
    """A slow download, and the engines that are measured: they take their time while other tests run."""
    with (
        restricted_namespace(stand.kubectl) as name,
        begin(stand, name, tmp_path_factory.mktemp("early")) as early,
    ):
        yield early


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    with restricted_namespace(kubectl) as name:
        yield name


@pytest.fixture(scope="module")
def shared_namespace(kubectl: Kubectl) -> Iterator[str]:
    """One for the tests of a module that look at the same ModelDeployment."""
    with restricted_namespace(kubectl) as name:
        yield name
