"""The Flux objects, read strictly by Flux's own types."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries import tool_binaries

FLUX = Path(__file__).parents[2] / "deploy" / "flux" / "kustomization.yaml"


def lint(text: str) -> subprocess.CompletedProcess[str]:
    binary = tool_binaries(names=["fluxlint"])["fluxlint"]
    return subprocess.run([binary], input=text, capture_output=True, text=True, check=False, timeout=30)


def test_flux_reads_the_objects() -> None:
    result = lint(FLUX.read_text())

    assert (result.returncode, result.stdout) == (0, "GitRepository models\nKustomization models\n")


@pytest.mark.parametrize("field", ["wait", "prune", "interval"])
def test_a_field_that_flux_does_not_know_is_an_error(field: str) -> None:
    result = lint(FLUX.read_text().replace(f"  {field}: ", f"  {field}Z: "))

    assert result.returncode == 1
    assert f'unknown field "{field}Z"' in result.stderr
