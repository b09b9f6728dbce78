from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plimsoll.manifests.throttling import TERMINATION_PATH, throttling_hook


def tell(cgroup: Path, message: Path) -> str:
    """Run the hook with another control group and another termination message; returns the message."""
    shell, flag, script = throttling_hook()["preStop"]["exec"]["command"]
    script = script.replace("/sys/fs/cgroup", str(cgroup)).replace(TERMINATION_PATH, str(message))
    done = subprocess.run([shell, flag, script], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return message.read_text() if message.exists() else ""


@pytest.mark.parametrize("place", ["cpu.stat", "cpu/cpu.stat"], ids=["cgroup v2", "cgroup v1"])
@pytest.mark.parametrize(
    ("periods", "throttled", "said"),
    [
        (9011, 8914, "Plimsoll: the CPU was throttled in 8914 of 9011 periods\n"),
        (100, 51, "Plimsoll: the CPU was throttled in 51 of 100 periods\n"),
        (100, 50, ""),
        (0, 0, ""),
    ],
    ids=["nearly always", "more than half", "half", "no limit"],
)
def test_more_than_half_of_the_periods_are_told(
    tmp_path: Path, place: str, periods: int, throttled: int, said: str
) -> None:
    stat = tmp_path / "cgroup" / place
    stat.parent.mkdir(parents=True)
    stat.write_text(f"usage_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 7\n")

    assert tell(tmp_path / "cgroup", tmp_path / "message") == said


def test_without_a_control_group_nothing_is_told(tmp_path: Path) -> None:
    assert tell(tmp_path / "nowhere", tmp_path / "message") == ""
