"""The vLLM release that an estimate assumes where none is named."""

from __future__ import annotations

from typing import Final

from plimsoll.sizing.engine import NEWEST

# The release of the operator's own default images; a test holds the two together. It stands here because the
# module of the images needs the types of the custom resource, which take longer to import than an estimate.
DEFAULT_VERSION: Final = ".".join(str(number) for number in NEWEST)
