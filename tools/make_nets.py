"""docs/reference/nets.md: every net of the registry, as `residency nets` tells it."""

from __future__ import annotations

import json
from functools import cache
from inspect import signature
from math import prod
from typing import Any

_WORDS = {"segmentation": "segments", "classification": "classifies"}

_INTRODUCTION = """# Nets

What `residency nets` lists: every architecture that a training file may name. Parameters are those of the default
setting, and each count of this page is a test. Who published the other figure stands with the source, what it includes
with the net below. GMAC are thousands of millions of multiply-accumulates, of convolutions and matrix products, for one
image of the grid: the size at which the source, or usual practice, runs the net; for nets of our own making a size that
we chose. kMAC are thousands of them for one pixel or voxel of that grid, so that nets on different grids compare. Time,
memory and parity by engine stand in [what every net costs](../results/nets.md), the sizes and times of the MoNet paper
beside ours in [what MoNet costs](../results/monet_cost.md).

Every 2D net converts to 3D with ACS convolutions, its number of parameters unchanged: `convert: acs` in a training
file, or [in Python](../how-to/use-acs-in-your-own-model.md).

```yaml
net: {name: unet, parameters: {features: [16, 40, 96]}}  # in a training file
```
"""


@cache
def _work() -> dict[str, dict[str, int]]:
    from residency.nets import NETS
    from residency.nets.table import counted

    return {name: counted(architecture) for name, architecture in sorted(NETS.items())}


def counts() -> str:
    """The work of each net, for residency.nets.table to read."""
    return json.dumps(_work(), indent=1) + "\n"


def known() -> str:
    """What a training file is checked by before torch is imported, for residency.nets.known to read."""
    from residency.nets import NETS

    rows = (f"{json.dumps(name)}: {json.dumps(_known(one, _work()[name]))}" for name, one in NETS.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _known(architecture: Any, work: dict[str, int]) -> dict[str, Any]:
    return {
        "task": architecture.task,
        "dimensions": architecture.dimensions,
        "settings": {key: one.default for key, one in signature(architecture.make).parameters.items()},
        "multiple": work["multiple"],
        "least": work["least"],
    }


def page() -> str:
    from residency.nets import NETS
    from residency.nets.table import described

    found = [described(architecture, _work()[name]) for name, architecture in NETS.items()]
    return _overview(found) + "".join(map(_section, found))


def _overview(found: list[dict[str, Any]]) -> str:
    parts = [_INTRODUCTION]
    for does in dict.fromkeys(map(_does, found)):
        parts.append(
            f"\n## {does[0].upper()}{does[1:]}\n\n"
            "| net | parameters | running statistics | published | GMAC | on grid | kMAC | source |\n"
            "|---|--:|--:|--:|--:|---|--:|---|\n"
        )
        parts += [_row(net) for net in found if _does(net) == does]
    return "".join(parts)


def _row(net: dict[str, Any]) -> str:
    cells = (
        f"[{net['name']}](#{net['name']})",
        f"{net['trainable']:,}",
        f"{net['statistics']:,}",
        _published(net),
        f"{net['macs'] / 1e9:.2f}",
        " x ".join(map(str, net["grid"])),
        f"{net['macs'] / prod(net['grid']) / 1e3:.1f}",
        _cell(net["source"] + ("" if net["published"] is None else f"; published count: {net['where']}")),
    )
    return "| " + " | ".join(cells) + " |\n"


def _section(net: dict[str, Any]) -> str:
    channels = f"{net['channels']} channel" + ("s" if net["channels"] > 1 else "")
    sides = f"multiples of {net['multiple']}" if net["multiple"] > 1 else "of any length"
    least = f" from {net['least']} on" if net["least"] > net["multiple"] else ""
    parts = [
        f"\n## {net['name']}\n\n"
        f"**{net['title']}**, {_does(net)}. {_after(net['source'])}.\n\n"
        f"{channels} by default; sides {sides}{least}; {net['macs']:,} multiply-accumulates on "
        f"{' x '.join(map(str, net['grid']))}.\n\n"
        "| setting | default | meaning |\n|---|---|---|\n"
    ]
    parts += [
        f"| `{each['name']}` | `{json.dumps(each['default'])}` | {_cell(each['meaning'])} |\n"
        for each in net["settings"]
    ]
    parts.append("\n| counted with | trainable | running statistics | published | where |\n|---|--:|--:|--:|---|\n")
    for count in net["counts"]:
        setting = ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in count["setting"].items()) or "defaults"
        parts.append(
            f"| {setting} | {count['trainable']:,} | {count['statistics']:,} | {_published(count)} | "
            f"{_cell(count['where'])} |\n"
        )
    for heading, key in (("Departures from the source", "departures"), ("Worth knowing", "remarks")):
        if net[key]:
            parts.append(f"\n{heading}:\n\n" + "".join(f"- {' '.join(sentence.split())}\n" for sentence in net[key]))
    return "".join(parts)


def _after(source: str) -> str:
    return source[0].upper() + source[1:] if source.startswith("after ") else f"After {source}"


def _does(net: dict[str, Any]) -> str:
    return f"{_WORDS[net['task']]} {net['dimensions']}D images"


def _published(of: dict[str, Any]) -> str:
    return "none" if of["published"] is None else f"{of['published']:,}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
