"""`python -m plimsoll.sandbox.binaries`: fill the cache, and say where everything lies."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from plimsoll.sandbox.binaries.locate import control_plane_binaries, tool_binaries
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.progress import Console

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the cache with the groups named, all of them by default; prints one path per line."""
    parser = argparse.ArgumentParser(prog="python -m plimsoll.sandbox.binaries", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=["controlplane", "tools", []], help="default: both")
    parser.add_argument("--quiet", action="store_true", help="print no paths")
    options = parser.parse_args(arguments)
    groups = options.groups or ["controlplane", "tools"]
    progress = Console()
    try:
        found = [control_plane_binaries(progress)] if "controlplane" in groups else []
        found += [tool_binaries(progress)] if "tools" in groups else []
    except SandboxError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 3
    for binaries in () if options.quiet else found:
        for name, path in binaries.paths.items():
            sys.stdout.write(f"{name}\t{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
