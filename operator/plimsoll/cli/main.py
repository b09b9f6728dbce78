"""The console script `plimsoll`."""

from __future__ import annotations

import click

from plimsoll import __version__
from plimsoll.cli.group import LazyCommand, LazyGroup

_EPILOG = """\b
Examples:
  plimsoll estimate mistralai/Mistral-7B-Instruct-v0.3 --gpu A10
  plimsoll estimate deepseek-ai/DeepSeek-V3 --gpu A100-80GB --gpus-per-node 2
  plimsoll plan -f model.yaml
  plimsoll try examples/*.yaml

\b
Exit status: 0 it fits, 1 it is refused, 2 wrong usage, 3 the Hub, the
cluster or the model could not be reached.
"""
_DOWNLOAD = "plimsoll download facebook/opt-125m --to /models/opt-125m"
_RUN_TEST = (
    "plimsoll run-test --suite promptfooconfig.yaml --base-url http://localhost:8000/v1 \\\n"
    "    --served-model-name facebook/opt-125m --api completions --max-model-len 2048"
)


def _command(target: str, short_help: str, example: str = "") -> LazyCommand:
    return LazyCommand(target=f"plimsoll.cli.{target}", short_help=short_help, example=example)


COMMANDS: dict[str, LazyCommand] = {
    "estimate": _command("estimate:estimate", "Say what a model needs on a GPU, and whether it fits."),
    "explain": _command("explain:explain", "Show every number of an estimate, its formula and its source."),
    "plan": _command("plan:plan", "Hold ModelDeployments against the nodes and quotas of a cluster."),
    "catalogue": _command("catalogue:catalogue", "List the models and GPUs that need no network."),
    "render": _command("render:render", "Print the objects that the operator would create, as YAML."),
    "quota": _command("quota:quota", "Print the ResourceQuota that a set of models needs."),
    "accuracy": _command("accuracy:accuracy", "Score the estimator on logs of real start-ups."),
    "try": _command("try_:try_", "Run it all on a local control plane with simulated nodes."),
    "operator": _command("operator:operator", "Run the operator."),
    "webhook": _command("webhook:webhook", "Run the admission webhooks."),
    "download": _command(
        "download:download", "Download a model's files (what the download Job runs).", _DOWNLOAD
    ),
    "run-test": _command("run_test:run_test", "Test a running engine (what the test Job runs).", _RUN_TEST),
}

cli = LazyGroup(
    name="plimsoll",
    lazy=COMMANDS,
    help="Plimsoll says how much a GPU may carry, before anything is loaded.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(__version__, prog_name="plimsoll")(cli)


def main() -> None:
    """Run the command line."""
    cli(prog_name="plimsoll")
