from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from plimsoll import __version__
from plimsoll.cli.errors import ExitStatus, RefusedError, UnreachableError, WrongUsageError
from plimsoll.cli.group import LazyGroup
from plimsoll.cli.main import COMMANDS, cli

HEAVY = ("kopf", "kubernetes", "huggingface_hub", "rich", "aiohttp", "cryptography", "pydantic", "yaml")


def modules_after(arguments: list[str]) -> tuple[int, set[str]]:
    """Exit status of a command in a fresh interpreter, and the top-level modules that it left imported."""
    script = (
        "import sys, json\nfrom plimsoll.cli.main import cli\n"
        "status = 0\n"
        "try:\n    cli(json.loads(sys.argv[1]), prog_name='plimsoll')\n"
        "except SystemExit as end:\n    status = end.code or 0\n"
        "print('MODULES', status, *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    words = ended.stdout.splitlines()[-1].split()
    assert words[0] == "MODULES"
    return int(words[1]), set(words[2:])


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["estimat"]], ids=["help", "version", "typo"]
)
def test_what_needs_no_command_imports_nothing_heavy(arguments: list[str]) -> None:
    status, modules = modules_after(arguments)

    assert status == (2 if arguments == ["estimat"] else 0)
    assert set() == modules & set(HEAVY)


def test_an_estimate_from_the_catalogue_imports_neither_kopf_nor_a_client() -> None:
    status, modules = modules_after(["estimate", "facebook/opt-125m", "--gpu", "A10"])

    assert status == 0
    assert set() == modules & {"kopf", "kubernetes", "huggingface_hub", "aiohttp", "httpx"}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_loads_and_its_help_teaches_with_an_example(name: str) -> None:
    help_text = CliRunner().invoke(cli, [name, "--help"])

    assert help_text.exit_code == 0, help_text.output
    assert (
        f"plimsoll {name}"
        in help_text.output.partition("Examples:")[2] + help_text.output.partition("Example:")[2]
    )
    assert "--debug" in help_text.output


def test_the_groups_help_lists_every_command() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).output.partition("Commands:")[2]

    assert (
        list(COMMANDS)
        == [line.split()[0] for line in listed.splitlines() if line[:2] == "  " != line[:3]][: len(COMMANDS)]
    )


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"plimsoll, version {__version__}\n"


def test_without_a_command_help_goes_to_stderr_as_wrong_usage() -> None:
    result = CliRunner().invoke(cli, [])

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def failing_with(error: BaseException) -> LazyGroup:
    group = LazyGroup(name="plimsoll", lazy={})

    @group.command("fail")
    def fail() -> None:
        raise error

    return group


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        pytest.param(RefusedError("no."), 1, "Error: no.\n", id="refused"),
        pytest.param(WrongUsageError("bad; mend it."), 2, "Error: bad; mend it.\n", id="usage"),
        pytest.param(UnreachableError("gone; try later."), 3, "Error: gone; try later.\n", id="unreachable"),
        pytest.param(RefusedError("two\nlines \x1b[31m."), 1, "Error: two lines ?[31m.\n", id="one line"),
        pytest.param(KeyboardInterrupt(), 130, "Interrupted.\n", id="interrupted"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_status(
    error: BaseException, status: int, sentence: str
) -> None:
    result = CliRunner().invoke(failing_with(error), ["fail"])

    assert (status, "", sentence) == (result.exit_code, result.stdout, result.stderr.lstrip("\n"))


def test_a_fault_of_ours_shows_no_traceback_and_says_what_to_do() -> None:
    result = CliRunner().invoke(failing_with(KeyError("x")), ["fail"])

    assert result.exit_code == ExitStatus.BUG
    assert len(result.stderr.splitlines()) == 1
    assert "fault in plimsoll itself at test_group.py" in result.stderr
    assert "--debug" in result.stderr


@pytest.mark.parametrize("arguments", [["--debug", "fail"], ["fail", "--debug"]], ids=["group", "command"])
def test_debug_shows_the_traceback(arguments: list[str]) -> None:
    result = CliRunner().invoke(failing_with(KeyError("x")), arguments)

    assert result.exit_code == ExitStatus.BUG
    assert "Traceback (most recent call last)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["estimat"], "No such command 'estimat'", id="command"),
        pytest.param(["estimate", "--gpus", "A10"], "No such option '--gpus'", id="option"),
        pytest.param(["estimate", "m", "-o", "xml"], "'xml' is not one of 'table', 'json'", id="choice"),
        pytest.param(["estimate", "a", "b"], "Got unexpected extra argument (b)", id="argument"),
    ],
)
def test_wrong_usage_is_one_sentence_that_names_the_help(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(cli, arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert sentence in result.stderr
    assert "--help`." in result.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m plimsoll estimate facebook/opt-125m -o json | head -c 1 > {os.devnull}; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)

    assert (ended.stdout, ended.stderr) == ("0\n", "")
