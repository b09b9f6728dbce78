"""The binaries of the sandbox and of the tests: found, downloaded and checked, or built; kept in a cache."""

from __future__ import annotations

from plimsoll.sandbox.binaries.locate import (
    Binaries,
    cache_folder,
    control_plane_binaries,
    node_binaries,
    tool_binaries,
)

__all__ = ["Binaries", "cache_folder", "control_plane_binaries", "node_binaries", "tool_binaries"]
