"""The promptfoo suite: the built-in smoke suite, or the user's own tests against the same provider."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

from plimsoll.manifests import labels
from plimsoll.manifests.labels import Component
from plimsoll.manifests.names import suite_config_map_name
from plimsoll.manifests.pod_template import metadata

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context

SUITE_KEY: Final = "promptfooconfig.yaml"
Api = Literal["chat", "completions"]

_SMOKE_TOKENS: Final = 32
_TEST_TOKENS: Final = 512
# A text that is one unit of up to 32 characters over and over, four times at the least.
REPETITION: Final = r"^\s*(\S[\s\S]{0,31}?)(\s*\1){3,}\s*$"
_SMOKE_PROMPTS: Final = (
    ("a sentence to finish", "The capital of France is the city of"),
    ("a story to go on with", "Once upon a time, in a small town by the sea, there lived"),
    ("a list to continue", "The days of the week are Monday, Tuesday,"),
)


def api(ctx: Context) -> Api:
    """Chat completions where the tokenizer has a template, completions where it has none."""
    return "chat" if ctx.plan.has_chat_template else "completions"


def suite_text(ctx: Context) -> str | None:
    """The promptfoo configuration as YAML; None: the user's own ConfigMap is mounted as it is."""
    promptfoo = ctx.promptfoo
    if promptfoo.config_map_ref is not None:
        return None
    config = _smoke(ctx) if promptfoo.tests is None else _user(ctx, promptfoo.to_json()["tests"])
    # Through JSON, so that no object of ours and no anchor gets into the document.
    plain = json.loads(json.dumps(config))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=False, width=1_000_000)


def suite_config_map(ctx: Context, suite: str) -> dict[str, Any]:
    """The ConfigMap `<name>-suite-<suite>` of a suite that is not the user's own ConfigMap.

    Raises:
        ValueError: test.promptfoo.configMapRef names one, so there is none to make.
    """
    text = suite_text(ctx)
    if text is None:
        raise ValueError("test.promptfoo.configMapRef is set: the ConfigMap is the user's")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            ctx, suite_config_map_name(ctx.name, suite), labels.component(ctx.name, Component.TEST)
        ),
        "immutable": True,  # its name holds the hash of its content
        "data": {SUITE_KEY: text},
    }


def provider_id(api_kind: Api, served_model_name: str) -> str:
    """The engine by promptfoo's name for it."""
    return f"openai:{'chat' if api_kind == 'chat' else 'completion'}:{served_model_name}"


def _config(ctx: Context, description: str, provider: dict[str, Any], tests: list[Any]) -> dict[str, Any]:
    return {
        "description": description,
        "prompts": ["{{prompt}}"],
        # The address and the key come by environment: the same suite serves every revision.
        "providers": [{"id": provider_id(api(ctx), ctx.served_model_name), "config": provider}],
        "tests": tests,
    }


def _smoke(ctx: Context) -> dict[str, Any]:
    """Prompts that any language model answers with some text, and an engine that is broken does not.

    Sampling is at temperature 1 with a fixed seed: small models fall into loops when they are greedy, and that is
    no fault of the engine. A least number of tokens keeps a model from ending at once.
    """
    tokens = max(1, min(_SMOKE_TOKENS, ctx.plan.max_model_len // 4))
    provider = {
        "temperature": 1,
        "max_tokens": tokens,
        "passthrough": {"seed": 1, "min_tokens": tokens},
    }
    return _config(
        ctx, "Plimsoll smoke suite", provider, [_smoke_test(name, text) for name, text in _SMOKE_PROMPTS]
    )


def _smoke_test(description: str, prompt: str) -> dict[str, Any]:
    return {
        "description": description,
        "vars": {"prompt": prompt},
        "assert": [
            {"type": "regex", "value": r"\S", "metric": "not-empty"},
            {"type": "not-regex", "value": REPETITION, "metric": "not-one-repeated-token"},
        ],
    }


def _user(ctx: Context, tests: list[Any]) -> dict[str, Any]:
    """The user's test cases; greedy, so that a test that passed once passes again."""
    provider = {"temperature": 0, "max_tokens": max(1, min(_TEST_TOKENS, ctx.plan.max_model_len // 4))}
    return _config(ctx, "Tests of the ModelDeployment", provider, tests)
