"""What a running engine reports of itself, and how far the plan is from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from plimsoll.api.base import MAX_SAFE_INTEGER
from plimsoll.api.status import MeasuredStatus
from plimsoll.manifests.labels import Component
from plimsoll.reconcile.situation import find_server
from plimsoll.sizing.engine import UnsupportedOptionError, parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plimsoll.api.spec import ModelDeployment
    from plimsoll.api.status import ModelDeploymentStatus, PlanStatus
    from plimsoll.reconcile.observed import Observed

# What an exporter may add: an error above it is worth a person's look.
TOLERATED_PERCENT: Final = 5
# Source: vLLM 0.32.0, v1/metrics/loggers.py (log_metrics_info): the cache configuration as labels of a gauge.
_FAMILY: Final = "vllm:cache_config_info"
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(,|$)')
_ESCAPED: Final = re.compile(r"\\(.)")
_DIGITS: Final = re.compile(r"[0-9]{1,16}")
_MAX_VERSION_LENGTH: Final = 64
_LARGEST_BLOCK: Final = 2**31 - 1


class ReportError(ValueError):
    """An engine answered with something that is no report: one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """The KV cache as vLLM reports it.

    Attributes:
        tokens: None where the release does not say it (before 0.26).
    """

    blocks: int
    block_size: int
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What the engine of one revision said.

    Attributes:
        version: None where it did not say.
    """

    revision: str
    cache: CacheConfig
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine that is up and was not read yet: the address of its pod."""

    revision: str
    address: str


def parse_cache_config(text: str) -> CacheConfig:
    """Read the cache configuration out of /metrics, in Prometheus' text format.

    Raises:
        ReportError: it is not there, not whole, or differs between the ranks of one engine.
    """
    found = {
        CacheConfig(
            blocks=_number(labels, "num_gpu_blocks"),
            block_size=_number(labels, "block_size"),
            tokens=_number(labels, "kv_cache_size_tokens") if _says(labels, "kv_cache_size_tokens") else None,
        )
        for labels in _series(text)
    }
    if not found:
        raise ReportError(
            f"its metrics have no {_FAMILY}; see that the image is vLLM's and keeps its metrics on"
        )
    if len(found) > 1:
        raise ReportError(f"its ranks report {len(found)} different KV caches in {_FAMILY}; see its log")
    return found.pop()


def parse_version_answer(text: str) -> str:
    """Read what /version answers.

    Raises:
        ReportError: it is no JSON object with a text `version`.
    """
    try:
        answer: Any = json.loads(text)
    except ValueError:
        answer = None
    version = answer.get("version") if isinstance(answer, dict) else None
    if not isinstance(version, str) or not 0 < len(version) <= _MAX_VERSION_LENGTH:
        raise ReportError(f"its /version is {text[:80]!r}; a JSON object with a version was expected")
    return version


def engine_to_read(deployment: ModelDeployment, revision: str | None, observed: Observed) -> Engine | None:
    """The engine of a revision, if it is up: the first of its ready pods that has an address."""
    server = find_server(deployment, observed, revision)
    if revision is None or server is None or server.ready == 0:
        return None
    for pod in observed.pods:
        ours = pod.id.component == Component.SERVER and pod.id.revision == revision
        if ours and pod.ready and not pod.id.deleting and pod.address is not None:
            return Engine(revision=revision, address=pod.address)
    return None


def measured_status(
    previous: MeasuredStatus | None, report: EngineReport | None, plan: PlanStatus, revision: str
) -> MeasuredStatus | None:
    """What status keeps of the requested revision's engine: the first report, with the error of the present plan."""
    if previous is not None and previous.revision == revision:
        found = previous
    elif report is not None and report.revision == revision:
        found = MeasuredStatus(
            revision=revision,
            version=report.version,
            kv_cache_tokens=report.cache.tokens,
            blocks=report.cache.blocks,
            block_size=report.cache.block_size,
        )
    else:
        return None
    error = error_percent(plan, found)
    return found.model_copy(update={"error_percent": None if error is None else percent_text(error)})


def error_percent(plan: PlanStatus, measured: MeasuredStatus) -> Fraction | None:
    """How far the expected cache is from the measured one: in tokens, or in blocks where the engine says no tokens."""
    if measured.kv_cache_tokens is not None:
        return _relative(_expected_tokens(plan), measured.kv_cache_tokens)
    return _relative(_expected_blocks(plan), measured.blocks)


def _expected_tokens(plan: PlanStatus) -> int:
    """A plan promises the safe end; what it is held to is what was expected."""
    expected = plan.expected_kv_cache_tokens
    return plan.kv_cache_tokens if expected is None else expected


def _expected_blocks(plan: PlanStatus) -> int | None:
    expected = plan.expected_kv_cache_blocks
    return plan.kv_cache_blocks if expected is None else expected


def percent_text(error: Fraction) -> str:
    """Two decimals with the sign; nothing has none."""
    rounded = (Decimal(error.numerator) / Decimal(error.denominator)).quantize(
        Decimal("0.01"), rounding=ROUND_HALF_EVEN
    )
    return f"{rounded:+.2f}" if rounded else "0.00"


def plan_note(status: ModelDeploymentStatus) -> str | None:
    """What the user should know of the plan now that the engine runs; None: they agree."""
    plan, measured = status.plan, status.measured
    if plan is None or measured is None:
        return None
    sentences = []
    error = error_percent(plan, measured)
    if error is not None and abs(error) > TOLERATED_PERCENT:
        sentences.append(_difference(plan, measured, percent_text(error)))
    if measured.version is not None and not _same_release(measured.version, plan.engine_version):
        sentences.append(
            f"The engine says that it is vLLM {measured.version} and the plan assumes {plan.engine_version}; set "
            "engine.version to the release that the image holds."
        )
    return " ".join(sentences) or None


def _difference(plan: PlanStatus, measured: MeasuredStatus, error: str) -> str:
    planned, found, unit = _expected_tokens(plan), measured.kv_cache_tokens, "tokens"
    if found is None:
        planned, found, unit = _expected_blocks(plan) or 0, measured.blocks, "blocks"
    return (
        f"The engine's KV cache holds {found} {unit} and {planned} were expected (error {error} %); set "
        "engine.vllm.kvCacheMemory for a cache of exactly one size."
    )


def _relative(planned: int | None, measured: int) -> Fraction | None:
    if planned is None or measured == 0:
        return None
    return Fraction(100 * (planned - measured), measured)


def _same_release(said: str, assumed: str) -> bool:
    """Compare releases; a build's own suffix, or a text that names no release, is not held against it."""
    try:
        return parse_version(said) == parse_version(assumed)
    except UnsupportedOptionError:
        return True


def _series(text: str) -> Iterator[Mapping[str, str]]:
    """The labels of each series of the family."""
    for line in text.splitlines():
        if line.startswith(_FAMILY + "{"):
            yield _labels(line[len(_FAMILY) + 1 :])


def _labels(rest: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(rest) and rest[position] != "}":
        match = _LABEL.match(rest, position, _end(rest))
        if match is None:
            raise ReportError(f"its {_FAMILY} cannot be read at {rest[position : position + 40]!r}")
        found[match[1]] = _ESCAPED.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], match[2])
        position = match.end()
    return found


def _end(rest: str) -> int:
    """Where the labels end: at the last brace, since a value may hold others."""
    end = rest.rfind("}")
    if end < 0:
        raise ReportError(f"its {_FAMILY} is cut off")
    return end


def _says(labels: Mapping[str, str], name: str) -> bool:
    return labels.get(name, "None") != "None"


def _number(labels: Mapping[str, str], name: str) -> int:
    text = labels.get(name, "")
    largest = _LARGEST_BLOCK if name == "block_size" else MAX_SAFE_INTEGER
    number = int(text) if _DIGITS.fullmatch(text) else -1
    if not (name == "block_size") <= number <= largest:
        raise ReportError(f"its {_FAMILY} says {name} {text[:40]!r}, which is no number of a KV cache")
    return number
