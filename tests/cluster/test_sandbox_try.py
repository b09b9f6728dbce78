"""`plimsoll try`, whole: every example comes to what its first line promises, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from plimsoll.sandbox.binaries import Binaries
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import listens, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
TRY = [sys.executable, "-m", "plimsoll", "try"]


def commands() -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (folder / "cmdline").read_text().replace("\0", " ")


def left_of(folder: str) -> list[str]:
    """The processes that name the sandbox's folder, as each of them does."""
    return [command for command in commands() if folder in command]


def run_try(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRY, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def test_every_example_comes_to_what_it_promises(binaries: Binaries) -> None:
    done = run_try(*map(str, EXAMPLES), "--once", environment={"COLUMNS": "200"})

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXAMPLES)} of {len(EXAMPLES)} files are as they promise." == done.stdout.splitlines()[-1]


def test_an_example_that_comes_to_something_else_fails_by_name(binaries: Binaries, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        (ROOT / "examples" / "12-refused-revision-is-a-path.yaml")
        .read_text()
        .replace("revision:", "revision: main #")
    )

    done = run_try(str(wrong), "--once", "--timeout", "5")

    assert done.returncode == 1
    assert "promised refused by admission: spec.model.revision; seen: accepted" in " ".join(
        done.stdout.split()
    )
    assert done.stderr.splitlines()[-1].startswith("Error: not as promised: wrong.yaml;")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_leaves_no_process_and_no_port(
    binaries: Binaries, tmp_path: Path, number: signal.Signals
) -> None:
    kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "out"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*TRY, str(EXAMPLES[0]), f"--kubeconfig-out={kubeconfig}"],
            stdout=out,
            stderr=out,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    kubectl = Kubectl(binary=binaries["kubectl"], kubeconfig=kubeconfig, cache=tmp_path / "cache")

    def applied() -> bool:
        assert process.poll() is None, log.read_text()
        return "modeldeployment.plimsoll.dev/opt-125m created" in log.read_text()

    wait_until(applied, what="the first example", seconds=90)
    assert kubectl("get", "nodes").ok
    assert len(left_of(f"{tmp_path}/plimsoll-")) >= 6
    server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]

    process.send_signal(number)

    assert process.wait(timeout=30) == 0, log.read_text()
    assert not listens(int(server.rsplit(":", 1)[1]))
    assert left_of(str(tmp_path)) == []
    assert log.read_text().endswith("Stopped; nothing is left running.\n")
    assert "Traceback" not in log.read_text()


def test_an_interrupt_while_it_starts_leaves_nothing_either(binaries: Binaries, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*TRY, "--once"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True
    )
    wait_until(
        lambda: any(f"etcd --data-dir={tmp_path}" in command for command in commands()),
        what="etcd",
        seconds=60,
    )

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert left_of(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# expect: Redy\nkind: ModelDeployment\n", "the first line expects 'Redy'"),
        ("nonsense", "every document must be a Kubernetes object"),
    ],
)
def test_a_file_that_cannot_be_meant_is_wrong_usage(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)

    done = run_try(str(path))

    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
