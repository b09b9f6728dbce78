"""vLLM by release: its version, its defaults, and the options that it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.units import GIB

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.serving import Serving

_VERSION: Final = re.compile(
    r"^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:\.post\d{1,4}|rc\d{1,4})?(?:\+[0-9A-Za-z.]{1,40})?$"
)
OLDEST: Final = (0, 9, 2)
NEWEST: Final = (0, 33, 0)

# Releases in which the arithmetic changed (read in the released wheels).
UTILIZATION_092: Final = (0, 20, 0)
BLOCK_PER_SEQUENCE: Final = (0, 19, 0)  # a start with fewer blocks of recurrent states than sequences fails
GRAPHS_IN_BUDGET: Final = (0, 20, 0)
TOKENS_BY_CONCURRENCY: Final = (0, 20, 1)
V1_ENGINE: Final = (0, 8, 0)
FEWER_SEQUENCES: Final = (0, 8, 5)
BY_CARD: Final = (0, 9, 2)  # 1,024 sequences on every card at first, then 256
FREE_CHECKED: Final = (0, 9, 0)  # the share must be free before the engine loads
ONLINE_LAYERWISE: Final = (0, 16, 0)  # quantization while loading makes one layer after the other on the card
KEPT_WORKSPACE: Final = (0, 13, 0)  # scratch of the experts is kept for life
IN_FLIGHT_WINDOW: Final = (0, 26, 0)
TIER_160_GIB: Final = (0, 28, 0)
V2_RUNNER: Final = (0, 29, 0)
NULL_BLOCK: Final = (0, 29, 0)
# --kv-cache-memory-bytes: on a GPU, and on CPU, where VLLM_CPU_KVCACHE_SPACE alone was read before.
GIVEN_CACHE: Final = (0, 10, 2)
GIVEN_CACHE_ON_CPU: Final = (0, 20, 0)
FLASH_ATTN_MLA: Final = (0, 33, 0)

CPU_BLOCK_SIZE: Final = 128
_CPU_BATCHED_TOKENS: Final = 2048
_CPU_SEQUENCES: Final = 128
_BLOCK_SIZE: Final = 16
_GB10: Final = (12, 1)
# (device memory from, max_num_batched_tokens, max_num_seqs) of the API server.
_LARGE: Final = (16384, 1024)
_MIDDLE: Final = (8192, 1024)
_SMALL: Final = (2048, 256)
_SEQUENCES_AT_FIRST: Final = 1024


class UnsupportedOptionError(ValueError):
    """An option of the engine that cannot be planned with: one sentence with the way out."""


@dataclass(frozen=True, slots=True, order=True)
class EngineVersion:
    """A release of vLLM."""

    release: tuple[int, int, int]

    def at_least(self, release: tuple[int, int, int]) -> bool:
        """Whether this release has what came with that one."""
        return self.release >= release

    @property
    def newer_than_known(self) -> bool:
        """Whether it is beyond the newest release whose arithmetic was read; patches of that one are not."""
        return self.release[:2] > NEWEST[:2]

    def __str__(self) -> str:
        return ".".join(map(str, self.release))


def parse_version(text: str) -> EngineVersion:
    """Read a release such as 0.33.0.

    Raises:
        UnsupportedOptionError: it is no release, or one whose arithmetic is not known.
    """
    match = _VERSION.match(text)
    if match is None:
        raise UnsupportedOptionError(
            f"engine.version is {text!r:.80}: it must be a vLLM release such as 0.33.0; set engine.version."
        )
    release = (int(match[1]), int(match[2]), int(match[3]))
    if release < OLDEST:
        raise UnsupportedOptionError(
            f"engine.version is {text}: vLLM before {'.'.join(map(str, OLDEST))} accounts for memory in another way; "
            "use a newer engine."
        )
    return EngineVersion(release)


def default_utilization(version: EngineVersion) -> Fraction:
    """VLLM's own gpu_memory_utilization."""
    return Fraction(92, 100) if version.at_least(UTILIZATION_092) else Fraction(90, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """The scheduler's limits for one length of context.

    Attributes:
        in_flight_tokens: what a sliding window reserves beyond its length.
    """

    max_num_batched_tokens: int
    max_num_seqs: int
    in_flight_tokens: int


def batch_limits(
    version: EngineVersion,
    accelerator: Accelerator | None,
    serving: Serving,
    *,
    max_model_len: int,
    pipeline_parallel_size: int,
    least_batched_tokens: int = 0,
) -> BatchLimits:
    """What vLLM makes of the defaults, the user's values and the length.

    Source: vLLM 0.33.0, engine/arg_utils.py and config/vllm.py.

    Raises:
        UnsupportedOptionError: the user's values exclude each other.
    """
    tokens, sequences = _defaults(version, accelerator)
    if serving.max_num_seqs is not None:
        sequences = serving.max_num_seqs
    chunked = serving.enable_chunked_prefill is not False
    if serving.max_num_batched_tokens is None:
        tokens = tokens if chunked else max(tokens, max_model_len)
        tokens = max(min(tokens, sequences * max_model_len), least_batched_tokens)
    else:
        tokens = serving.max_num_batched_tokens
        if not chunked and tokens < max_model_len:
            raise UnsupportedOptionError(
                f"maxNumBatchedTokens is {tokens}: without chunked prefill it must be at least the context of "
                f"{max_model_len} tokens; raise it or set enableChunkedPrefill."
            )
    if serving.max_num_seqs is None:
        sequences = min(sequences, tokens)
    elif tokens < sequences:
        raise UnsupportedOptionError(
            f"maxNumBatchedTokens is {tokens}: it must be at least maxNumSeqs, {sequences}; raise it or lower maxNumSeqs."
        )
    return BatchLimits(
        max_num_batched_tokens=tokens,
        max_num_seqs=sequences,
        in_flight_tokens=tokens
        * _concurrent_batches(version, accelerator, pipeline_parallel_size, overlaps=_overlaps(serving)),
    )


def _defaults(version: EngineVersion, accelerator: Accelerator | None) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs of the API server by the card's memory."""
    if accelerator is None:
        return _CPU_BATCHED_TOKENS, _CPU_SEQUENCES
    memory = accelerator.memory_bytes
    if memory >= 160 * GIB and version.at_least(TIER_160_GIB):
        return _LARGE
    if not version.at_least(BY_CARD):
        by_memory = _MIDDLE if memory >= 70 * GIB else _SMALL
        return by_memory[0], _SEQUENCES_AT_FIRST if not version.at_least(FEWER_SEQUENCES) else _SMALL[1]
    excluded = "a100" in accelerator.product.lower() or accelerator.compute_capability == _GB10
    return _MIDDLE if memory >= 70 * GIB and not excluded else _SMALL


def _overlaps(serving: Serving) -> bool:
    """Whether the next batch is scheduled while one runs: not where a suffix tree proposes tokens."""
    return serving.speculative is None or not serving.speculative.suffix


def _concurrent_batches(
    version: EngineVersion, accelerator: Accelerator | None, pipeline_parallel_size: int, *, overlaps: bool
) -> int:
    """Batches that may be in flight: 1 before the window counted them; from 0.26 on one more than stages.

    On CPU there is no asynchronous scheduling, which the one more is for (vLLM 0.32.0, platforms/cpu.py).
    """
    if accelerator is None:
        return 1
    return pipeline_parallel_size + overlaps if version.at_least(IN_FLIGHT_WINDOW) else 1


def block_size(
    version: EngineVersion, accelerator: Accelerator | None, *, latent_attention: bool, fp8_cache: bool
) -> int:
    """Tokens of a block, by the attention backend that the card gets.

    Source: vLLM 0.33.0, platforms/cuda.py (_get_backend_priorities); MLA on Hopper had blocks of 64 in 0.12.
    """
    if accelerator is None:
        return CPU_BLOCK_SIZE
    if not latent_attention:
        return _BLOCK_SIZE
    newest = version.at_least(FLASH_ATTN_MLA)
    match accelerator.compute_capability[0]:
        case 9:
            return _BLOCK_SIZE if newest and not fp8_cache else 64
        case 10:
            return 32 if newest else 128
        case _:
            return _BLOCK_SIZE
