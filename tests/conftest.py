"""What all tests share: golden files, and examples that are judged by what they do and not by how long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable


# Speed is measured in bench/. A deadline in a test fails on a busy machine and says nothing about the code. A run that
# decides something takes the same examples as the one before; `--hypothesis-profile=explore` looks further.
settings.register_profile("plimsoll", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("plimsoll")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="Write what is produced into the golden files; read the diff before you commit it.",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of this name in the folder `golden` beside the test."""
    folder = Path(request.path).parent / "golden"
    update = request.config.getoption("--update-golden")

    def check(name: str, actual: str) -> None:
        path = folder / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8")
            return
        assert path.exists(), f"{path} is missing: run pytest --update-golden and read the diff"
        assert path.read_text(encoding="utf-8") == actual

    return check
