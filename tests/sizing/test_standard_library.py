"""Sizing can be imported where there is nothing but Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "operator"
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import plimsoll.sizing
for module in pkgutil.walk_packages(plimsoll.sizing.__path__, "plimsoll.sizing."):
    importlib.import_module(module.name)
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(names - sys.stdlib_module_names))
"""


def test_sizing_imports_nothing_outside_the_standard_library() -> None:
    # -S leaves every installed package out, so that an import of one fails and is named.
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, SOURCE], capture_output=True, text=True, check=False
    )
    assert not found.stderr
    assert found.stdout.split() == ["plimsoll"]
