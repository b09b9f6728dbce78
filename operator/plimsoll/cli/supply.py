"""The hardware that a manifest is held against: named on the command line, listed in a file, or a cluster's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimsoll.cli.cluster_view import read_cluster
from plimsoll.cli.errors import WrongUsageError
from plimsoll.cli.files import read_documents
from plimsoll.manifests.engine import runs_on_cpu
from plimsoll.reconcile.node_pools import NodeSurvey, survey_nodes
from plimsoll.reconcile.node_usage import dra_nodes, free_nodes
from plimsoll.sizing.gpus import UnknownAccelerator, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plimsoll.api.spec import ModelDeployment
    from plimsoll.cli.cluster_view import ClusterView
    from plimsoll.cli.options import HardwareOptions, PlaceOptions

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What there is to run on.

    Attributes:
        nodes: the Node objects; None where the command line or the manifest names the hardware.
        pods: what holds GPUs on them; None where that is not known.
        slices: ResourceSlices of DRA.
    """

    hardware: HardwareOptions
    nodes: tuple[Manifest, ...] | None = None
    pods: tuple[Manifest, ...] | None = None
    slices: tuple[Manifest, ...] = ()

    def survey(self, deployment: ModelDeployment) -> NodeSurvey:
        """The pools that one ModelDeployment may use, and why other nodes are left out.

        Raises:
            WrongUsageError: nothing says which hardware there is.
        """
        if self.nodes is not None:
            return survey_nodes(self.nodes, deployment.spec, dra_nodes(self.slices))
        if runs_on_cpu(deployment.spec):
            return NodeSurvey(pools=(self.hardware.cpu_pool(),))
        if self.hardware.given:
            return NodeSurvey(pools=tuple(self.hardware.pool(card) for card in self.hardware.cards()))
        hardware = deployment.spec.hardware
        product = hardware.gpu.product if hardware is not None and hardware.gpu is not None else None
        if product is None:
            raise WrongUsageError(
                f"nothing says which GPUs {deployment.name} may use: give --gpu NAME, --nodes-file FILE or "
                "--context NAME, or set spec.hardware.gpu.product."
            )
        try:
            return NodeSurvey(pools=(self.hardware.pool(find(product)),))
        except UnknownAccelerator as error:
            raise WrongUsageError(f"spec.hardware.gpu.product of {deployment.name}: {error}") from None

    def free_survey(self, deployment: ModelDeployment) -> NodeSurvey | None:
        """The same of what other pods leave free; None where they are not known."""
        if self.nodes is None or self.pods is None:
            return None
        free = free_nodes(self.nodes, self.pods, deployment)
        return survey_nodes(free, deployment.spec, dra_nodes(self.slices))


def supply_of(hardware: HardwareOptions, place: PlaceOptions, namespaces: Iterable[str]) -> Supply:
    """Read the nodes from where the command line says; one place only.

    Raises:
        WrongUsageError: two places are named, or the file holds no node.
        UnreachableError: the cluster did not answer.
    """
    named = [
        name
        for name, given in (
            ("--gpu or --gpu-memory", hardware.given),
            ("--nodes-file", place.nodes_file is not None),
            ("--kubeconfig or --context", place.cluster),
        )
        if given
    ]
    if len(named) > 1:
        raise WrongUsageError(f"{' and '.join(named)} name the hardware twice; give one of them.")
    if place.nodes_file is not None:
        return _from_file(hardware, str(place.nodes_file))
    if place.cluster:
        return supply_in(hardware, read_cluster(place.kubeconfig, place.context, namespaces))
    return Supply(hardware=hardware)


def supply_in(hardware: HardwareOptions, view: ClusterView) -> Supply:
    """What a cluster has."""
    return Supply(hardware=hardware, nodes=view.nodes, pods=view.pods, slices=view.slices)


def _from_file(hardware: HardwareOptions, path: str) -> Supply:
    """The Node objects of a file, and the Pods and ResourceSlices beside them.

    Raises:
        WrongUsageError: it cannot be read, or holds no node.
    """
    documents = tuple(read_documents(path, "--nodes-file"))
    nodes = tuple(one for one in documents if one.get("kind") == "Node")
    if not nodes:
        raise WrongUsageError(
            f"--nodes-file {path} holds no Node; write it with `kubectl get nodes -o json`."
        )
    _check_nodes(nodes, path)
    pods = tuple(one for one in documents if one.get("kind") == "Pod")
    slices = tuple(one for one in documents if one.get("kind") == "ResourceSlice")
    if not all(_is_pod(pod) for pod in pods) or not all(isinstance(one.get("spec"), dict) for one in slices):
        raise WrongUsageError(
            f"--nodes-file {path}: a Pod or a ResourceSlice has not the form of the API server; write the file with "
            "`kubectl get nodes,pods -A -o json`."
        )
    return Supply(hardware=hardware, nodes=nodes, pods=pods or None, slices=slices)


def _check_nodes(nodes: Sequence[Manifest], path: str) -> None:
    """Whatever is read of a node must have the form that an API server gives it."""
    for number, node in enumerate(nodes, start=1):
        wrong = _malformed(node)
        if wrong is not None:
            raise WrongUsageError(
                f"--nodes-file {path}: {wrong} of node {number} has not the form of the API server; write the file "
                "with `kubectl get nodes -o json`."
            )


def _malformed(node: Manifest) -> str | None:
    """The first field that is not as an API server writes it."""
    metadata, spec, status = (node.get(part) for part in ("metadata", "spec", "status"))
    if not isinstance(metadata, dict) or not _texts(metadata.get("labels")):
        return "metadata.labels"
    if not isinstance(spec or {}, dict) or not _objects((spec or {}).get("taints")):
        return "spec.taints"
    if not isinstance(status, dict) or not _objects(status.get("conditions")):
        return "status.conditions"
    amounts = [status.get(name) for name in ("allocatable", "capacity")]
    return None if all(_texts(one) for one in amounts) else "status.allocatable"


def _is_pod(pod: Manifest) -> bool:
    """Whether what is read of a pod has the form that an API server gives it."""
    metadata, spec, status = (pod.get(part, {}) for part in ("metadata", "spec", "status"))
    if not all(isinstance(part, dict) for part in (metadata, spec, status)):
        return False
    groups = [spec.get(name) for name in ("containers", "initContainers")]
    if not _texts(metadata.get("labels")) or not all(_objects(group) for group in groups):
        return False
    resources = [container.get("resources", {}) for group in groups for container in group or ()]
    return all(
        isinstance(one, dict) and _texts(one.get("requests")) and _texts(one.get("limits"))
        for one in resources
    )


def _texts(value: Any) -> bool:
    """Whether it is absent, or an object of texts; a quantity may stand as a number in YAML."""
    if value is None:
        return True
    return isinstance(value, dict) and all(
        isinstance(one, str | int) and not isinstance(one, bool) for one in value.values()
    )


def _objects(value: Any) -> bool:
    """Whether it is absent, or a list of objects."""
    return value is None or (isinstance(value, list) and all(isinstance(one, dict) for one in value))
