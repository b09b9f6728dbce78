"""The custom resource from the pydantic types: for kubectl, and as a page to read."""

from __future__ import annotations

from pathlib import Path

from plimsoll.api.crd import PATH, crd_yaml
from plimsoll.api.reference import reference

_PAGE = Path("docs/api.md")


def outputs() -> dict[Path, str]:
    """Every file that is generated here, relative to the repository's root."""
    return {Path(PATH): crd_yaml(), _PAGE: reference()}
