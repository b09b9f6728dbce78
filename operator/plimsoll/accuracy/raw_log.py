"""A log of vLLM as it was printed, read into one row."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from plimsoll.accuracy.rows import FIELDS

# Wordings of vLLM 0.4 to 0.33: worker.py, gpu_worker.py, gpu_model_runner.py, kv_cache_utils.py, llm_engine.py, core.py.
_PREFIX: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NUMBER: Final = r"(-?\d[\d,]*(?:\.\d+)?)"
_MAX_LINE: Final = 20_000
_VERSIONS: Final = (
    re.compile(r"Initializing an? (?:V\d )?LLM engine \(v([^)\s]{1,60})\)"),
    re.compile(r"vLLM API server version ([^\s]{1,60})"),
    re.compile(r"^\s*vLLM Version\s*:\s*([^\s]{1,60})", re.IGNORECASE),
    re.compile(r"\u2588.{0,40} version (\d[^\s]{1,60})"),  # the banner
)
_ARGUMENTS: Final = re.compile(r"non-default args: (\{.*\})")
_NAMESPACE: Final = re.compile(r"\bargs: Namespace\((.*)\)")
_CONFIG: Final = re.compile(r"Initializing an? (?:V\d )?LLM engine .*?with config: (.*)")
_PAIR: Final = re.compile(r"\b([a-z_]{1,60})=('[^']{0,400}'|[^,()\s]{1,200})")
# Field, and its wordings, the surest first; of ranks that say it each, the first.
_FIGURES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "weights_gib_per_gpu",
        (
            rf"Model loading took {_NUMBER} ?Gi?B",
            rf"Loading model weights took {_NUMBER} ?Gi?B",
            rf"model weights take\s+{_NUMBER} ?GiB",
        ),
    ),
    (
        "available_kv_gib",
        (
            rf"Available KV cache memory: {_NUMBER} ?GiB",
            rf"rest of the memory reserved for KV Cache is {_NUMBER} ?GiB",
            rf"available_kv_cache_memory\s+{_NUMBER} ?GiB",
            rf"larger than the available KV cache memory \({_NUMBER} ?GiB\)",
        ),
    ),
    ("kv_tokens", (rf"\bKV cache size: {_NUMBER} tokens", rf"stored in KV cache \({_NUMBER}\)")),
    ("gpu_blocks", (rf"# (?:GPU|cuda) blocks: {_NUMBER}", rf"available Mamba cache blocks \({_NUMBER}\)")),
    ("max_concurrency", (rf"Maximum concurrency for [\d,]+ tokens per request: {_NUMBER}x",)),
    ("max_concurrency_at_len", (rf"Maximum concurrency for {_NUMBER} tokens per request",)),
    ("engine_error_max_len", (rf"estimated maximum model length is {_NUMBER}",)),
    ("kv_needed_gib", (rf"\({_NUMBER} ?GiB KV cache is needed", rf"{_NUMBER} ?GiB KV\s+cache is needed")),
    (
        "gpu_total_reported_gib",
        (
            rf"total_gpu_memory\s+\(?{_NUMBER} ?GiB",
            rf"Free memory on device[^(]{{0,40}}\([\d.]+/{_NUMBER} GiB\)",
            rf"has a total capacity of {_NUMBER} GiB",
        ),
    ),
    (
        "gpu_memory_utilization",
        (
            rf"gpu_memory_utilization\s+\(?{_NUMBER}\b",
            rf"desired GPU memory utilization (?:is )?\({_NUMBER},",
            rf"Requested memory: {_NUMBER} \(util\)",
            rf"current --gpu-memory-utilization={_NUMBER} is",
        ),
    ),
    (
        "non_torch_gib",
        (
            rf"non_torch_memory (?:takes)?\s*{_NUMBER} ?GiB",
            rf"non-torch forward increase memory: {_NUMBER} ?GiB",
            rf"{_NUMBER} GiB for non-torch memory",
        ),
    ),
    (
        "peak_activation_gib",
        (
            rf"PyTorch activation peak memory (?:takes)?\s*{_NUMBER} ?GiB",
            rf"torch peak memory increase: {_NUMBER} ?GiB",
            rf"{_NUMBER} GiB for peak activation",
        ),
    ),
    (
        "cuda_graph_gib",
        (rf"Graph capturing finished in [\d.]+ secs?, took {_NUMBER} ?GiB",),
    ),
    ("cuda_graph_estimated_gib", (rf"Estimated CUDA graph memory: {_NUMBER} GiB",)),
    ("max_num_batched_tokens", (rf"Chunked prefill is enabled with max_num_batched_tokens={_NUMBER}",)),
    ("block_size", (rf"Setting attention block size to {_NUMBER} tokens",)),
)
_COMPILED: Final = tuple(
    (field, tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)) for field, patterns in _FIGURES
)
_AVAILABLE: Final = re.compile(r"Available KV cache memory: (-?\d+(?:\.\d+)?) ?GiB")
_WHOLE: Final = (
    "kv_tokens",
    "gpu_blocks",
    "max_concurrency_at_len",
    "engine_error_max_len",
    "max_num_batched_tokens",
    "block_size",
)
_BANNER_MODEL: Final = re.compile(r"\u2588.{0,40} model\s+(\S{1,200})")
_CARD: Final = re.compile(
    r"(?:GPU \d{1,2}: |Automatically detected .{0,20}on |device_name[=:]\s?'?)((?:NVIDIA|Tesla|AMD) [A-Za-z0-9 \-]{2,60})"
)
# What ended the start, the most telling first.
_ENDS: Final = (
    ("warming up sampler", "OOM at sampler warm-up"),
    ("KV cache is needed, which is larger than", "fails: KV cache too small"),
    ("cache is needed, which is larger than", "fails: KV cache too small"),
    ("No available memory for the cache blocks", "fails: KV cache too small"),
    ("larger than the maximum number of tokens that can be stored in KV cache", "fails: KV cache too small"),
    ("exceeds available Mamba cache", "fails: max_num_seqs above Mamba cache blocks"),
    ("must be divisible by tensor parallel size", "TP indivisible"),
    ("on startup is less than desired GPU memory utilization", "fails: less memory free than asked for"),
)
_OUT_OF_MEMORY: Final = re.compile(r"OutOfMemoryError|CUDA out of memory|HIP out of memory", re.IGNORECASE)
_STARTED: Final = re.compile(
    r"Application startup complete|Uvicorn running on|Starting vLLM API server|init engine \(profile, create kv cache"
)
_MODEL_FIELDS: Final = ("model", "model_tag")
_NAMES: Final = {"max_seq_len": "max_model_len"}
_SETTINGS: Final = {
    "tensor_parallel_size": int,
    "pipeline_parallel_size": int,
    "data_parallel_size": int,
    "gpu_memory_utilization": Decimal,
    "max_model_len": int,
    "max_num_seqs": int,
    "max_num_batched_tokens": int,
    "block_size": int,
    "dtype": str,
    "kv_cache_dtype": str,
    "quantization": str,
    "enforce_eager": bool,
}
_OTHER_FLAGS: Final = (
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "chunked_prefill_enabled",
    "enable_expert_parallel",
    "disable_hybrid_kv_cache_manager",
    "language_model_only",
    "cpu_offload_gb",
    "kv_cache_memory_bytes",
    "speculative_config",
    "limit_mm_per_prompt",
    "enable_lora",
    "max_loras",
    "max_lora_rank",
    "max_cpu_loras",
    "fully_sharded_loras",
    "swap_space",
)
_EVIDENCE: Final = ("weights_gib_per_gpu", "available_kv_gib", "kv_tokens", "gpu_blocks", "outcome")


class UnusableLogError(ValueError):
    """A text that has none of the lines that vLLM prints of its memory."""


def row_of_log(text: str, *, name: str) -> str:
    """One line of JSON with every field of a row; what the log does not say is null.

    Raises:
        UnusableLogError: nothing in it can be held against an estimate.
    """
    log = _Log(tuple(_PREFIX.sub("", line)[:_MAX_LINE] for line in text.splitlines()))
    row: dict[str, Any] = dict.fromkeys(FIELDS)
    row.update(log.settings())
    row.update({field: value for field, value in log.figures().items() if row.get(field) is None})
    row["gpu"] = log.card()
    row["outcome"] = log.outcome(row)
    if all(row[field] is None for field in _EVIDENCE):
        raise UnusableLogError(
            f"{name}: no line of vLLM about weights, KV cache or an end of the start was found; give the whole log "
            "from the start of the engine to its first request."
        )
    row["id"] = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "log"
    row["source"] = name
    sizes = [
        row[field] or 1 for field in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    ]
    row["num_gpus"] = sizes[0] * sizes[1] * sizes[2] if row["tensor_parallel_size"] else None
    return json.dumps(row, default=_written, ensure_ascii=False)


def _written(value: object) -> float:
    """A decimal as a number of JSON."""
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(str(type(value)))


@dataclass(frozen=True, slots=True)
class _Log:
    """The lines of a log, without colours."""

    lines: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """The release, the model and the options: what was given, then what the engine made of it."""
        found: dict[str, Any] = {"vllm_version": self._first(_VERSIONS)}
        given = self._given()
        resolved = self._resolved()
        found["model"] = _model(given) or _model(resolved) or self._first((_BANNER_MODEL,))
        for field, kind in _SETTINGS.items():
            value = _as(kind, given.get(field))
            found[field] = _as(kind, resolved.get(field)) if value is None else value
        others = {**resolved, **given}
        flags = {flag: others[flag] for flag in _OTHER_FLAGS if others.get(flag) not in (None, "None", "")}
        found["other_flags"] = " ".join(f"{flag}={value}" for flag, value in flags.items()) or None
        return found

    def figures(self) -> dict[str, Any]:
        """What was measured, of the first rank that says it."""
        found: dict[str, Any] = {}
        for field, patterns in _COMPILED:
            value = self._first(patterns)
            if value is not None:
                number = Decimal(value.replace(",", ""))
                found[field] = int(number) if field in _WHOLE else number
        # Blocks follow the rank that has least.
        least = [Decimal(match[1]) for line in self.lines if (match := _AVAILABLE.search(line)) is not None]
        if least:
            found["available_kv_gib"] = min(least)
        return found

    def card(self) -> str | None:
        """The GPU's name."""
        name = self._first((_CARD,))
        return None if name is None else name.split(" (")[0].strip()

    def outcome(self, row: dict[str, Any]) -> str | None:
        """How the start ended, in the words that rows use."""
        text = "\n".join(self.lines)
        for words, outcome in _ENDS:
            if words in text:
                return outcome
        if _OUT_OF_MEMORY.search(text):
            return self._phase(row)
        return "serves" if _STARTED.search(text) else None

    @staticmethod
    def _phase(row: dict[str, Any]) -> str:
        """What the memory ran out in: the last thing that had ended before."""
        if row["kv_tokens"] is not None or row["gpu_blocks"] is not None:
            return "OOM at CUDA graph capture"
        return "OOM at load" if row["weights_gib_per_gpu"] is None else "OOM at profile"

    def _given(self) -> dict[str, Any]:
        """Options as the user gave them."""
        for line in self.lines:
            match = _ARGUMENTS.search(line)
            if match is not None:
                return _literal(match[1])
            match = _NAMESPACE.search(line)
            if match is not None:
                return _pairs(match[1])
        return {}

    def _resolved(self) -> dict[str, Any]:
        """Options as the engine took them."""
        for line in self.lines:
            match = _CONFIG.search(line)
            if match is not None:
                found = _pairs(match[1])
                return {_NAMES.get(key, key): value for key, value in found.items()}
        return {}

    def _first(self, patterns: tuple[re.Pattern[str], ...]) -> str | None:
        """The first match of the first wording that the log has."""
        for pattern in patterns:
            for line in self.lines:
                match = pattern.search(line)
                if match is not None:
                    return match[1]
        return None


def _literal(text: str) -> dict[str, Any]:
    """A printed dictionary; one with objects in it is read pair by pair."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {
            key: value.strip("'\"")
            for key, value in re.findall(r"'([a-z_]{1,60})': ('[^']{0,400}'|[^,{}]{1,100})", text)
        }
    return value if isinstance(value, dict) else {}


def _pairs(text: str) -> dict[str, Any]:
    """`key=value` pairs; the first of a name counts."""
    found: dict[str, Any] = {}
    for key, value in _PAIR.findall(text):
        found.setdefault(key, value.strip("'"))
    return found


def _model(options: dict[str, Any]) -> str | None:
    for field in _MODEL_FIELDS:
        value = options.get(field)
        if isinstance(value, str) and value and value != "None":
            return value
    return None


def _as(kind: type, value: object) -> Any:
    """The option's value by its type; None where it is not set or not one."""
    if value in (None, "None", "auto", "") or (isinstance(value, bool) and kind is not bool):
        return None if kind is not str or value != "auto" else "auto"
    text = str(value).removeprefix("torch.")
    try:
        if kind is bool:
            return {"True": True, "False": False}.get(text)
        if kind is int:
            number = int(text)
            return number if number > 0 else None
        return kind(text)
    except (ValueError, ArithmeticError):
        return None
