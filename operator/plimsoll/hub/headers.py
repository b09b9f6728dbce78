"""The headers of weight files: what tensors they hold, read where sizes alone leave a question."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.files import unexplained_bytes
from plimsoll.sizing.headers import (
    LENGTH_BYTES,
    HeaderError,
    StoredTensor,
    header_length,
    parameters_by_dtype,
    read_header,
    unloaded,
)
from plimsoll.sizing.selection import weight_files
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plimsoll.sizing.facts import ModelFacts, RepoFile

    # (path in the repository, first byte, how many) -> at most so many bytes
    ReadBytes = Callable[[str, int, int], bytes]

# DeepSeek-V3, with 92,000 tensors in 163 files, has 11 MiB of headers in all.
_MAX_TOTAL_BYTES: Final = 64 * MIB
_MAX_FILES: Final = 256
_FIRST_READ_BYTES: Final = 128 * KIB  # of most files the whole header: one read each
_SUFFIX: Final = ".safetensors"


def leave_a_question(facts: ModelFacts) -> bool:
    """Whether the sizes of the files neither agree with config.json nor have a known reason not to."""
    if not 1 <= len(_with_headers(facts)) <= _MAX_FILES:
        return False
    try:
        return unexplained_bytes(shape_from_facts(facts), facts) != 0
    except UnsupportedModelError:
        return False


def with_headers(facts: ModelFacts, read: ReadBytes) -> ModelFacts:
    """The facts with what the headers of the safetensors files say, or with the sentence on the one that is broken.

    Files in other forms have no header; they count by their size.
    """
    files = _with_headers(facts)
    if not files:
        return facts
    try:
        tensors = _tensors(files, read)
    except HeaderError as error:
        return replace(facts, warnings=(*facts.warnings, str(error)))
    return facts if tensors is None else _told(facts, tensors)


def with_headers_in(facts: ModelFacts, folder: Path) -> ModelFacts:
    """The same of a local folder; files that cannot be read count by their size."""

    def read(path: str, start: int, length: int) -> bytes:
        with (folder / path).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    try:
        return with_headers(facts, read)
    except OSError:
        return facts


def _with_headers(facts: ModelFacts) -> list[RepoFile]:
    return [file for file in weight_files(facts.files) if file.path.endswith(_SUFFIX)]


def _told(facts: ModelFacts, tensors: tuple[StoredTensor, ...]) -> ModelFacts:
    """The facts with what these tensors, which are all that the engine opens, add up to."""
    try:
        shape = shape_from_facts(facts)
    except UnsupportedModelError:  # said with its own sentence when the model is sized
        left: dict[str, int] = {}
    else:
        left = unloaded(tensors, num_layers=len(shape.layers), tied_embeddings=shape.tied_embeddings)
    return replace(
        facts,
        tensor_bytes=sum(tensor.size_bytes for tensor in tensors),
        unloaded_bytes=left,
        parameters_by_dtype=parameters_by_dtype(tensors),
    )


def _tensors(files: list[RepoFile], read: ReadBytes) -> tuple[StoredTensor, ...] | None:
    """The tensors of all files; None where the headers are longer together than any model's."""
    found: list[StoredTensor] = []
    left = _MAX_TOTAL_BYTES
    for file in files:
        start = read(file.path, 0, min(_FIRST_READ_BYTES, file.size_bytes))
        length = header_length(start, file.path, file.size_bytes)
        left -= length
        if left < 0:
            return None
        end = LENGTH_BYTES + length
        if len(start) < end:
            start += read(file.path, len(start), end - len(start))
        found += read_header(start[LENGTH_BYTES:end], file.path, file.size_bytes)
    return tuple(found)
