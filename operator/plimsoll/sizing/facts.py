"""What is known of a model before it is sized: its config and its files, as the Hub gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Provenance(StrEnum):
    """How far a fact can be trusted."""

    PUBLISHED = "published"  # read from the model's own repository or the vendor's page
    MEASURED = "measured"  # read from a real start-up
    RECALLED = "recalled"  # written from memory: an estimate that rests on it says so


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoFile:
    """One file of a model repository."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One commit of a model repository, as far as sizing, downloading and testing need it."""

    model_id: str
    requested_revision: str
    commit: str  # 40 hex digits; "catalogue-<date>" or "local" for facts that follow no commit
    config: Mapping[str, Any]  # config.json, parsed; never changed
    files: tuple[RepoFile, ...]
    parameters_by_dtype: Mapping[str, int] = field(
        default_factory=dict
    )  # of the safetensors files: {"BF16": n}
    has_chat_template: bool = False
    tensor_bytes: int | None = (
        None  # of the weight files that the engine loads, where their headers were read
    )
    unloaded_bytes: Mapping[str, int] = field(
        default_factory=dict
    )  # in those files and not loaded, by the reason in words
    provenance: Provenance = Provenance.PUBLISHED
    source: str = ""  # where it was read: "Hub", "catalogue", "--config FILE"
    warnings: tuple[str, ...] = ()  # of what was read, such as a weight file that is cut off
