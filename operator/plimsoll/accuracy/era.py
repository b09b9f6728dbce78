"""What was in force when a log was written: the release, where it is not said, and its defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.engine import NEWEST, V1_ENGINE, EngineVersion
from plimsoll.sizing.lora import LoraSlots
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.speculation import MTP, speculation_of

if TYPE_CHECKING:
    from plimsoll.accuracy.cards import Card
    from plimsoll.accuracy.rows import LogRow
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.speculation import Speculation

_RELEASE: Final = re.compile(r"(?<![\d.])(0)\.(\d{1,3})(?:\.(\d{1,3}))?")
_NOTED: Final = re.compile(
    r"\bversion of [^.;]{0,30}\(0\.(\d{1,3})\b"
)  # "version of early 2026 (0.15-0.16 era)"
_ISSUE: Final = re.compile(r"vllm-project/vllm(?:#|/(?:issues|pull)/)(\d{1,6})\b")
# The release that was current when issues of vllm-project/vllm had these numbers, the newest first.
_BY_ISSUE: Final = (
    (41000, (0, 20, 0)),
    (38500, (0, 19, 0)),
    (36500, (0, 17, 0)),
    (34500, (0, 16, 0)),
    (33000, (0, 15, 0)),
    (32000, (0, 14, 0)),
    (30500, (0, 13, 0)),
    (28000, (0, 11, 2)),
    (26000, (0, 11, 0)),
    (24500, (0, 10, 2)),
    (22500, (0, 10, 1)),
    (21500, (0, 10, 0)),
    (20000, (0, 9, 2)),
    (18500, (0, 9, 0)),
    (16500, (0, 8, 5)),
    (14900, (0, 8, 0)),
    (11500, (0, 7, 0)),
    (10000, (0, 6, 4)),
    (7000, (0, 6, 0)),
    (4400, (0, 5, 0)),
    (3000, (0, 4, 0)),
    (0, (0, 2, 0)),
)
# The first release with a class for the model type; an earlier one would not have started.
_FIRST_WITH: Final = {
    "qwen3": (0, 8, 5),
    "qwen3_moe": (0, 8, 5),
    "qwen3_vl": (0, 11, 0),
    "qwen3_vl_moe": (0, 11, 0),
    "qwen3_next": (0, 10, 2),
    "qwen3_5": (0, 17, 0),
    "qwen3_5_text": (0, 17, 0),
    "qwen3_5_moe": (0, 17, 0),
    "qwen3_5_moe_text": (0, 17, 0),
    "gemma3": (0, 8, 0),
    "gemma3_text": (0, 8, 0),
    "gemma4": (0, 19, 0),
    "gemma4_text": (0, 19, 0),
    "gpt_oss": (0, 10, 1),
    "deepseek_v32": (0, 11, 0),
    "deepseek_v4": (0, 21, 0),
    "glm_moe_dsa": (0, 16, 0),
    "minimax_m2": (0, 11, 2),
    "nemotron_h": (0, 10, 1),
    "kimi_linear": (0, 11, 2),
    "llama4": (0, 8, 3),
}
_USUAL: Final = (0, 19, 0)
_EARLY: Final = (0, 13, 0)  # before the sampler changed (0.17), which moves gigabytes on large cards
_FOUR_DECIMALS: Final = (0, 11, 0)  # up to 0.13 "Model loading took" has four decimals, later ones two
_BLOCKS_PRINTED: Final = (0, 7, 0)  # "# GPU blocks" gave way to tokens in 0.8
_NOT_SAID: Final = "as the log does not say"
_OLD_BLOCK: Final = 16
_V1_EVERYWHERE: Final = (0, 9, 2)
_LAST_FIRST_ENGINE: Final = (0, 7, 3)
# Latent attention came with 0.7.1, and was cut off from chunked prefill until 0.7.3.
_ANY_07: Final = re.compile(r"\b0\.7(?:\.x)?(?![.\d])")
_WHOLE_LATENT: Final = (0, 7, 2)
_CHUNKED_LATENT: Final = (0, 7, 3)
_FIRST_ENGINE: Final = re.compile(r"\bV0\b")
_V1_NEEDS: Final = (8, 0)
_V0_TOKENS: Final = 2048
_V0_SEQUENCES: Final = 256
_V0_WHOLE_PROMPTS: Final = 32768  # longer contexts turned chunked prefill on by themselves
_CACHE_DTYPES: Final = {"bf16": "bfloat16", "fp16": "float16"}
_OWN_DRAFT: Final = r"(?:\b\w+_)?mtp\b"
_PROPOSED: Final = re.compile(
    rf"(?:num[-_ ]speculative[-_ ]tokens|{_OWN_DRAFT})[\"'=: -]*([1-9]\d{{0,2}})\b", re.IGNORECASE
)
_ADAPTERS_LOADED: Final = (0, 8, 0)
_SPECULATIVE: Final = ("mtp", "speculative", "drafter", "draft model", "eagle", "dflash")
_DATED: Final = re.compile(r"\b20\d\d\b|nightly|main\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """The release of a row.

    Attributes:
        written: the release that ran, as far as it is known.
        version: what it is reckoned as.
        first_engine: whether the engine of before V1 ran, which profiled whole prompts.
        whole_prompts: whether it cut no prompt into chunks, however long.
        early: another release that may have run as well, where nothing tells; the interval must hold both.
        assumed: what was taken for lack of better, in words.
    """

    written: tuple[int, int, int]
    version: EngineVersion
    first_engine: bool = False
    whole_prompts: bool = False
    early: EngineVersion | None = None
    assumed: tuple[str, ...] = ()

    @property
    def loading_has_adapters(self) -> bool:
        """Whether "Model loading took" has the slots for LoRA adapters in it.

        The engine before V1 built them after that line up to 0.7 ("Loading model weights took").
        """
        return not self.first_engine or self.written >= _ADAPTERS_LOADED


def era_of(row: LogRow, shape: ModelShape | None, card: Card | None = None) -> Era:
    """The release as logged, else by the issue's number, by how the log is printed, or by the model."""
    written, assumed = _written(row, shape)
    notes = [assumed] if assumed else []
    first = written < V1_ENGINE or _ran_first_engine(row, written, card)
    reckoned = min(written, _LAST_FIRST_ENGINE if first else (NEWEST[0], NEWEST[1], 999))
    if first:
        shown = ".".join(map(str, written))
        notes.append(f"the engine before V1 ran (vLLM {shown}), whose profile is known less well")
    unknown = assumed is not None and assumed.endswith(_NOT_SAID)
    early = max(_EARLY, _first_with(shape))
    latent = shape is not None and shape.latent_up_projection is not None
    if first and latent and _ANY_07.search(row.vllm_version or "") is not None:
        unknown, reckoned, early = True, _CHUNKED_LATENT, _WHOLE_LATENT
    return Era(
        written=written,
        version=EngineVersion(reckoned),
        first_engine=first,
        whole_prompts=latent and reckoned < _CHUNKED_LATENT,
        early=EngineVersion(early) if unknown and early < reckoned else None,
        assumed=tuple(notes),
    )


def _ran_first_engine(row: LogRow, written: tuple[int, int, int], card: Card | None) -> bool:
    """From 0.8 on it ran on cards below 8.0, and where somebody chose it; a batch that was given it profiles as V1."""
    if written >= _V1_EVERYWHERE or row.max_num_batched_tokens is not None:
        return False
    old_card = card is not None and card.accelerator.compute_capability < _V1_NEEDS
    return old_card or _FIRST_ENGINE.search(f"{row.vllm_version} {row.notes}") is not None


def _written(row: LogRow, shape: ModelShape | None) -> tuple[tuple[int, int, int], str | None]:
    match = _RELEASE.search(row.vllm_version or "")
    if match is not None:
        return (0, int(match[2]), int(match[3] or 0)), None
    if row.vllm_version and _DATED.search(row.vllm_version):
        return NEWEST, f"vLLM {row.vllm_version!r} reckoned as the newest release known"
    noted = _NOTED.search(row.notes or "")
    if noted is not None:
        release = (0, int(noted[1]), 0)
        return release, f"vLLM 0.{noted[1]}, by a note"
    issue = _ISSUE.search(row.source or "")
    if issue is not None:
        number = int(issue[1])
        release = next(release for since, release in _BY_ISSUE if number >= since)
        return release, f"vLLM {'.'.join(map(str, release))}, current when issue {number} was written"
    usual = _printed_by(row)
    release = max(usual, _first_with(shape))
    return release, f"vLLM {'.'.join(map(str, release))}, {_NOT_SAID}"


def _first_with(shape: ModelShape | None) -> tuple[int, int, int]:
    return (0, 0, 0) if shape is None else _FIRST_WITH.get(shape.model_type, (0, 0, 0))


def _printed_by(row: LogRow) -> tuple[int, int, int]:
    """A release that prints what the row has, as it has it."""
    if row.gpu_blocks and row.kv_tokens == row.gpu_blocks * _OLD_BLOCK:
        return _BLOCKS_PRINTED
    weights = row.weights_gib_per_gpu
    if weights is not None and decimals(weights) > 2:  # noqa: PLR2004 - two are what later releases print
        return _FOUR_DECIMALS
    return _USUAL


def decimals(value: object) -> int:
    """Digits behind the point, as printed."""
    return len(str(value).partition(".")[2])


def serving_of(row: LogRow, era: Era, *, online_fp8: bool, max_model_len: int | None) -> Serving:
    """How the row's engine was run; what is not said is left to the release's defaults."""
    flags = Flags(row.other_flags or "")
    tokens, sequences, chunked = row.max_num_batched_tokens, row.max_num_seqs, flags.chunked_prefill
    if era.first_engine:
        sequences = sequences or _V0_SEQUENCES
        length = max_model_len or _V0_TOKENS
        if tokens is None:
            whole = era.whole_prompts or length <= _V0_WHOLE_PROMPTS
            tokens = max(_V0_TOKENS, length if whole else 0, sequences)
    share = row.gpu_memory_utilization
    cache = row.kv_cache_dtype
    return Serving(
        engine_version=str(era.version),
        max_model_len=max_model_len,
        gpu_memory_utilization=None if share is None else Fraction(share),
        quantization="fp8" if online_fp8 else None,
        dtype=row.dtype,
        kv_cache_dtype=None if cache is None else _CACHE_DTYPES.get(cache, cache),
        max_num_seqs=sequences,
        max_num_batched_tokens=tokens,
        enable_chunked_prefill=chunked,
        cpu_offload_bytes=flags.cpu_offload_bytes,
        kv_cache_memory_bytes=flags.kv_cache_memory_bytes,
        tensor_parallel_size=row.tensor_parallel_size or 1,
        pipeline_parallel_size=row.pipeline_parallel_size or 1,
        block_size=None,
        enforce_eager=bool(row.enforce_eager) or flags.says("enforce[-_ ]eager"),
        enable_prefix_caching=flags.prefix_caching,
        disable_hybrid_kv_cache_manager=flags.says("disable[-_ ]hybrid[-_ ]kv[-_ ]cache[-_ ]manager"),
        enable_expert_parallel=flags.says("expert[-_ ]parallel"),
        speculative=flags.own_draft,
        lora=flags.lora,
    )


@dataclass(frozen=True, slots=True)
class Flags:
    """Options in whatever form a source writes them: a command line, JSON, or words."""

    text: str

    def says(self, pattern: str) -> bool:
        """Whether an option is named and not switched off."""
        named = re.search(
            rf"(?P<no>\bno[-_ ])?(?:enable[-_ ])?{pattern}(?P<value>[\"'=: ]+(?:false|0\b))?",
            self.text,
            re.IGNORECASE,
        )
        return named is not None and not named["no"] and not named["value"]

    @property
    def prefix_caching(self) -> bool | None:
        """On, off, or the release's default."""
        pattern = "prefix[-_ ]caching"
        if re.search(pattern, self.text, re.IGNORECASE) is None:
            return None
        return self.says(pattern)

    @property
    def chunked_prefill(self) -> bool | None:
        """On, off, or the release's default."""
        pattern = "chunked[-_ ]prefill"
        if re.search(pattern, self.text, re.IGNORECASE) is None:
            return None
        return self.says(pattern)

    @property
    def cpu_offload_bytes(self) -> int:
        """Weights on the host."""
        match = re.search(r"cpu[-_]offload[-_]gb[\"'=: ]+(\d{1,4}(?:\.\d{1,4})?)", self.text, re.IGNORECASE)
        return 0 if match is None else int(Fraction(match[1]) * 2**30)

    @property
    def kv_cache_memory_bytes(self) -> int | None:
        """The space for the KV cache that was given."""
        match = re.search(
            r"kv[-_]cache[-_]memory(?:[-_]bytes)?[\"'=: ]+(\d{1,15})\b", self.text, re.IGNORECASE
        )
        return None if match is None else int(match[1])

    @property
    def text_only(self) -> bool:
        """Whether the towers of images and sound are left out."""
        return self.says("language[-_ ]model[-_ ]only")

    @property
    def own_draft(self) -> Speculation | None:
        """The model's own draft layers with the tokens that they propose, one where none is said."""
        if not self.says(_OWN_DRAFT):
            return None
        said = _PROPOSED.search(self.text)
        tokens = 1 if said is None else int(said[1])
        return speculation_of({"method": MTP, "num_speculative_tokens": tokens})

    @property
    def lora(self) -> LoraSlots | None:
        """Slots for adapters; what is not said of them is the release's default."""
        if not self.says(r"enable[-_ ]lora\b"):
            return None
        found = {
            field: int(match[1])
            for field in ("max_loras", "max_lora_rank", "max_cpu_loras")
            if (match := re.search(_number_of(field), self.text, re.IGNORECASE)) is not None
        }
        return LoraSlots(fully_sharded=self.says("fully[-_ ]sharded[-_ ]loras"), **found)

    @property
    def speculative(self) -> bool:
        """Whether a draft is resident beside the model."""
        return any(word in self.text.lower() for word in _SPECULATIVE)


def _number_of(field: str) -> str:
    """A pattern for an option with a whole number behind it."""
    return field.replace("_", "[-_ ]") + r"[\"'=: ]+(\d{1,6})\b"
