"""docs/accuracy.md and docs/accuracy.svg: the score on the logs of bench/data, current with the code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_BENCH = Path(__file__).resolve().parents[2] / "bench"


def outputs() -> dict[Path, str]:
    """Every file that is generated here, relative to the repository's root."""
    sys.path.insert(0, str(_BENCH))
    try:
        found: dict[Path, str] = importlib.import_module("accuracy_report").outputs()
    finally:
        sys.path.remove(str(_BENCH))
    return found
