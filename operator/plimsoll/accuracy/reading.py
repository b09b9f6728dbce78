"""Reading what is scored: lines of JSON, their typed fields, and the folder with the configs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE_BYTES: Final = 256 * 2**20
MOST: Final = 2**50  # of any count, and of bytes
_MAX_SHOWN: Final = 80


class InputError(ValueError):
    """A file that cannot be scored: one sentence with the place, the value and the way out."""


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a file of lines, with fields read by type; absent and null are the same.

    Attributes:
        where: for messages ("logs.jsonl, line 3").
    """

    values: Mapping[str, Any]
    where: str

    def text(self, field: str) -> str | None:
        """A string."""
        value = self.values.get(field)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(field, "a string")

    def required(self, field: str) -> str:
        """A string that must be there."""
        value = self.text(field)
        if value is None:
            raise self.wrong(field, "a string; this row cannot be scored without it")
        return value

    def number(self, field: str) -> Decimal | None:
        """A finite number, with the digits that were written."""
        value = self.values.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            raise self.wrong(field, "a number")
        return Decimal(value)

    def integer(self, field: str, *, least: int = 0, most: int = MOST) -> int | None:
        """A whole number in a range."""
        value = self.number(field)
        if value is None:
            return None
        if not least <= value <= most or value != value.to_integral_value():
            raise self.wrong(field, f"a whole number from {least} to {most}")
        return int(value)

    def count(self, field: str, *, least: int = 0, most: int = MOST) -> int:
        """A whole number in a range that must be there."""
        value = self.integer(field, least=least, most=most)
        if value is None:
            raise self.wrong(field, "a whole number; this row cannot be scored without it")
        return value

    def flag(self, field: str) -> bool | None:
        """True or false."""
        value = self.values.get(field)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(field, "true or false")

    def mapping(self, field: str) -> Mapping[str, Any]:
        """An object; an absent one is empty."""
        value = self.values.get(field)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.wrong(field, "an object")
        return value

    def records(self, field: str) -> tuple[Record, ...]:
        """A list of objects; an absent one is empty."""
        value = self.values.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise self.wrong(field, "a list of objects")
        return tuple(Record(one, f"{self.where}, {field}") for one in value)

    def wrong(self, field: str, wanted: str) -> InputError:
        """The sentence about a field that has another type or value."""
        value = self.values.get(field)
        shown = str(value) if isinstance(value, Decimal) else repr(value)
        shown = shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 3] + "..."
        return InputError(f"{self.where}: {field} is {shown}: it must be {wanted}; correct the line.")


def parse_json(text: str) -> Any:
    """JSON with decimals as they were written; NaN and infinities are no JSON.

    Raises:
        ValueError: it is no JSON, or one that is nested too deep or has a number too long to read.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a number of JSON")

    try:
        return json.loads(text, parse_float=_decimal, parse_constant=refuse)
    except RecursionError as problem:
        raise ValueError("nested too deep") from problem


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if value and not -30 < value.adjusted() < 30:  # noqa: PLR2004 - beyond any size in bytes
        raise ValueError(f"{text[:_MAX_SHOWN]} is out of range")
    return value


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        InputError: it cannot be read, is no UTF-8, or is too large.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(
                f"{path}: the file has more than {MAX_FILE_BYTES // 2**20} MiB; split it into several."
            )
        return path.read_text("utf-8")
    except OSError as problem:
        raise InputError(
            f"{path}: cannot be read ({problem.strerror}); name a file that can be."
        ) from problem
    except UnicodeDecodeError as problem:
        raise InputError(f"{path}: the text is not UTF-8; save it as UTF-8.") from problem


def records(path: Path) -> Iterator[tuple[int, Record]]:
    """The objects of a file with one in each line, with the number of the line; blank lines count and are left out.

    Raises:
        InputError: a line is no JSON object.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            value = parse_json(line)
        except ValueError as problem:
            raise InputError(
                f"{where}: not JSON ({problem}); the file must have one JSON object in each line."
            ) from problem
        if not isinstance(value, dict):
            raise InputError(
                f"{where}: {type(value).__name__} is not an object; write one JSON object a line."
            )
        yield number, Record(value, where)


class Configs:
    """A folder with a config for each model, `<org>--<name>.json`.

    The Hub tells names apart by their letters whatever their case, and so does this.
    Keys that begin with `_` are notes beside the config, save `_hf_quant_config`, the file of that name.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the folder.

        Raises:
            InputError: it is not there.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; give the one that holds the configs.")
        files = sorted(folder.glob("*.json"))
        self._files = {path.name.lower(): path for path in files} | {path.name: path for path in files}
        self._known: dict[str, Mapping[str, Any] | None] = {}

    def find(self, model: str) -> Mapping[str, Any] | None:
        """Everything that the model's file says, notes included; None where there is no file.

        Raises:
            InputError: the file is no JSON object.
        """
        name = model.replace("/", "--")
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Mapping[str, Any] | None:
        # A model's name is what a log says: it is looked up among the files, and leads nowhere else.
        path = self._files.get(f"{name}.json") or self._files.get(f"{name}.json".lower())
        if path is None or not path.is_file():
            return None
        try:
            value = json.loads(read_text(path))
        except (ValueError, RecursionError) as problem:
            if isinstance(problem, InputError):
                raise
            raise InputError(
                f"{path}: not JSON ({problem}); replace it with the model's config.json."
            ) from problem
        if not isinstance(value, dict):
            raise InputError(f"{path}: not an object; replace it with the model's config.json.")
        return value


def without_notes(values: Mapping[str, Any]) -> dict[str, Any]:
    """The config alone."""
    return {key: value for key, value in values.items() if not key.startswith("_")}
