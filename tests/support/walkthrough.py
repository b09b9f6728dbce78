"""Writes docs/walkthrough.md from a run on the real node: what a user typed, and what came."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_HEAD = """# A walk through one deployment

What `kubectl` showed while a model went the whole way on a real node: a real download, vLLM on CPU, a real promptfoo
suite. Written by `hack/test node --update-golden`; names of the namespace aside, nothing is edited.
"""
_NAMESPACE = re.compile(r"\bnode-[0-9a-f]{8}\b")


def write(path: Path, *, applied: dict[str, Any], watched: str, final: str, answer: str) -> None:
    """Write the page; the resource is quoted as it was applied and as it was at the end."""
    parts = (
        ("`kubectl apply -f` of this:", "yaml", _yaml(applied)),
        ("`kubectl get modeldeployments.plimsoll.dev -w`, until it was Ready:", "text", watched.rstrip()),
        (
            "A chat completion through the public Service, from another pod (the weights are random):",
            "json",
            answer,
        ),
        ("`kubectl get modeldeployments.plimsoll.dev chat -o yaml` at the end:", "yaml", final.rstrip()),
    )
    text = _HEAD + "".join(f"\n{title}\n\n```{kind}\n{content}\n```\n" for title, kind, content in parts)
    path.write_text(_NAMESPACE.sub("team-a", text), encoding="utf-8")


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip()
