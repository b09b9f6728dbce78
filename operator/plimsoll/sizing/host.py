"""CPU and host memory of the download, server and test pods, from the model and the way it is launched.

Never below the rules of thumb that users know; above them where what vLLM's processes hold asks for more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from plimsoll.sizing.constants import ENGINE_PROCESS
from plimsoll.sizing.plan import ComponentResources, HostResources
from plimsoll.sizing.selection import weight_files
from plimsoll.units import GB, GIB, format_size, round_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plimsoll.sizing.facts import RepoFile

# The orders of size that users know (rules of thumb from five published guides); a plan is never below them.
_CORE: Final = 1000
_LIMIT_RATIO: Final = 2
# 13B on 2 cards at 24 GiB and 70B on 4 cards at 48 GiB in the same guides: 4 GiB for each worker of several.
_WORKER_BYTES: Final = 4 * GIB
# Our rule: a core for each of vLLM's processes, which are the API server, the engine core and one for each worker.
_ENGINE_CORES: Final = 2
# Our rule too: the API server decodes and resizes images and sound in threads beside its own.
_MULTIMODAL_CORES: Final = 2
# vLLM 0.33.0, config/multimodal.py: mm_processor_cache_gb is 4, in the API server and in the engine core each.
_MULTIMODAL_BYTES: Final = 2 * 4 * GIB
# /dev/shm of the pod, which counts against its limit: a GiB for each rank and one for the engine.
_SHARED_BYTES: Final = GIB


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


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLoad:
    """What of a model and of its launch decides CPU and host memory.

    Attributes:
        weights_bytes: of the files; None where nobody knows the size.
        workers: ranks in one pod.
        pickled_bytes: of the largest weight file that is no safetensors; each worker reads one whole.
        multimodal: images or sound are prepared on the host, and what was prepared is kept.
        cpu_offload_bytes: weights of each worker that stay in host memory.
        adapter_bytes: LoRA adapters that each worker keeps in host memory, at their largest.
        kv_bytes: the KV cache in host memory; None where a GPU serves.
        batch_bytes: what one batch takes in host memory at its peak, on CPU.
        allocatable_bytes: memory of the largest node; None where it is not known.
    """

    weights_bytes: int | None
    workers: int = 1
    pickled_bytes: int = 0
    multimodal: bool = False
    cpu_offload_bytes: int = 0
    adapter_bytes: int = 0
    kv_bytes: int | None = None
    batch_bytes: int = 0
    allocatable_bytes: int | None = None


def pickled_bytes(files: Iterable[RepoFile]) -> int:
    """The largest weight file that has to be read whole; safetensors are mapped, and their pages can be dropped.

    Source: vLLM 0.33.0, model_executor/model_loader/weight_utils.py (pt_weights_iterator).
    """
    read = (file.size_bytes for file in weight_files(files) if not file.path.endswith(".safetensors"))
    return max(read, default=0)


def component_resources(load: HostLoad) -> ComponentResources:
    """CPU and memory of the three pods."""
    size = (
        _UNKNOWN
        if load.weights_bytes is None
        else next(c for c in _CLASSES if load.weights_bytes < c.below_bytes)
    )
    shown = "" if load.weights_bytes is None else f" ({format_size(load.weights_bytes)})"
    files = f"model files {size.words}{shown}"
    return ComponentResources(
        download=_resources(size.download_cores, size.download_gib * GIB, f"{files} are fetched and checked"),
        server=_server(load, size, files),
        test=_resources(_TEST_CORES, _TEST_GIB * GIB, "promptfoo needs the same for every model"),
    )


def _server(load: HostLoad, size: _Class, files: str) -> HostResources:
    """Request what it holds all the time, limit it at what it holds at its peak, and never beyond the node."""
    held, at_load = _held(load, size), _at_load(load)
    by_rule = _by_rule(load, size)
    held_bytes = sum(amount.size_bytes for amount in held)
    request = max(by_rule, round_up(held_bytes, GIB))
    peak = round_up(held_bytes + sum(amount.size_bytes for amount in at_load), GIB)
    limit = max(_LIMIT_RATIO * request, peak)
    if load.allocatable_bytes is not None:
        limit = max(min(limit, load.allocatable_bytes), request)
    cores = max(size.server_cores, _ENGINE_CORES + load.workers) if load.workers > 1 else size.server_cores
    reason = [files if load.kv_bytes is None else f"CPU only: {files} in host memory"]
    if load.workers > 1 and request == by_rule:
        reason.append(f"{load.workers} workers with {format_size(_WORKER_BYTES)} each")
    reason += [
        f"{format_size(amount.size_bytes)} of {amount.told}"
        for amount in (*held, *at_load)
        if amount.told is not None and amount.size_bytes
    ]
    if cores > size.server_cores:
        reason.append(f"one core for each worker and {_ENGINE_CORES} for the engine")
    if load.multimodal:
        cores += _MULTIMODAL_CORES
        reason.append(f"{_MULTIMODAL_CORES} cores to prepare images and sound")
    return replace(_resources(cores, request, "; ".join(reason)), memory_limit_bytes=limit)


def _by_rule(load: HostLoad, size: _Class) -> int:
    """What users know to ask for; what the user moves to the host comes on top."""
    workers = load.workers * _WORKER_BYTES if load.workers > 1 else 0
    return size.server_gib * GIB + workers + load.workers * load.cpu_offload_bytes


class _Amount(NamedTuple):
    """Host memory of one kind; `told` in the reason, or None where it is the same for every model."""

    size_bytes: int
    told: str | None = None


def _held(load: HostLoad, size: _Class) -> tuple[_Amount, ...]:
    """What the server's processes hold as long as they run."""
    on_cpu = load.kv_bytes is not None
    processes = 2 if on_cpu else _ENGINE_CORES + load.workers  # on CPU the engine core is its own worker
    in_host_memory = (
        _Amount(load.weights_bytes or size.below_bytes),
        _Amount(load.kv_bytes or 0, "KV cache"),
        _Amount(load.batch_bytes, "a batch"),
    )
    return (
        _Amount(processes * ENGINE_PROCESS.high_bytes),
        *(in_host_memory if on_cpu else ()),
        _Amount(_MULTIMODAL_BYTES if load.multimodal else 0, "prepared images and sound"),
        _Amount(load.workers * load.cpu_offload_bytes, "weights kept on the host"),
        _Amount(load.workers * load.adapter_bytes, "LoRA adapters"),
    )


def _at_load(load: HostLoad) -> tuple[_Amount, ...]:
    """What comes on top while the model is loaded, or is filled only under load."""
    return (
        _Amount(load.workers * load.pickled_bytes, "files that each worker reads whole, while loading"),
        _Amount(0 if load.kv_bytes is not None else (1 + load.workers) * _SHARED_BYTES),
    )


def _resources(cores: int, memory_bytes: int, reason: str) -> HostResources:
    return HostResources(
        cpu_request_millicores=cores * _CORE,
        cpu_limit_millicores=_LIMIT_RATIO * cores * _CORE,
        memory_request_bytes=memory_bytes,
        memory_limit_bytes=_LIMIT_RATIO * memory_bytes,
        reason=reason,
    )
