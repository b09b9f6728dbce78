"""A real node with the operator and the webhook beside it; nothing is simulated.

Fixtures: `sandbox` (one per session: control plane, kubelet, containerd, Hub stand-in with the models of MODELS,
operator, webhook, images), `kubectl` on it, `namespace` (a new one per test, which enforces the restricted level).
Where no real node can run, the tests are skipped with the reason; PLIMSOLL_REQUIRE_NODE=1 makes that a failure.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries import cache_folder, control_plane_binaries, node_binaries
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.progress import Console
from plimsoll.sandbox.realnode import layout
from plimsoll.sandbox.realnode.building import Builder, Images, folder_image, images
from plimsoll.sandbox.realnode.cluster import RealCluster
from plimsoll.sandbox.realnode.machine import obstacle
from plimsoll.sandbox.session import ProcessFlags, Sandbox
from support.small_models import SmallModel, write_model

ROOT = Path(__file__).parents[2]
MODELS = {
    "tiny/llama-chat": SmallModel(seed=1),
    "tiny/llama-base": SmallModel(seed=2, has_chat_template=False),
}


@pytest.fixture(scope="session")
def machine() -> None:
    """Skip, or fail, where no real node can run."""
    reason = obstacle()
    if reason is None:
        return
    if os.environ.get("PLIMSOLL_REQUIRE_NODE") == "1":
        pytest.fail(f"PLIMSOLL_REQUIRE_NODE is set, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def built(machine: None) -> Images:
    wanted = images(ROOT)
    Builder(cache_folder(), Console()).build(wanted)
    return wanted


@pytest.fixture(scope="session")
def sandbox(built: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    progress = Console()
    folder = tmp_path_factory.mktemp("models")
    hub = [f"--host={layout.BRIDGE_ADDRESS}"]
    for model_id, model in MODELS.items():
        hub += ["--repo", f"{model_id}={write_model(model, folder / model_id.replace('/', '--'))}"]
    settings = (
        f"--operator-image={built.operator.name}",
        f"--promptfoo-image={built.promptfoo.name}",
        f"--vllm-cpu-image={built.vllm_cpu.name}",
        "--image-pull-policy=Never",
    )
    cluster = RealCluster(control_plane_binaries(progress), node_binaries(progress), cache_folder())
    flags = ProcessFlags(hub=tuple(hub), settings=settings)
    with Sandbox(control_plane_binaries(), cluster=cluster, flags=flags) as sandbox:
        builder = Builder(cache_folder(), progress)
        for image in built.built:
            builder.load(image, cluster.node)
        yield sandbox


@pytest.fixture(scope="session")
def mutants(sandbox: Sandbox, built: Images) -> str:
    """The image of engines that are broken on purpose, loaded."""
    builder = Builder(cache_folder(), Console())
    image = folder_image("localhost/plimsoll-mutants:v0.32.0", Path(__file__).parent / "mutants", built.base)
    builder.build_one(image, built.base)
    cluster = sandbox.cluster
    assert isinstance(cluster, RealCluster)
    builder.load(image, cluster.node)
    return image.name


@pytest.fixture(scope="session")
def kubectl(sandbox: Sandbox) -> Kubectl:
    return sandbox.kubectl


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    yield from _restricted_namespace(kubectl)


@pytest.fixture(scope="module")
def shared_namespace(kubectl: Kubectl) -> Iterator[str]:
    """One for the tests of a module that look at the same ModelDeployment."""
    yield from _restricted_namespace(kubectl)


def _restricted_namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"node-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    wait_until(
        lambda: kubectl.exists("serviceaccount", "default", "-n", name),
        what=f"the service account of {name}",
        seconds=30,
        poll_seconds=0.1,
    )
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
