"""Flux and Argo CD come to the same verdict on the same object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kstatus import verdicts

CUSTOMIZATION = (
    Path(__file__).parents[2]
    / "deploy"
    / "argocd"
    / "resource_customizations"
    / "plimsoll.dev"
    / "ModelDeployment"
)
CASES = yaml.safe_load((CUSTOMIZATION / "health_test.yaml").read_text())["tests"]
# kstatus has no word for what somebody suspended on purpose: a Kustomization that waits goes on waiting.
SAME = {"Healthy": "Current", "Progressing": "InProgress", "Degraded": "Failed", "Suspended": "InProgress"}


@pytest.mark.parametrize("case", CASES, ids=[Path(case["inputPath"]).stem for case in CASES])
def test_kstatus_agrees_with_the_health_check(case: dict[str, Any]) -> None:
    obj = yaml.safe_load((CUSTOMIZATION / case["inputPath"]).read_text())
    if "status" not in obj:
        # Before the operator's first write kstatus knows of no conditions to come, and takes the object as it is.
        assert verdicts([obj]) == ["Current"]
        return

    assert verdicts([obj]) == [SAME[case["healthStatus"]["status"]]]
