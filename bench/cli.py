"""How long a person waits for the command line: `python bench/cli.py [--runs N] [--json FILE]`.

Each command runs in a process of its own, as in a shell. Prints a table and, on request, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

_MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
_DEEPSEEK = "deepseek-ai/DeepSeek-V3"
# Name, arguments, and the exit status that says that the command did its work.
COMMANDS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("plimsoll --help", ("--help",), 0),
    ("plimsoll estimate --help", ("estimate", "--help"), 0),
    ("estimate, one GPU", ("estimate", _MISTRAL, "--gpu", "A10"), 0),
    ("estimate, one GPU, JSON", ("estimate", _MISTRAL, "--gpu", "A10", "-o", "json"), 0),
    ("estimate, every GPU of the catalogue", ("estimate", _MISTRAL), 0),
    (
        "estimate, a refusal with what would fit",
        ("estimate", _DEEPSEEK, "--gpu", "A100-80GB", "--gpus-per-node", "2"),
        1,
    ),
)


def seconds_of(arguments: tuple[str, ...], expected_status: int) -> float:
    """Run one command and take the wall time; another exit status than the expected one ends the benchmark."""
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "plimsoll", *arguments], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if ended.returncode != expected_status:
        sys.exit(f"plimsoll {' '.join(arguments)} ended with {ended.returncode}: {ended.stderr.strip()}")
    return seconds


def measure(runs: int) -> list[dict[str, object]]:
    """Every command `runs` times, after one run that fills the caches of bytecode and files."""
    rows: list[dict[str, object]] = []
    for name, arguments, status in COMMANDS:
        seconds_of(arguments, status)
        times = sorted(seconds_of(arguments, status) for _ in range(runs))
        rows.append(
            {
                "command": name,
                "runs": runs,
                "median_seconds": round(statistics.median(times), 4),
                "least_seconds": round(times[0], 4),
                "most_seconds": round(times[-1], 4),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the commands that a person waits for.")
    parser.add_argument("--runs", type=int, default=10, help="runs of each command (default 10)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    rows = measure(options.runs)
    print(f"{'command':<42}{'median':>10}{'least':>10}{'most':>10}")
    for row in rows:
        figures = (row["median_seconds"], row["least_seconds"], row["most_seconds"])
        print(f"{row['command']:<42}" + "".join(f"{figure:>8.3f} s" for figure in figures))
    if options.json is not None:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        options.json.write_text(json.dumps({**machine, "results": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
