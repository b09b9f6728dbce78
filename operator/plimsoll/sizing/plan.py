"""The two results of sizing: a `Plan` that carries its sum, or a `Refusal` that says what would fit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    from plimsoll.sizing.accelerators import NodePool


class PartName(StrEnum):
    """The lines of the bill, per GPU."""

    WEIGHTS = "weights"
    DRAFT = "draft"
    LORA = "lora"
    KV_CACHE = "kv_cache"
    STATE = "state"
    ACTIVATIONS = "activations"
    GRAPHS = "graphs"
    RUNTIME = "runtime"
    MARGIN = "margin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One line of the bill, on the fullest GPU.

    Attributes:
        bytes: what the plan reckons with, the safe end of the interval.
        expected_bytes: what it will most likely be; the KV cache and the margin take what the others then leave.
        low_bytes: the other end; equal to `bytes` where the part is exact.
        formula: the sum in words and numbers ("32 layers x 2 x 8 KV heads x 128 x 2 B = 131072 B per token").
        source: where the rule comes from.
        exact: False for what is modelled.
    """

    name: PartName
    bytes: int
    expected_bytes: int
    low_bytes: int
    formula: str
    source: str
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCache:
    """The KV cache of one replica, as vLLM will report it (per rank; blocks are the same on every rank)."""

    bytes_per_gpu: int
    bytes_per_token_per_gpu: int
    block_size: int
    bytes_per_block: int
    blocks: int
    tokens: int
    max_concurrency: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResources:
    """CPU and host memory of one component's pod, with the reason in words."""

    cpu_request_millicores: int
    cpu_limit_millicores: int
    memory_request_bytes: int
    memory_limit_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentResources:
    """Host resources of the three pods of a ModelDeployment."""

    download: HostResources
    server: HostResources
    test: HostResources


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be launched, and why it fits.

    Attributes:
        pool: where it lands; its accelerator is None for CPU only.
        gpus: tensor_parallel_size x pipeline_parallel_size, 0 for CPU only.
        max_model_len: tokens; given by the user or the largest that fits, capped by the model.
        limited_by: what stops a longer context ("the model's own length", "KV cache", "maxModelLen in the spec").
        weights_bytes: the files that are loaded, all ranks together, as stored in the repository.
        usable_bytes: GPU memory x utilisation, rounded as the engine does; with a given KV space, GPU memory less what
            is in use before vLLM looks.
        kv_cache_memory_bytes: the KV space of each GPU that was given to the engine; None: it takes what is left.
        parts: sum to at most usable_bytes, margin included exactly; so do their expected bytes.
        kv_cache: at the safe end: what is promised.
        expected_kv_cache: what the engine will most likely report; None where it is the same.
        lowered_max_num_seqs: max_num_seqs where the engine has to be told, since it does not start with its default.
        warnings: sentences that the user should read (unverified facts, slow paths).
    """

    model_id: str
    engine_version: str
    pool: NodePool
    tensor_parallel_size: int
    pipeline_parallel_size: int
    gpus: int
    nodes: int
    max_model_len: int
    model_max_len: int
    limited_by: str
    gpu_memory_utilization: Fraction
    max_num_seqs: int
    max_num_batched_tokens: int
    dtype: str
    quantization: str | None
    kv_cache_dtype: str
    weights_bytes: int
    usable_bytes: int
    parts: tuple[Part, ...]
    kv_cache: KVCache
    resources: ComponentResources
    warnings: tuple[str, ...] = ()
    kv_cache_memory_bytes: int | None = None
    expected_kv_cache: KVCache | None = None
    lowered_max_num_seqs: int | None = None
    concurrency: int = 1
    pinned_kv_cache_bytes: int | None = None


class RefusalReason(StrEnum):
    """Why sizing said no; the condition `Sized` carries the same word."""

    UNSUPPORTED_MODEL = "UnsupportedModel"
    DOES_NOT_FIT = "DoesNotFit"
    CONTEXT_TOO_LONG = "ContextTooLong"
    NOT_DIVISIBLE = "NotDivisible"
    HARDWARE_CANNOT = "HardwareCannot"
    NO_MATCHING_NODE = "NoMatchingNode"
    UNSUPPORTED_OPTION = "UnsupportedOption"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing is launched, and what would fit instead.

    Attributes:
        message: sentences for a person, naming the numbers.
        needed_bytes, available_bytes: per GPU of the best candidate; None where bytes are not the matter.
        would_fit: alternatives that were computed, each a clause ("16 x H100 80 GB on 2 nodes (TP 8, PP 2)").
    """

    reason: RefusalReason
    message: str
    needed_bytes: int | None = None
    available_bytes: int | None = None
    would_fit: tuple[str, ...] = ()
