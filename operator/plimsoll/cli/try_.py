"""`plimsoll try`: the whole operator on a local control plane with simulated GPU nodes."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plimsoll.cli.errors import RefusedError, UnreachableError, WrongUsageError
from plimsoll.cli.output import terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from plimsoll.sandbox.expectations import Example
    from plimsoll.sandbox.live import Screen
    from plimsoll.sandbox.session import Sandbox
    from plimsoll.sandbox.trial import Result, Trial

_LOOK_SECONDS = 0.7


@click.command(
    "try",
    epilog="""\b
Examples:
  plimsoll try examples/*.yaml
  plimsoll try examples/*.yaml --once
  plimsoll try my-model.yaml --nodes my-nodes.yaml --kubeconfig-out ./sandbox.kubeconfig

\b
The first line of a file may say what it is to come to:
  # expect: Ready
  # expect: Ready=False reason=DoesNotFit
  # expect: refused by admission: spec.model.revision
  # expect: filled""",
)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--once", is_flag=True, help="Wait until every file is as it promises, print the table and end."
)
@click.option(
    "--nodes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Other nodes.",
)
@click.option(
    "--kubeconfig-out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a kubeconfig of an administrator here; it ends with the sandbox.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 3600),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="With --once: how long to wait after the last file was applied.",
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the log of every process here.",
)
def try_(
    files: tuple[Path, ...],
    once: bool,
    nodes: Path | None,
    kubeconfig_out: Path | None,
    timeout: int,
    logs: Path | None,
) -> None:
    """Run the whole operator on this machine: a real control plane, simulated GPU nodes, a Hub on loopback.

    It applies FILES and shows each model's plan, stages and events until Ctrl-C, which leaves nothing behind.
    The control plane's programs come from a cache; the first time they are downloaded or built.
    """
    from plimsoll.sandbox.errors import SandboxError
    from plimsoll.sandbox.expectations import read_examples
    from plimsoll.sandbox.nodes import load_nodes

    try:
        examples = read_examples(files)
        node_objects = load_nodes(nodes)
    except SandboxError as error:
        raise WrongUsageError(str(error)) from error
    try:
        results = _in_sandbox(
            examples, node_objects, once=once, timeout=timeout, kubeconfig_out=kubeconfig_out, logs=logs
        )
    except SandboxError as error:
        sentence, _, quoted = str(error).partition("\n")
        if quoted:
            click.echo(quoted, err=True)
        raise UnreachableError(sentence) from error
    if once:
        _conclude(results)


def _in_sandbox(
    examples: Sequence[Example],
    nodes: Sequence[dict[str, Any]],
    *,
    once: bool,
    timeout: int,
    kubeconfig_out: Path | None,
    logs: Path | None,
) -> tuple[Result, ...]:
    from plimsoll.sandbox.binaries import control_plane_binaries
    from plimsoll.sandbox.live import Screen
    from plimsoll.sandbox.progress import Console
    from plimsoll.sandbox.session import Sandbox
    from plimsoll.sandbox.trial import Trial

    progress = Console()
    sandbox = Sandbox(control_plane_binaries(progress), nodes=nodes)
    with _interrupted_once() as stopping, ExitStack() as cleanup:
        with progress.step("starting the control plane, the nodes, the Hub stand-in and the operator"):
            sandbox.start()
        cleanup.callback(sandbox.stop)
        if logs is not None:
            cleanup.callback(_keep_logs, sandbox.folder, logs)
        cleanup.callback(stopping)
        kubeconfig = _write_kubeconfig(sandbox, kubeconfig_out)
        with Screen(terminal()) as screen:
            screen.say(f"kubectl --kubeconfig={kubeconfig} get modeldeployments.plimsoll.dev -A")
            trial = Trial(sandbox.kubectl, examples)
            try:
                _apply(screen, trial)
                return _watch(screen, sandbox, trial, seconds=timeout if once else None)
            except KeyboardInterrupt:
                if once:
                    raise
    click.echo("Stopped; nothing is left running.", err=True)
    return ()


def _apply(screen: Screen, trial: Trial) -> None:
    for example in trial.examples:
        outcome = trial.apply(example)
        printed = "\n".join(text for text in (outcome.stdout.strip(), outcome.stderr.strip()) if text)
        screen.say(f"$ kubectl apply -f {example.path}\n{printed}")
        screen.show(trial.look())


def _watch(screen: Screen, sandbox: Sandbox, trial: Trial, *, seconds: int | None) -> tuple[Result, ...]:
    """Show what happens until all is as promised, or for `seconds`; for ever where they are None."""
    ends = None if seconds is None else time.monotonic() + seconds
    while True:
        sandbox.check()
        snapshot = trial.look()
        results = trial.results(snapshot)
        met = sum(result.finding.met for result in results)
        footer = f"{met} of {len(results)} files are as they promise"
        screen.show(snapshot, footer if seconds is not None else f"{footer}; Ctrl-C ends")
        if ends is not None and (trial.is_over(results) or time.monotonic() > ends):
            return results
        time.sleep(_LOOK_SECONDS)


def _conclude(results: Sequence[Result]) -> None:
    """Print the table, and end by the result."""
    from plimsoll.sandbox.live import result_table

    met = sum(result.finding.met for result in results)
    console = terminal()
    console.print(result_table(results))
    click.echo(f"{met} of {len(results)} files are as they promise.")
    missed = ", ".join(result.example.path.name for result in results if not result.finding.met)
    if missed:
        raise RefusedError(f"not as promised: {missed}; run it again with --logs DIR and read operator.log.")


def _write_kubeconfig(sandbox: Sandbox, target: Path | None) -> Path:
    from plimsoll.sandbox.certificates import write_secret

    if target is None:
        return sandbox.kubeconfig
    try:
        write_secret(target, sandbox.kubeconfig.read_bytes())
    except OSError as error:
        raise WrongUsageError(
            f"--kubeconfig-out {target}: {error.strerror}; name a file that can be written."
        ) from error
    return target


def _keep_logs(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for log in sorted(source.glob("*.log")):
        shutil.copy(log, target / log.name)
    click.echo(f"The logs are in {target}.", err=True)


@contextmanager
def _interrupted_once() -> Iterator[Callable[[], None]]:
    """SIGTERM and SIGHUP end it like Ctrl-C; yields what to call when stopping, so that a second one disturbs nothing."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
