"""The Argo CD health check, run by a real Lua of the dialect that Argo CD embeds, on Argo CD's own test format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

ARGOCD = Path(__file__).parents[2] / "deploy" / "argocd"
CUSTOMIZATION = ARGOCD / "resource_customizations" / "plimsoll.dev" / "ModelDeployment"
CASES = yaml.safe_load((CUSTOMIZATION / "health_test.yaml").read_text())["tests"]


def health(lua_source: str, obj: dict[str, Any]) -> dict[str, str]:
    runtime = lua51.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    runtime.globals()["obj"] = runtime.table_from(obj, recursive=True)
    result = runtime.execute(lua_source)
    return {"status": result["status"], "message": result["message"]}


@pytest.mark.parametrize("case", CASES, ids=[Path(case["inputPath"]).stem for case in CASES])
def test_health_check_reads_the_conditions(case: dict[str, Any]) -> None:
    obj = yaml.safe_load((CUSTOMIZATION / case["inputPath"]).read_text())

    assert case["healthStatus"] == health((CUSTOMIZATION / "health.lua").read_text(), obj)


def test_every_test_object_is_used() -> None:
    used = {CUSTOMIZATION / case["inputPath"] for case in CASES}

    assert set((CUSTOMIZATION / "testdata").glob("*.yaml")) == used


def test_the_config_map_carries_the_same_lua() -> None:
    config_map = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())

    embedded = config_map["data"]["resource.customizations.health.plimsoll.dev_ModelDeployment"]

    assert (CUSTOMIZATION / "health.lua").read_text() == embedded
