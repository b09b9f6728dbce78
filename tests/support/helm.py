"""helm, as a Go tool, on this chart."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "plimsoll"
NAMESPACE = "plimsoll-system"


@dataclass(frozen=True)
class Helm:
    binary: Path
    home: Path

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        environment |= {f"HELM_{kind}_HOME": str(self.home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        return subprocess.run(
            [self.binary, *arguments],
            check=check,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
        )

    def template(self, *arguments: str) -> list[dict[str, Any]]:
        rendered = self("template", "plimsoll", str(CHART), "--namespace", NAMESPACE, *arguments).stdout
        return [document for document in yaml.safe_load_all(rendered) if document]
