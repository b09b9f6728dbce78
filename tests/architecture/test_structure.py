"""The rules of the house that a machine can hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "plimsoll"
SOURCES = sorted(PACKAGE.rglob("*.py"))
OURS = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]


def test_the_source_root_is_no_package() -> None:
    # With an __init__.py here, Python started in the root would import it instead of the standard library's operator.
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_is_longer_than_40_lines_of_code(path: Path) -> None:
    def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
        return (body[-1].end_lineno or 0) - body[0].lineno + 1

    assert {f.name: code_lines(f) for f in _functions(path) if code_lines(f) > 40} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_parts_read_no_clock_and_no_environment(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] not in {"units.py", "sizing", "api", "manifests", "reconcile"}:
        return
    forbidden = re.compile(r"os\.environ|os\.getenv|time\.time\(|datetime\.now\(|utcnow\(|date\.today\(")

    assert forbidden.findall(path.read_text()) == []


def test_importing_the_command_line_is_light() -> None:
    code = "import sys, plimsoll.cli.main; print(*[m for m in ('kopf', 'kubernetes', 'huggingface_hub', 'aiohttp') if m in sys.modules])"

    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert out.stdout.strip() == ""


def test_the_lock_pins_every_direct_dependency_by_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[<>=~!\[; ]", entry)[0].lower().replace("_", "-") for entry in wanted}
    lock = (ROOT / "requirements.lock").read_text()
    pinned = set(re.findall(r"^([a-z0-9.-]+)==[^\n]+\\\n\s+--hash=sha256:", lock, flags=re.MULTILINE))

    assert names - pinned == set()
    assert "://" not in lock


def test_import_layers_hold() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout
