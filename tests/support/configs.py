"""Configs of models as tests of sizing hand them in."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from plimsoll.sizing.facts import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

MISSING = object()  # in a patch: take the field out


def facts(config: Mapping[str, Any]) -> ModelFacts:
    """A repository that is known by its config alone."""
    return ModelFacts(model_id="a/b", requested_revision="main", commit="0" * 40, config=config, files=())


def patched(config: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config with other values; a path such as text_config.head_dim names one inside a section."""
    changed = copy.deepcopy(dict(config))
    for path, value in patch.items():
        *sections, field = path.split(".")
        part = changed
        for section in sections:
            part = part[section]
        if value is MISSING:
            part.pop(field, None)
        else:
            part[field] = value
    return changed
