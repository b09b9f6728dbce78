"""Whether the pods of a plan find the CPU and host memory that they ask for on any node there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plimsoll.manifests.labels import Component
from plimsoll.manifests.resources import component_resources
from plimsoll.units import bytes_quantity, format_size, millicores_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plimsoll.api.spec import ModelDeploymentSpec
    from plimsoll.api.status import PlannedComponents
    from plimsoll.sizing.accelerators import NodePool


def room_warnings(planned: PlannedComponents, spec: ModelDeploymentSpec, pool: NodePool) -> tuple[str, ...]:
    """One sentence for each request that no node of the pool can grant; such a pod stays Pending."""
    return tuple(_warnings(planned, spec, pool))


def _warnings(planned: PlannedComponents, spec: ModelDeploymentSpec, pool: NodePool) -> Iterator[str]:
    # The test pod may land anywhere; the other two run on the nodes of the plan.
    for component in (Component.DOWNLOAD, Component.SERVER):
        asked = component_resources(planned, spec, component)
        field = f"spec.resources.{component.value}.requests"
        if pool.allocatable_bytes is not None and asked.memory_request_bytes > pool.allocatable_bytes:
            yield (
                f"The {component.value} asks for {bytes_quantity(asked.memory_request_bytes)} of memory and the largest "
                f"node of {pool.name} has {format_size(pool.allocatable_bytes)}: its pod would stay Pending; set "
                f"{field}.memory, or use a node with more."
            )
        cores = asked.cpu_request_millicores
        if pool.allocatable_millicores is not None and cores > pool.allocatable_millicores:
            yield (
                f"The {component.value} asks for {millicores_quantity(cores)} CPU and the largest node of {pool.name} "
                f"has {millicores_quantity(pool.allocatable_millicores)}: its pod would stay Pending; set {field}.cpu, or "
                "use a node with more."
            )
