"""Tables of what vLLM's own code planned, held against sizing number for number."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from plimsoll.accuracy.planner import No, Planner
from plimsoll.accuracy.reading import InputError, Record
from plimsoll.sizing.plan import RefusalReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from plimsoll.sizing.launch import Launch

# Our reasons, and the kinds of a table's refusals that they answer to.
KINDS: Final[dict[RefusalReason, tuple[str, ...]]] = {
    RefusalReason.NOT_DIVISIBLE: ("parallel",),
    RefusalReason.HARDWARE_CANNOT: ("hardware",),
    RefusalReason.UNSUPPORTED_MODEL: ("unsupported", "config"),
    RefusalReason.UNSUPPORTED_OPTION: ("unsupported", "config"),
    RefusalReason.CONTEXT_TOO_LONG: ("config",),
}
NOT_SCORED: Final = "oracle"
_SHORT: Final = 8192
_BY_BYTES_AT_SHORT: Final = frozenset(
    f"{field}_8192"
    for field in (
        "bytes_per_block", "fits", "num_blocks", "tokens", "concurrency", "estimated_max_model_len"
    )
)  # fmt: skip
_OTHER_BYTES: Final = (
    "a block of as many tokens has other bytes at 8192 tokens than at the model's own length"
)
_CONCURRENCY_DIGIT: Final = Fraction(1, 10**6)  # the last one that the tables have


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A number, or the answer itself, that is not the table's."""

    line: int
    field: str
    ours: object
    theirs: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row that vLLM plans and sizing refuses, by name."""

    line: int
    reason: RefusalReason
    message: str
    config_missing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A row whose numbers exclude each other: those of ours that differ rest on one side of it alone."""

    line: int
    fields: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleScore:
    """What came of a table; lines are counted from 1."""

    rows: int
    scored: int
    equal: int
    refused: tuple[Refused, ...]
    mismatches: tuple[Mismatch, ...]
    contradictory: tuple[Contradiction, ...] = ()


def score_oracle(
    lines: Iterable[tuple[int, Record]],
    find: Callable[[str], Mapping[str, Any] | None],
) -> OracleScore:
    """Score every line; `find` gives a config by the name of its file.

    Raises:
        InputError: a line without a field that it must have, or a folder without a config of any line.
    """
    planner = Planner(find)
    rows = 0
    verdicts: list[_Verdict] = []
    for line, record in lines:
        rows += 1
        if record.text("refusal") != NOT_SCORED:
            verdicts.append(_verdict(line, record, planner.launch(record)))
    if verdicts and not planner.found_config:
        raise InputError(
            "No config of any line is in the folder of configs; give the folder that holds them."
        )
    return OracleScore(
        rows=rows,
        scored=len(verdicts),
        equal=sum(verdict == _Verdict() for verdict in verdicts),
        refused=tuple(verdict.refused for verdict in verdicts if verdict.refused is not None),
        mismatches=tuple(one for verdict in verdicts for one in verdict.mismatches),
        contradictory=tuple(
            verdict.contradiction for verdict in verdicts if verdict.contradiction is not None
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What came of one line; nothing where it is equal."""

    refused: Refused | None = None
    mismatches: tuple[Mismatch, ...] = ()
    contradiction: Contradiction | None = None


def _verdict(line: int, record: Record, answer: Launch | No) -> _Verdict:
    ok = record.required("status") == "ok"
    if isinstance(answer, No) and ok:
        missing = bool(record.values.get("config_missing"))
        refused = Refused(line=line, reason=answer.reason, message=answer.message, config_missing=missing)
        return _Verdict(refused=refused)
    if isinstance(answer, No):
        found = _refusals(record, answer)
    elif ok:
        found = tuple(_differences(record, answer))
    else:
        found = (("status", "ok", "refused"),)
    excluded = _excluded(record)
    fields = tuple(field for field, _, _ in found if field in excluded)
    return _Verdict(
        mismatches=tuple(
            Mismatch(line=line, field=field, ours=ours, theirs=theirs)
            for field, ours, theirs in found
            if field not in excluded
        ),
        contradiction=Contradiction(line=line, fields=fields, reason=_OTHER_BYTES) if fields else None,
    )


def _refusals(record: Record, answer: No) -> tuple[tuple[str, object, object], ...]:
    """Both refuse: for the same kind of reason."""
    theirs = record.text("refusal")
    kinds = KINDS.get(answer.reason, ())
    return () if theirs in kinds else (("refusal", " or ".join(kinds) or str(answer.reason), theirs),)


def _differences(record: Record, launch: Launch) -> Iterator[tuple[str, object, object]]:
    """Every number that the line has and that is another in ours."""
    for field, ours in _ours(record, launch):
        theirs = record.values.get(field)
        if isinstance(ours, Fraction):
            written = record.number(field)
            if written is None or abs(ours - Fraction(written)) > _CONCURRENCY_DIGIT:
                yield field, float(ours), None if written is None else float(written)
        elif ours != theirs:
            yield field, ours, theirs
    yield from _rank_differences(record, launch)
    yield from _group_differences(record, launch)


def _excluded(record: Record) -> frozenset[str]:
    """The fields at the second length that rest on other bytes of a block than the first, where both cannot be.

    The page of a layer does not depend on the length. Tables that were made without a GPU have such a pair for DeepSeek
    V4: its layers were built once, and asked at the second length without the 8 bit layout that building them had
    switched on. Built at that length, vLLM 0.33.0 gives the bytes of the first.
    """
    same_tokens = record.values.get("block_size") == record.values.get("block_size_8192")
    if record.values.get("bytes_per_block_8192") is None or not same_tokens:
        return frozenset()
    if record.values.get("bytes_per_block") == record.values.get("bytes_per_block_8192"):
        return frozenset()
    return _BY_BYTES_AT_SHORT


def _ours(record: Record, launch: Launch) -> Iterator[tuple[str, object]]:
    length, layout = launch.shape.unset_max_model_len, launch.layout
    limits = launch.limits(length)
    yield "max_model_len", length
    yield "max_num_batched_tokens", limits.max_num_batched_tokens
    yield "max_num_seqs", limits.max_num_seqs
    yield "max_in_flight_tokens", limits.in_flight_tokens
    yield "block_size", layout.block_size
    yield "bytes_per_block", layout.bytes_per_block
    available = (record.count("available_bytes"),) * launch.pipeline_parallel_size
    yield from _at_length(record, launch, length, available)
    if record.values.get("need_blocks_8192") is not None:
        yield from _at_short(launch, available)


def _at_length(
    record: Record, launch: Launch, length: int, available: tuple[int, ...]
) -> Iterator[tuple[str, object]]:
    """The plan at the model's own length, and with the length left to the engine."""
    layout, in_flight = launch.layout, launch.limits(length).in_flight_tokens
    capacity = layout.capacity(length, in_flight, available)
    fits = layout.fits(length, in_flight, available)
    longest = layout.longest(length, in_flight, available)
    yield "need_blocks_max_model_len", layout.need_blocks(length, in_flight)
    yield "num_blocks", capacity.blocks
    yield "fits_max_model_len", fits
    if fits and record.values.get("tokens_max_model_len") is not None:
        yield "tokens_max_model_len", capacity.tokens
        yield "concurrency_max_model_len", capacity.max_concurrency
    if not fits and record.values.get("estimated_max_model_len") is not None:
        yield "estimated_max_model_len", longest
    if longest or record.values.get("auto_max_model_len"):
        yield "auto_max_model_len", longest
    if longest and record.values.get("auto_tokens") is not None:
        chosen = layout.capacity(longest, in_flight, available)
        yield "auto_tokens", chosen.tokens
        yield "auto_concurrency", chosen.max_concurrency


def _at_short(launch: Launch, available: tuple[int, ...]) -> Iterator[tuple[str, object]]:
    """The plan with a context of 8192 tokens."""
    layout, limits = launch.layout, launch.limits(_SHORT)
    in_flight = limits.in_flight_tokens
    fits = layout.fits(_SHORT, in_flight, available)
    yield "max_num_batched_tokens_8192", limits.max_num_batched_tokens
    yield "block_size_8192", layout.block_size
    yield "need_blocks_8192", layout.need_blocks(_SHORT, in_flight)
    yield "bytes_per_block_8192", layout.bytes_per_block
    yield "fits_8192", fits
    if fits:
        capacity = layout.capacity(_SHORT, in_flight, available)
        yield "num_blocks_8192", capacity.blocks
        yield "tokens_8192", capacity.tokens
        yield "concurrency_8192", capacity.max_concurrency
    else:
        longest = layout.longest(_SHORT, in_flight, available)
        yield "estimated_max_model_len_8192", longest or None


def _rank_differences(record: Record, launch: Launch) -> Iterator[tuple[str, object, object]]:
    """Rank 0, and of a pipeline the last rank too."""
    held = (launch.stages[0], launch.stages[-1])
    for index, (rank, weights) in enumerate(zip(record.records("ranks"), held, strict=False)):
        for field, ours in (
            ("parameter_bytes", weights.parameter_bytes),
            ("buffer_bytes", weights.buffer_bytes),
        ):
            theirs = rank.integer(field)
            if theirs is not None and ours != theirs:
                yield f"ranks[{index}].{field}", ours, theirs


def _group_differences(record: Record, launch: Launch) -> Iterator[tuple[str, object, object]]:
    """Groups in the engine's order: how many, and of each its layers and its block."""
    theirs = record.records("groups")
    groups = launch.layout.groups
    if len(theirs) != len(groups):
        yield "groups", len(groups), len(theirs)
        return
    for index, (ours, group) in enumerate(zip(groups, theirs, strict=True)):
        if len(ours.layers) != group.integer("layers"):
            yield f"groups[{index}].layers", len(ours.layers), group.integer("layers")
        if group.integer("page_bytes") is not None and not _same_page(ours.page_bytes, group):
            yield f"groups[{index}].page_bytes", ours.page_bytes[0], group.integer("page_bytes")


def _same_page(pages: tuple[int, ...], group: Record) -> bool:
    """Layers with pages of different sizes are summed in the table."""
    theirs = group.integer("page_bytes")
    return theirs in (pages[0], sum(pages)) if len(set(pages)) == 1 else theirs == sum(pages)


def oracle_document(result: OracleScore) -> dict[str, Any]:
    """The form of `plimsoll accuracy --oracle -o json`."""
    return {
        "rows": result.rows,
        "scored": result.scored,
        "equal": result.equal,
        "refused": [
            {
                "line": one.line,
                "reason": str(one.reason),
                "config_missing": one.config_missing,
                "message": one.message,
            }
            for one in result.refused
        ],
        "mismatches": [
            {"line": one.line, "field": one.field, "ours": one.ours, "theirs": one.theirs}
            for one in result.mismatches
        ],
        "contradictory": [
            {"line": one.line, "fields": list(one.fields), "reason": one.reason}
            for one in result.contradictory
        ],
    }
