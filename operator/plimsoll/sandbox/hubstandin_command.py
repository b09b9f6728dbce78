"""`python -m plimsoll.sandbox.hubstandin_command`: the Hub stand-in as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.hubstandin import GOOD_TOKEN, HubStandIn
from plimsoll.sandbox.hubstandin_repos import folder_files
from plimsoll.sandbox.hubstandin_storage import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plimsoll.sandbox.hubstandin_storage import Served

_SLOW: Final = re.compile(r"(?P<part>.+)=(?P<rate>[1-9]\d{0,11})(?::(?P<times>[1-9]\d{0,5}))?")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _parser().parse_args(arguments)
    stand_in = HubStandIn(host=options.host, port=options.port, storage_port=options.storage_port, told=_tell)
    for model_id, folder in options.repo:
        stand_in.add_repo(model_id, folder_files(folder), gated=model_id in options.gated)
    if options.bytes_per_second is not None:
        stand_in.faults.append(Fault(bytes_per_second=options.bytes_per_second))
    stand_in.faults.extend(options.slow)
    stand_in.faults.extend(Fault(match=part, wrong_bytes=True) for part in options.wrong_bytes)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(stand_in))


def _tell(served: Served) -> None:
    """One line of JSON for each request for a file's bytes, when it has ended."""
    sys.stdout.write(json.dumps({"served": asdict(served)}) + "\n")
    sys.stdout.flush()


async def _serve(stand_in: HubStandIn) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    async with stand_in:
        sys.stdout.write(f"Hub stand-in listening on {stand_in.url}\n")
        sys.stdout.flush()
        await stop.wait()


def _repo_argument(text: str) -> tuple[str, Path]:
    model_id, separator, folder = text.partition("=")
    if not separator or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} must be ID=FOLDER, and the folder must be there")
    return model_id, Path(folder)


def _slow_argument(text: str) -> Fault:
    match = _SLOW.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be PART=RATE or PART=RATE:TIMES, both whole numbers over 0"
        )
    times = None if match["times"] is None else int(match["times"])
    return Fault(match=match["part"], bytes_per_second=int(match["rate"]), times=times)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m plimsoll.sandbox.hubstandin_command", description=__doc__
    )
    port_help = "0: a free one; the first line of output tells it"
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help=port_help)
    parser.add_argument("--storage-port", type=int, default=0, help="0: a free one")
    _add_repeated(parser, "--repo", "ID=FOLDER", "serve a local folder", _repo_argument)
    _add_repeated(parser, "--gated", "ID", f"a --repo that only the token {GOOD_TOKEN} opens")
    parser.add_argument(
        "--bytes-per-second", type=int, help="give files no faster; unset: as fast as it goes"
    )
    _add_repeated(
        parser,
        "--slow",
        "PART=RATE[:TIMES]",
        "the same for each request, or the first ones, of a file whose address holds PART",
        _slow_argument,
    )
    _add_repeated(
        parser,
        "--wrong-bytes",
        "PART",
        "spoil every file whose address holds PART, such as org/name or model-00001",
    )
    return parser


def _add_repeated(
    parser: argparse.ArgumentParser, flag: str, metavar: str, words: str, read: Callable[[str], object] = str
) -> None:
    parser.add_argument(flag, type=read, action="append", default=[], metavar=metavar, help=words)


if __name__ == "__main__":
    main()
