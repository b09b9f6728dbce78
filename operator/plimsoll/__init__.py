"""Plimsoll: says what a GPU may carry, then loads it.

The layers, inner first: `units`, `sizing`, `api`, `manifests`, `reconcile`, then the ones that do I/O
(`hub`, `cluster`, `controller`, `webhook`, `sandbox`, `cli`). See docs/architecture.md.
"""

from __future__ import annotations

__version__ = "0.1.0"
