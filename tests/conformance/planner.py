"""The other end of vllm_planner.py: starts it in its environment and asks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

PYTHON = Path(__file__).parents[2] / ".conformance" / "bin" / "python"


class Planner:
    """VLLM's planning code in a process of its own; to be used with `with`."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [PYTHON, "-P", Path(__file__).with_name("vllm_planner.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"},
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ask(self, case: dict[str, Any]) -> dict[str, Any]:
        """VLLM's answer to a case of support/planning.py."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the planner ended with {self._process.wait()}; run {PYTHON} {__file__} by hand"
        answer: dict[str, Any] = json.loads(line)
        assert "error" not in answer, (answer["error"], json.dumps(case))
        return answer
