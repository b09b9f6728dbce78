"""The custom resource from the pydantic types: for kubectl, for the chart, and as a page to read."""

from __future__ import annotations

from pathlib import Path

from plimsoll.api.crd import PATH, crd_yaml
from plimsoll.api.reference import reference

_CHART = Path("deploy/helm/plimsoll/files/crd.yaml")  # helm reads files inside the chart only
_PAGE = Path("docs/api.md")


def outputs() -> dict[Path, str]:
    """Every file that is generated here, relative to the repository's root."""
    text = crd_yaml()
    return {Path(PATH): text, _CHART: text, _PAGE: reference()}
