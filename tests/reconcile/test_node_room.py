"""A pod that asks for more CPU or host memory than any node has is told before it stays Pending."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plan_samples import SETTINGS, deployment, facts, pool

from plimsoll.api.status import PlanStatus
from plimsoll.reconcile.planning import plan_for
from plimsoll.units import GIB


def warnings(cores: int, gib: int, **fields: Any) -> tuple[str, ...]:
    """Of a 7B on a node with so much; its server asks for 4 cores and 12 GiB, its download for 2 and 8."""
    nodes = replace(pool(), allocatable_millicores=cores * 1000, allocatable_bytes=gib * GIB)
    plan = plan_for(deployment(**fields), facts(), [nodes], SETTINGS)
    assert isinstance(plan, PlanStatus)
    return tuple(one for one in plan.warnings or () if "stay Pending" in one)


@pytest.mark.parametrize(
    ("cores", "gib", "expected"),
    [
        pytest.param(4, 12, (), id="just enough"),
        pytest.param(
            4, 11, (("server", "12Gi of memory", "11.00 GiB", "server.requests.memory"),), id="memory"
        ),
        pytest.param(3, 12, (("server", "4 CPU", "has 3", "server.requests.cpu"),), id="cores"),
        pytest.param(
            4,
            7,
            (
                ("download", "8Gi of memory", "7.00 GiB", "download.requests.memory"),
                ("server", "12Gi", "", ""),
            ),
            id="both pods",
        ),
    ],
)
def test_a_request_beyond_every_node_is_told(
    cores: int, gib: int, expected: tuple[tuple[str, ...], ...]
) -> None:
    found = warnings(cores, gib)

    assert len(found) == len(expected)
    for sentence, words in zip(found, expected, strict=True):
        assert all(word in sentence for word in words), sentence


def test_what_the_user_set_counts() -> None:
    server = {"requests": {"memory": "6Gi"}, "limits": {"memory": "6Gi"}}

    assert warnings(4, 11, resources={"server": server}) == ()


def test_a_limit_is_cut_to_the_node() -> None:
    nodes = replace(pool(), allocatable_millicores=8000, allocatable_bytes=16 * GIB)
    plan = plan_for(deployment(), facts(), [nodes], SETTINGS)

    assert isinstance(plan, PlanStatus)
    assert (plan.resources.server.memory_request, plan.resources.server.memory_limit) == ("12Gi", "16Gi")
