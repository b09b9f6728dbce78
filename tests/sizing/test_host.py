"""CPU and host memory: never below what users know, above it where the processes hold more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.facts import RepoFile
from plimsoll.sizing.host import HostLoad, component_resources, pickled_bytes
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
SEVEN = HostLoad(weights_bytes=14 * GB)


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
    found = component_resources(HostLoad(weights_bytes=weights_bytes))
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
    server = component_resources(HostLoad(weights_bytes=weights_bytes, workers=workers)).server
    assert memory == (server.memory_request_bytes // GIB, server.memory_limit_bytes // GIB)
    assert f"{workers} workers" in server.reason


def test_a_worker_has_a_core_and_the_engine_two() -> None:
    server = component_resources(replace(SEVEN, workers=8)).server
    assert server.cpu_request_millicores == 10_000
    assert "one core for each worker" in server.reason


@pytest.mark.parametrize(
    ("load", "expected", "words"),
    [
        # Two caches of 4 GiB and three processes of 1.25 GiB are 11.75, and a small model's class says 4.
        pytest.param(
            HostLoad(weights_bytes=GB // 4, multimodal=True),
            (4, 8, 12, 24),
            "8.00 GiB of prepared images and sound; 2 cores",
            id="images of a small model",
        ),
        pytest.param(
            replace(SEVEN, multimodal=True), (6, 12, 12, 24), "images and sound", id="images of a 7B"
        ),
        pytest.param(
            replace(SEVEN, cpu_offload_bytes=8 * GIB, workers=2),
            (4, 8, 36, 72),
            "8.00 GiB each|16.00 GiB of weights kept on the host",
            id="offload",
        ),
        # 3.75 GiB of processes, 2 of shared memory and the file are 9.75; twice the request would be 8.
        pytest.param(
            HostLoad(weights_bytes=GB // 4, pickled_bytes=4 * GIB, workers=1),
            (2, 4, 4, 10),
            "4.00 GiB of files that each worker reads whole, while loading",
            id="pickled files",
        ),
    ],
)
def test_what_the_processes_hold_is_there(
    load: HostLoad, expected: tuple[int, int, int, int], words: str
) -> None:
    server = component_resources(load).server

    assert numbers(server) == expected
    assert any(word in server.reason for word in words.split("|"))


def test_safetensors_are_mapped_and_pickles_are_read_whole() -> None:
    safe = (
        RepoFile(path="model.safetensors", size_bytes=9),
        RepoFile(path="pytorch_model.bin", size_bytes=8),
    )
    pickled = (RepoFile(path="a.bin", size_bytes=5), RepoFile(path="b.bin", size_bytes=7))

    assert (pickled_bytes(safe), pickled_bytes(pickled), pickled_bytes(())) == (0, 7, 0)


def test_a_limit_does_not_go_beyond_the_node() -> None:
    server = component_resources(replace(SEVEN, allocatable_bytes=20 * GIB)).server
    assert numbers(server) == (4, 8, 12, 20)


def test_a_request_is_not_cut_to_a_node_that_is_too_small() -> None:
    server = component_resources(replace(SEVEN, allocatable_bytes=8 * GIB)).server
    assert numbers(server) == (4, 8, 12, 12)


def test_without_a_gpu_weights_and_cache_stand_in_memory() -> None:
    server = component_resources(replace(SEVEN, kv_bytes=16 * GIB)).server
    assert server.memory_request_bytes >= 14 * GB + 16 * GIB
    assert "CPU only" in server.reason
    assert "16.00 GiB of KV cache" in server.reason


@given(
    weights=st.integers(0, 2**42),
    more=st.integers(0, 2**40),
    workers=st.integers(1, 8),
    pickled=st.integers(0, 2**36),
    multimodal=st.booleans(),
)
def test_more_weights_never_get_less(
    weights: int, more: int, workers: int, pickled: int, multimodal: bool
) -> None:
    load = HostLoad(weights_bytes=weights, workers=workers, pickled_bytes=pickled, multimodal=multimodal)
    small = component_resources(load)
    large = component_resources(replace(load, weights_bytes=weights + more))
    for component in ("download", "server", "test"):
        before, after = getattr(small, component), getattr(large, component)
        assert before.memory_request_bytes <= after.memory_request_bytes <= after.memory_limit_bytes
        assert before.cpu_request_millicores <= after.cpu_request_millicores <= after.cpu_limit_millicores
