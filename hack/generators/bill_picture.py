"""docs/bill.svg: the bill of the README's first command, drawn by the command itself."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from plimsoll.cli.bill import bill
from plimsoll.cli.engines import DEFAULT_VERSION
from plimsoll.cli.sized import size
from plimsoll.sizing import catalogue, gpus
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.serving import Serving

_PATH = Path("docs/bill.svg")
_MODEL = "mistralai/Mistral-7B-Instruct-v0.3"
_GPU = "A10"
_WIDTH = 100
# rich's own frame, less the fonts that it would fetch from outside.
_FRAME = """\
<svg class="rich-terminal" xml:space="preserve" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def outputs() -> dict[Path, str]:
    """Every file that is generated here, relative to the repository's root."""
    facts = catalogue.lookup(_MODEL)
    if facts is None:
        raise LookupError(_MODEL)
    pool = NodePool(name=f"8 x {_GPU}", accelerator=gpus.find(_GPU), gpus_per_node=8, nodes=1)
    sized = size(facts, Serving(engine_version=DEFAULT_VERSION), (pool,))
    console = Console(
        record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(f"[bold]$ plimsoll estimate {_MODEL} --gpu {_GPU}[/]\n", highlight=False)
    for renderable in bill(sized, width=_WIDTH):
        console.print(renderable, highlight=False)
    svg = console.export_svg(title="plimsoll estimate", code_format=_FRAME, unique_id="bill")
    return {_PATH: "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"}
