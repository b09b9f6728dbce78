"""One planner for all tests of the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.planner import PYTHON, Planner

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def planner() -> Iterator[Planner]:
    """VLLM's planning code; `hack/test conformance` prepares what it needs."""
    if not PYTHON.exists():
        pytest.skip("there is no .conformance; run hack/conformance")
    with Planner() as running:
        yield running
