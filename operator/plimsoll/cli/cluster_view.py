"""What a cluster has that sizing asks about: its nodes, and the quotas of some namespaces. Reads only."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plimsoll.cli.errors import UnreachableError, WrongUsageError
from plimsoll.manifests import labels
from plimsoll.manifests.names import label_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from plimsoll.api.spec import ModelDeployment
    from plimsoll.cluster.client import ClusterClient
    from plimsoll.cluster.kinds import Kind

Manifest = dict[str, Any]
_OURS = labels.MODEL_DEPLOYMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """One look at a cluster.

    Attributes:
        pods: of all namespaces; None where the user may not list them, or nobody asked a cluster.
        slices: ResourceSlices, empty where the cluster has none or the user may not list them.
        quotas, children: by namespace; children are the Deployments, Jobs and claims that the operator made there.
    """

    nodes: tuple[Manifest, ...]
    pods: tuple[Manifest, ...] | None = None
    slices: tuple[Manifest, ...] = ()
    quotas: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    children: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)

    def children_of(self, deployment: ModelDeployment) -> tuple[Manifest, ...]:
        """What the operator already made for this ModelDeployment."""
        value = label_value(deployment.name)
        found = self.children.get(deployment.namespace, ())
        return tuple(one for one in found if one["metadata"].get("labels", {}).get(_OURS) == value)


def read_cluster(kubeconfig: Path | None, context: str | None, namespaces: Iterable[str]) -> ClusterView:
    """Look at the cluster of a kubeconfig.

    Raises:
        WrongUsageError: there is no kubeconfig, or it says nothing usable.
        UnreachableError: the cluster did not answer, or not with what was asked for.
    """
    return asyncio.run(_read(kubeconfig or default_kubeconfig(), context, sorted(set(namespaces))))


def default_kubeconfig() -> Path:
    """The file that kubectl would read first.

    Raises:
        WrongUsageError: there is none.
    """
    named = [entry for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry]
    candidates = [Path(entry) for entry in named] or [Path.home() / ".kube" / "config"]
    for path in candidates:
        if path.is_file():
            return path
    shown = ", ".join(str(path) for path in candidates)
    raise WrongUsageError(
        f"there is no kubeconfig ({shown}); name one with --kubeconfig FILE, or the hardware with --gpu NAME."
    )


async def _read(kubeconfig: Path, context: str | None, namespaces: Iterable[str]) -> ClusterView:
    # The Kubernetes client costs most of a second, so only the commands that ask a cluster import it.
    from plimsoll.cluster import kinds
    from plimsoll.cluster.client import ClusterClient
    from plimsoll.cluster.connection import NoConnectionError, load_configuration
    from plimsoll.cluster.errors import ClusterError

    try:
        configuration = await load_configuration(kubeconfig, context)
    except NoConnectionError as error:
        raise WrongUsageError(f"{error}.") from None
    quotas: dict[str, tuple[Manifest, ...]] = {}
    children: dict[str, tuple[Manifest, ...]] = {}
    try:
        async with ClusterClient(configuration) as client:
            nodes = (await client.list(kinds.NODE)).items
            pods = await _optional(client, kinds.POD)
            slices = await _optional(client, kinds.RESOURCE_SLICE)
            for namespace in namespaces:
                quotas[namespace] = (await client.list(kinds.RESOURCE_QUOTA, namespace)).items
                found = [
                    (await client.list(kind, namespace, label_selector=_OURS)).items
                    for kind in (kinds.DEPLOYMENT, kinds.JOB, kinds.CLAIM, kinds.POD)
                ]
                children[namespace] = tuple(item for items in found for item in items)
    except ClusterError as error:
        raise UnreachableError(
            f"{error}; check the kubeconfig {kubeconfig} and that its user may list nodes and resourcequotas."
        ) from None
    return ClusterView(nodes=nodes, pods=pods, slices=slices or (), quotas=quotas, children=children)


async def _optional(client: ClusterClient, kind: Kind) -> tuple[Manifest, ...] | None:
    """All objects of a kind in the cluster; None where it has no such kind or the user may not list them."""
    from plimsoll.cluster.errors import ApiError

    try:
        return (await client.list(kind)).items
    except ApiError as error:
        if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            return None
        raise
