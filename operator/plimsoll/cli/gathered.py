"""A group of options that a command receives as one frozen value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., Any])


def gathered(
    name: str, kind: type[Any], decorators: tuple[Callable[[Any], Any], ...]
) -> Callable[[Command], Command]:
    """Add the options to a command, which receives them as one value under `name`."""

    def decorate(function: Command) -> Command:
        names = tuple(field.name for field in fields(kind))

        @functools.wraps(function)
        def gather(*args: Any, **params: Any) -> Any:
            params[name] = kind(**{key: params.pop(key) for key in names})
            return function(*args, **params)

        command: Any = gather
        for decorator in reversed(decorators):
            command = decorator(command)
        return command  # type: ignore[no-any-return]

    return decorate
