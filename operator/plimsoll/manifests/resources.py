"""CPU and memory of a pod: what the user set wins, what is missing comes from the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimsoll.manifests.labels import Component
from plimsoll.units import bytes_quantity, millicores_quantity, parse_bytes, parse_millicores

if TYPE_CHECKING:
    from plimsoll.api.spec import ComponentResourcesSpec, ModelDeploymentSpec, ResourceAmounts
    from plimsoll.api.status import PlannedComponents, PlannedResources


@dataclass(frozen=True, slots=True, kw_only=True)
class PodResources:
    """Requests and limits of one component; a limit is never below its request."""

    cpu_request_millicores: int
    cpu_limit_millicores: int
    memory_request_bytes: int
    memory_limit_bytes: int

    def to_json(self) -> dict[str, Any]:
        """As a container holds them."""
        return {
            "requests": {
                "cpu": millicores_quantity(self.cpu_request_millicores),
                "memory": bytes_quantity(self.memory_request_bytes),
            },
            "limits": {
                "cpu": millicores_quantity(self.cpu_limit_millicores),
                "memory": bytes_quantity(self.memory_limit_bytes),
            },
        }


def component_resources(
    planned: PlannedComponents, spec: ModelDeploymentSpec, component: Component
) -> PodResources:
    """What the pods of one component ask for.

    Raises:
        plimsoll.units.QuantityError: a quantity of the user's is none (validation comes first).
    """
    wishes: dict[Component, ComponentResourcesSpec | None] = {}
    if spec.resources is not None:
        wishes = {
            Component.DOWNLOAD: spec.resources.download,
            Component.SERVER: spec.resources.server,
            Component.TEST: spec.resources.test,
        }
    by_component: dict[Component, PlannedResources] = {
        Component.DOWNLOAD: planned.download,
        Component.SERVER: planned.server,
        Component.TEST: planned.test,
    }
    return merged(by_component[component], wishes.get(component))


def merged(planned: PlannedResources, wish: ComponentResourcesSpec | None) -> PodResources:
    """The plan's amounts with the user's over them.

    A computed request gives way to a limit that the user set below it, and a computed limit to a request above.
    """
    requests = wish.requests if wish is not None else None
    limits = wish.limits if wish is not None else None
    cpu = _pair(
        (_millicores(requests), _millicores(limits)),
        (parse_millicores(planned.cpu_request), parse_millicores(planned.cpu_limit)),
    )
    memory = _pair(
        (_memory(requests), _memory(limits)),
        (parse_bytes(planned.memory_request), parse_bytes(planned.memory_limit)),
    )
    return PodResources(
        cpu_request_millicores=cpu[0],
        cpu_limit_millicores=cpu[1],
        memory_request_bytes=memory[0],
        memory_limit_bytes=memory[1],
    )


def _pair(wish: tuple[int | None, int | None], planned: tuple[int, int]) -> tuple[int, int]:
    request, limit = wish
    if request is None:
        request = planned[0] if limit is None else min(planned[0], limit)
    if limit is None:
        limit = max(planned[1], request)
    return request, limit


def _millicores(amounts: ResourceAmounts | None) -> int | None:
    return parse_millicores(amounts.cpu) if amounts is not None and amounts.cpu is not None else None


def _memory(amounts: ResourceAmounts | None) -> int | None:
    return parse_bytes(amounts.memory) if amounts is not None and amounts.memory is not None else None
