from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.host import component_resources
from plimsoll.sizing.plan import HostResources
from plimsoll.units import GB, GIB

# Model files in GB -> cores and GiB, requests and limits, of download and server.
TABLE = [
    ("opt-125m", GB // 4, (1, 2, 2, 4), (2, 4, 4, 8)),
    ("opt-350m", GB, (2, 4, 4, 8), (2, 4, 6, 12)),
    ("opt-1.3b", 3 * GB, (2, 4, 6, 12), (4, 8, 8, 16)),
    ("7b", 14 * GB, (2, 4, 8, 16), (4, 8, 12, 24)),
    ("13b", 26 * GB, (2, 4, 12, 24), (6, 12, 16, 32)),
    ("30b", 45 * GB, (4, 8, 16, 32), (8, 16, 24, 48)),
    ("70b", 138 * GB, (4, 8, 16, 32), (12, 24, 32, 64)),
    ("unknown", None, (2, 4, 4, 8), (4, 8, 8, 16)),
]


def numbers(host: HostResources) -> tuple[int, int, int, int]:
    return (
        host.cpu_request_millicores // 1000,
        host.cpu_limit_millicores // 1000,
        host.memory_request_bytes // GIB,
        host.memory_limit_bytes // GIB,
    )


@pytest.mark.parametrize(
    ("weights_bytes", "download", "server"), [pytest.param(*row[1:], id=row[0]) for row in TABLE]
)
def test_one_card_gets_the_numbers_that_users_know(
    weights_bytes: int | None, download: tuple[int, int, int, int], server: tuple[int, int, int, int]
) -> None:
    found = component_resources(weights_bytes, tensor_parallel_size=1, cpu_only_kv_bytes=None)
    assert download == numbers(found.download)
    assert server == numbers(found.server)
    assert numbers(found.test) == (1, 2, 2, 4)
    assert all(host.reason for host in (found.download, found.server, found.test))


@pytest.mark.parametrize(
    ("weights_bytes", "workers", "memory"),
    [
        pytest.param(26 * GB, 2, (24, 48), id="13b-on-2"),
        pytest.param(138 * GB, 4, (48, 96), id="70b-on-4"),
    ],
)
def test_workers_take_host_memory_each(weights_bytes: int, workers: int, memory: tuple[int, int]) -> None:
    server = component_resources(weights_bytes, tensor_parallel_size=workers, cpu_only_kv_bytes=None).server
    assert memory == (server.memory_request_bytes // GIB, server.memory_limit_bytes // GIB)
    assert f"{workers} workers" in server.reason


def test_a_worker_has_a_core_and_the_engine_two() -> None:
    server = component_resources(14 * GB, tensor_parallel_size=8, cpu_only_kv_bytes=None).server
    assert server.cpu_request_millicores == 10_000
    assert "one core for each worker" in server.reason


def test_without_a_gpu_weights_and_cache_stand_in_memory() -> None:
    server = component_resources(14 * GB, tensor_parallel_size=1, cpu_only_kv_bytes=16 * GIB).server
    assert server.memory_request_bytes >= 14 * GB + 16 * GIB
    assert "CPU only" in server.reason


@given(weights=st.integers(0, 2**42), more=st.integers(0, 2**40), workers=st.integers(1, 8))
def test_more_weights_never_get_less(weights: int, more: int, workers: int) -> None:
    small = component_resources(weights, tensor_parallel_size=workers, cpu_only_kv_bytes=None)
    large = component_resources(weights + more, tensor_parallel_size=workers, cpu_only_kv_bytes=None)
    for component in ("download", "server", "test"):
        before, after = getattr(small, component), getattr(large, component)
        assert before.memory_request_bytes <= after.memory_request_bytes <= after.memory_limit_bytes
        assert before.cpu_request_millicores <= after.cpu_request_millicores <= after.cpu_limit_millicores
