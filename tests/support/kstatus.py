"""kstatus, the library by which Flux and others judge an object, as a Go tool."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from plimsoll.sandbox.binaries import tool_binaries


def verdicts(objects: list[dict[str, Any]]) -> list[str]:
    """What kstatus says of each object: Current, InProgress, Failed, ..."""
    binary = tool_binaries(names=["kstatus"])["kstatus"]
    done = subprocess.run(
        [binary], input=json.dumps(objects), capture_output=True, text=True, check=True, timeout=30
    )
    return [verdict["status"] for verdict in json.loads(done.stdout)]
