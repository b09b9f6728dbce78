"""One start-up of vLLM as its log tells it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from decimal import Decimal

    from plimsoll.accuracy.reading import Record

_FAILURES: Final = (
    "oom",
    "out of memory",
    "too small",
    "indivisible",
    "mamba cache blocks",
    "shorter length",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A line of a log file; None is what the source does not say.

    Attributes:
        other_flags: further options, as the source writes them.
        weights_gib_per_gpu, available_kv_gib: as printed, on one rank; the digits tell how it was rounded.
        kv_tokens, max_concurrency, max_concurrency_at_len: the lines "GPU KV cache size" and "Maximum concurrency".
    """

    id: str
    source: str | None = None
    model: str | None = None
    vllm_version: str | None = None
    gpu: str | None = None
    gpu_mem_gib: Decimal | None = None
    gpu_total_reported_gib: Decimal | None = None
    num_gpus: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    data_parallel_size: int | None = None
    gpu_memory_utilization: Decimal | None = None
    quantization: str | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    enforce_eager: bool | None = None
    block_size: int | None = None
    other_flags: str | None = None
    weights_gib_per_gpu: Decimal | None = None
    available_kv_gib: Decimal | None = None
    kv_tokens: int | None = None
    gpu_blocks: int | None = None
    max_concurrency: Decimal | None = None
    max_concurrency_at_len: int | None = None
    engine_error_max_len: int | None = None
    kv_needed_gib: Decimal | None = None
    non_torch_gib: Decimal | None = None
    peak_activation_gib: Decimal | None = None
    cuda_graph_gib: Decimal | None = None
    cuda_graph_estimated_gib: Decimal | None = None
    outcome: str | None = None
    attention: str | None = None
    confidence: str | None = None
    notes: str | None = None

    @property
    def served(self) -> bool | None:
        """Whether the engine came up as asked; None where it ended for another reason than memory or splitting."""
        outcome = (self.outcome or "").lower()
        if any(words in outcome for words in _FAILURES):
            return False
        return True if outcome.startswith("serves") else None


_COUNTS: Final = (
    "num_gpus",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "block_size",
)
_MOST: Final = 2**40
_MOST_RANKS: Final = 4096
_LENGTHS: Final = ("max_model_len", "max_concurrency_at_len", "engine_error_max_len")
_NUMBERS: Final = ("kv_tokens", "gpu_blocks")
FIELDS: Final = tuple(field.name for field in fields(LogRow))


def row_from(record: Record, number: int) -> LogRow:
    """Read a row; one without an id is called by its line.

    Raises:
        InputError: a field of another type, or a number that nothing can have.
    """
    values: dict[str, Any] = {}
    for field in fields(LogRow):
        name, kind = field.name, str(field.type)
        if name in _COUNTS:
            values[name] = record.integer(name, least=1, most=_MOST_RANKS if "parallel" in name else _MOST)
        elif name in _NUMBERS:
            values[name] = record.integer(name)
        elif name in _LENGTHS:
            values[name] = _length(record, name)
        elif kind.startswith("Decimal"):
            values[name] = record.number(name)
        elif kind.startswith("bool"):
            values[name] = record.flag(name)
        elif name == "other_flags" and isinstance(record.values.get(name), dict):
            values[name] = " ".join(f"{key}={value}" for key, value in record.mapping(name).items())
        else:
            values[name] = record.text(name)
    values["id"] = values["id"] or f"line {number}"
    _check_share(record, values["gpu_memory_utilization"])
    _check_memory(record, values["gpu_total_reported_gib"])
    return LogRow(**values)


def _length(record: Record, name: str) -> int | None:
    """A context in tokens; -1 and "auto" leave it to the engine."""
    if record.values.get(name) in (-1, "auto"):
        return None
    return record.integer(name, least=1, most=_MOST)


def _check_share(record: Record, share: Decimal | None) -> None:
    if share is not None and not 0 < share <= 1:
        raise record.wrong("gpu_memory_utilization", "above 0 and at most 1")


def _check_memory(record: Record, gib: Decimal | None) -> None:
    if gib is not None and not 0 < gib < 10**6:
        raise record.wrong("gpu_total_reported_gib", "a size in GiB above 0")
