"""CPU and host memory of the download, server and test pods, by the bytes of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll.sizing.constants import ENGINE_PROCESS
from plimsoll.sizing.plan import ComponentResources, HostResources
from plimsoll.units import GB, GIB, format_size, round_up

# The orders of size that users know (rules of thumb from five published guides); a plan is never below them.
_CORE: Final = 1000
_LIMIT_RATIO: Final = 2
# 13B on 2 cards at 24 GiB and 70B on 4 cards at 48 GiB in the same guides: 4 GiB for each worker of several.
_WORKER_BYTES: Final = 4 * GIB
# Our rule: a core for each of vLLM's processes, which are the API server, the engine core and one for each worker.
_ENGINE_CORES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    """Requests for models whose files are below a size; limits are twice the requests."""

    below_bytes: int
    download_cores: int
    download_gib: int
    server_cores: int
    server_gib: int
    words: str


_CLASSES: Final = (
    _Class(
        below_bytes=GB // 2,
        download_cores=1,
        download_gib=2,
        server_cores=2,
        server_gib=4,
        words="below 500 MB",
    ),
    _Class(
        below_bytes=2 * GB,
        download_cores=2,
        download_gib=4,
        server_cores=2,
        server_gib=6,
        words="500 MB to 2 GB",
    ),
    _Class(
        below_bytes=5 * GB, download_cores=2, download_gib=6, server_cores=4, server_gib=8, words="2 to 5 GB"
    ),
    _Class(
        below_bytes=15 * GB,
        download_cores=2,
        download_gib=8,
        server_cores=4,
        server_gib=12,
        words="5 to 15 GB",
    ),
    _Class(
        below_bytes=30 * GB,
        download_cores=2,
        download_gib=12,
        server_cores=6,
        server_gib=16,
        words="15 to 30 GB",
    ),
    _Class(
        below_bytes=50 * GB,
        download_cores=4,
        download_gib=16,
        server_cores=8,
        server_gib=24,
        words="30 to 50 GB",
    ),
    _Class(
        below_bytes=2**63,
        download_cores=4,
        download_gib=16,
        server_cores=12,
        server_gib=32,
        words="above 50 GB",
    ),
)
_UNKNOWN: Final = _Class(
    below_bytes=0, download_cores=2, download_gib=4, server_cores=4, server_gib=8, words="of unknown size"
)
_TEST_CORES: Final = 1
_TEST_GIB: Final = 2


def component_resources(
    weights_bytes: int | None,
    *,
    tensor_parallel_size: int,
    cpu_only_kv_bytes: int | None,
    cpu_only_batch_bytes: int = 0,
    cpu_offload_bytes: int = 0,
) -> ComponentResources:
    """CPU and memory of the three pods.

    Args:
        weights_bytes: of the files; None where nobody knows the size.
        tensor_parallel_size: workers in one pod.
        cpu_only_kv_bytes: the KV cache in host memory; None where a GPU serves.
        cpu_only_batch_bytes: what one batch takes in host memory at its peak, on CPU.
        cpu_offload_bytes: weights of each worker that stay in host memory.
    """
    size = _UNKNOWN if weights_bytes is None else next(c for c in _CLASSES if weights_bytes < c.below_bytes)
    shown = "" if weights_bytes is None else f" ({format_size(weights_bytes)})"
    if cpu_only_kv_bytes is None:
        server = _gpu_server(size, shown, tensor_parallel_size, cpu_offload_bytes)
    else:
        server = _cpu_server(size, shown, weights_bytes, (cpu_only_kv_bytes, cpu_only_batch_bytes))
    return ComponentResources(
        download=_resources(
            size.download_cores,
            size.download_gib * GIB,
            f"model files {size.words}{shown} are fetched and checked",
        ),
        server=server,
        test=_resources(_TEST_CORES, _TEST_GIB * GIB, "promptfoo needs the same for every model"),
    )


def _gpu_server(size: _Class, shown: str, workers: int, offload_bytes: int) -> HostResources:
    memory = size.server_gib * GIB
    reason = f"model files {size.words}{shown}"
    if workers > 1:
        memory += workers * _WORKER_BYTES
        reason += f", and {workers} workers with {format_size(_WORKER_BYTES)} each"
    if offload_bytes:
        memory += workers * offload_bytes
        reason += f", and {format_size(offload_bytes)} of weights kept on the host for each worker"
    cores = size.server_cores if workers == 1 else max(size.server_cores, _ENGINE_CORES + workers)
    if cores > size.server_cores:
        reason += f"; one core for each worker and {_ENGINE_CORES} for the engine"
    return _resources(cores, memory, reason)


def _cpu_server(
    size: _Class, shown: str, weights_bytes: int | None, kv_and_batch_bytes: tuple[int, int]
) -> HostResources:
    """Without a GPU the weights and the cache stand in the pod's own memory."""
    kv_bytes, batch_bytes = kv_and_batch_bytes
    processes = 2 * ENGINE_PROCESS.high_bytes  # the API server, and the engine core with its worker
    need = (weights_bytes or 0) + kv_bytes + batch_bytes + processes
    return _resources(
        size.server_cores,
        max(size.server_gib * GIB, round_up(need, GIB)),
        f"CPU only: model files {size.words}{shown} and {format_size(kv_bytes)} of KV cache stand in host memory, "
        f"beside {format_size(processes + batch_bytes)} for the engine's processes and a batch",
    )


def _resources(cores: int, memory_bytes: int, reason: str) -> HostResources:
    return HostResources(
        cpu_request_millicores=cores * _CORE,
        cpu_limit_millicores=_LIMIT_RATIO * cores * _CORE,
        memory_request_bytes=memory_bytes,
        memory_limit_bytes=_LIMIT_RATIO * memory_bytes,
        reason=reason,
    )
