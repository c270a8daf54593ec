"""What MoNet costs beside the networks it was compared with: size, traffic, work, and time a slice by engine.

    python bench/monet_cost.py [--quick] [--json FILE]

Beside tables 2 and 3 of Knolle et al., PLoS ONE 16(8):e0255397, 2021. Times are medians of process CPU time on one
thread, one slice at a time; every engine is a process of its own, and all networks of all engines are asked in turns,
so that a busy moment hits all of them. Weights are random: good for time, worthless for accuracy.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contract import REPOSITORY, Claim, Report, cell, claims_told, main, measured_on, paragraph
from residency.nets import NETS
from residency.nets.cost import Size, macs, size, without_memory

SIDE = 256
ROUNDS, QUICK_ROUNDS, QUICK_SIDE = 9, 3, 128
CHILD = REPOSITORY / "bench" / "children" / "monet_cost_child.py"
ENGINES = {
    "eager": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino-f32": "OpenVINO f32",
    "openvino-bf16": "OpenVINO bf16",
}
NOT_NATIVE, NOT_QUICK = "not native here", "full form only"
LARGEST_DIFFERENCE = 5e-4
"""Of a score in float32, as a share of the largest score: what the export of a model allows too."""


@dataclass(frozen=True)
class Network:
    """One row.

    published      count of table 3, running statistics included
    published_mb   file of table 3, in its units of 2**20 bytes
    slices_150_s   table 2: 150 slices of 256 x 256 on an 8-core i9 of 2.4 GHz
    """

    net: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    published: int | None = None
    published_mb: float | None = None
    slices_150_s: float | None = None
    quick: bool = False


NETWORKS = {
    "MoNet": Network("monet", {}, 403_556, 1.8, 14.88, quick=True),
    "MoNet, ReLU": Network("monet", {"activation": "relu"}),
    "MoNet, nearest and 3x3": Network("monet", {"upsampling": "nearest-conv3"}),
    "MoNet, 1x1 and nearest": Network("monet", {"upsampling": "conv1-nearest"}),
    "MoNet-R": Network("monet-r", quick=True),
    "U-Net-16": Network("unet-16", {}, 1_946_705, 7.6, 7.03, quick=True),
    "U-Net-64": Network("unet-64", {}, 31_054_145, 118.6, 45.34),
    "Attention U-Net-64": Network("attention-unet", {}, 31_753_349, 121.3, 53.30),
}


@dataclass(frozen=True)
class Timing:
    """Median seconds of one slice, and how far its scores are from those of PyTorch, relative to the largest."""

    cpu: float
    wall: float
    difference: float


Timings = Mapping[str, Mapping[str, Timing]]
"""Engine -> network -> timing."""


def bench(quick: bool) -> Report:
    """All networks at 256 x 256; quick: three of them at 128 x 128, while sizes and work are of all."""
    timed = [name for name, network in NETWORKS.items() if network.quick or not quick]
    side, rounds = (QUICK_SIDE, QUICK_ROUNDS) if quick else (SIDE, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        timings = _time(Path(folder), timed, side, rounds)
        files = {name: (Path(folder) / f"{name}.onnx").stat().st_size for name in timed}
    sizes, rows = {}, []
    for name, network in NETWORKS.items():
        net = without_memory(NETS[network.net].make, **network.parameters)
        sizes[name] = size(net)
        rows.append(_row(name, sizes[name], macs(net, (SIDE, SIDE)), files.get(name), timings))
        eager = timings["eager"].get(name)
        rows[-1]["PyTorch s for 150 slices"] = NOT_QUICK if quick or eager is None else 150 * eager.cpu
        rows[-1]["table 2 s for 150 slices"] = network.slices_150_s or ""
    notes = [
        f"times: {side} x {side}, one thread, process CPU time ('wall' beside it), median of {rounds} rounds",
        "a federated round: every value, running statistics included, down and up once in float32",
        "MB are 10**6 bytes, the files of table 3 too, which prints them in units of 2**20: 1.8, 7.6, 118.6 and 121.3; "
        "ours have the foldable batch norms in the convolutions",
        "table 2: 8-core i9 of 2.4 GHz, TensorFlow, mean of 5",
        *([] if quick else [_parts_told(rows)]),
    ]
    return Report("What MoNet costs", rows, [*_exact_claims(sizes, timings), *_time_claims(rows, quick)], notes)


def _time(folder: Path, timed: Sequence[str], side: int, rounds: int) -> Timings:
    asked = {name: {"net": NETWORKS[name].net, "parameters": dict(NETWORKS[name].parameters)} for name in timed}
    (folder / "networks.json").write_text(json.dumps(asked), encoding="utf-8")
    image = np.random.default_rng(0).normal(size=(1, 1, side, side)).astype(np.float32)
    np.save(folder / "image.npy", image)
    subprocess.run([sys.executable, "-W", "ignore", CHILD, "export", folder], check=True)
    engines = [engine for engine in ENGINES if engine != "openvino-bf16" or _bf16_is_native()]
    taken: dict[tuple[str, str], list[dict[str, float]]] = {(e, n): [] for e in engines for n in timed}
    with ExitStack() as stack:
        children = {engine: stack.enter_context(_child(engine, folder)) for engine in engines}
        for _ in range(rounds):
            for (engine, name), times in taken.items():
                times.append(_ask(children[engine], name))
        for child in children.values():
            assert child.stdin is not None
            child.stdin.close()
    return {engine: {name: _timing(folder, engine, name, taken[engine, name]) for name in timed} for engine in engines}


def _child(engine: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), engine, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(child: subprocess.Popen[str], name: str) -> dict[str, float]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{name}\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"the process that ran {name} ended; what it said stands above")
    answer: dict[str, float] = json.loads(line)
    return answer


def _timing(folder: Path, engine: str, name: str, times: Sequence[Mapping[str, float]]) -> Timing:
    wanted, got = np.load(folder / f"eager-{name}.npy"), np.load(folder / f"{engine}-{name}.npy")
    cpu, wall = (statistics.median(time[kind] for time in times) for kind in ("cpu", "wall"))
    return Timing(cpu, wall, float(np.abs(got - wanted).max() / np.abs(wanted).max()))


def _bf16_is_native() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _row(name: str, held: Size, work: int, file: int | None, timings: Timings) -> dict[str, Any]:
    network = NETWORKS[name]
    row: dict[str, Any] = {
        "network": name,
        "trainable": held.trainable,
        "statistics": held.statistics,
        "published count": network.published or "",
        "GMAC a slice": work / 1e9,
        "float32 MB": held.bytes / 1e6,
        "published file MB": "" if network.published_mb is None else network.published_mb * 2**20 / 1e6,
        "ONNX MB": NOT_QUICK if file is None else file / 1e6,
        "MB a federated round": 2 * held.bytes / 1e6,
    }
    for kind in ("cpu", "wall"):
        for engine, title in ENGINES.items():
            timing = timings.get(engine, {}).get(name)
            absent = NOT_QUICK if file is None else NOT_NATIVE
            value = absent if timing is None else 1000 * getattr(timing, kind)
            row[f"{title} ms{' wall' if kind == 'wall' else ''}"] = value
    return row


def _exact_claims(sizes: Mapping[str, Size], timings: Timings) -> list[Claim]:
    """What no other machine would find otherwise."""
    counted = {name: (sizes[name].trainable + sizes[name].statistics, NETWORKS[name].published) for name in NETWORKS}
    published = {name: pair for name, pair in counted.items() if pair[1] is not None}
    saved = {name: sizes[name].bytes / sizes["MoNet"].bytes for name in ("U-Net-16", "U-Net-64")}
    f32 = [timing.difference for engine in ("onnxruntime", "openvino-f32") for timing in timings[engine].values()]
    return [
        Claim(
            claim="counts of the four networks of table 3, running statistics included",
            source=", ".join(f"{name} {figure:,}" for name, (_, figure) in published.items()),
            goal="equal",
            value=", ".join(f"{name} {count:,}" for name, (count, _) in published.items()),
            holds=all(count == figure for count, figure in published.values()),
        ),
        Claim(
            claim="a federated round of MoNet moves less than that of a U-Net, by what factor",
            source="table 3, as sizes of files: U-Net-16 4.2, U-Net-64 65.9",
            goal="U-Net-16 at least 4, U-Net-64 at least 64",
            value=", ".join(f"{name} {factor:.1f}" for name, factor in saved.items()),
            holds=saved["U-Net-16"] >= 4 and saved["U-Net-64"] >= 64,
        ),
        Claim(
            claim="engines give PyTorch's scores in float32 (largest difference over largest score)",
            source="none",
            goal=f"at most {LARGEST_DIFFERENCE:.0e}",
            value=f"{max(f32):.0e}",
            holds=max(f32) <= LARGEST_DIFFERENCE,
        ),
    ]


def _time_claims(rows: Sequence[Mapping[str, Any]], quick: bool) -> list[Claim]:
    by_name = {row["network"]: row for row in rows}

    def ratios(name: str, to: str) -> dict[str, float]:
        """By engine, of those that timed both; where there is no time there are words."""
        pairs = {engine: (by_name[name][f"{engine} ms"], by_name[to][f"{engine} ms"]) for engine in ENGINES.values()}
        return {
            engine: one / other
            for engine, (one, other) in pairs.items()
            if not isinstance(one, str) and not isinstance(other, str)
        }

    def said(by_engine: Mapping[str, float]) -> str:
        return ", ".join(f"{engine} {ratio:.2f}" for engine, ratio in by_engine.items())

    narrow, own = ratios("MoNet", "U-Net-16"), ratios("MoNet", "MoNet-R")
    behind = ratios("MoNet-R", "U-Net-16")
    wide = {name: ratios(name, "MoNet") for name in ("U-Net-64", "Attention U-Net-64")}
    compared = wide | {"U-Net-16": ratios("U-Net-16", "MoNet")}
    return [
        Claim(
            claim="MoNet takes twice the time of U-Net-16, in the framework it was trained in",
            source="table 2: 14.88 s / 7.03 s = 2.12",
            goal="PyTorch 1.6 to 2.6",
            value=said(narrow),
            holds=1.6 <= narrow["PyTorch"] <= 2.6,
            evaluated=not quick,
        ),
        Claim(
            claim="MoNet 'significantly outperforms U-Net in time' only where the U-Net has 64 filters",
            source="table 2, time over MoNet's: U-Net-64 3.05, Attention U-Net 3.58, U-Net-16 0.47",
            goal="with every engine: the wide ones above 2, U-Net-16 below 1",
            value="; ".join(f"{name}: {said(found)}" for name, found in compared.items() if found),
            holds=all(ratio > 2 for found in wide.values() for ratio in found.values())
            and all(ratio > 1 for ratio in narrow.values()),
            evaluated=not quick,
        ),
        Claim(
            claim="what MoNet-R gains: the time of MoNet over its own",
            source="none: MoNet-R is ours; its multiply-accumulates alone would give 1.21",
            goal="at least 1.15 with every engine",
            value=said(own),
            holds=all(ratio >= 1.15 for ratio in own.values()),
            evaluated=not quick,
        ),
        Claim(
            claim="MoNet-R is still slower than U-Net-16: its time over that of U-Net-16",
            source="none: MoNet-R is ours; it does 1.31 times the multiply-accumulates",
            goal="above 1 with every engine",
            value=said(behind),
            holds=all(ratio > 1 for ratio in behind.values()),
            evaluated=not quick,
        ),
    ]


def _parts_told(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each change to MoNet does by itself, from the table."""
    by_name = {row["network"]: row for row in rows}
    engines = ("PyTorch", "ONNX Runtime", "OpenVINO f32")
    told = []
    for name in ("MoNet, ReLU", "MoNet, 1x1 and nearest", "MoNet, nearest and 3x3"):
        gains = (by_name["MoNet"][f"{engine} ms"] / by_name[name][f"{engine} ms"] for engine in engines)
        told.append(f"{name.removeprefix('MoNet, ')} {', '.join(f'{gain:.2f}' for gain in gains)}")
    return f"time of MoNet over its time with one change alone, in {', '.join(engines)}: {'; '.join(told)}"


def page(body: Mapping[str, Any]) -> str:
    """The page for readers, from what stands in the JSON."""
    lines = [
        "# What MoNet costs",
        "",
        paragraph(
            measured_on(body),
            "Other work may have shared the machine: read times as ratios. All networks and engines were asked in "
            "turns, so that ratios here are to be trusted before those of [all nets](nets.md), where each was timed at "
            "a moment of its own. Beside them the tables of Knolle et al., PLoS ONE 16(8):e0255397, 2021. MoNet is "
            "small, not fast: U-Net-16 takes half its time, in the paper's own table too. MoNet-R (ReLU, upsampling by "
            "a 1x1 convolution and the nearest neighbour) is ours, to win back a part of that; U-Net-16 stays faster. "
            "The JSON beside this page has wall time and every other column.",
        ),
        "",
        *claims_told(body["claims"]),
        "",
        *(f"- {note}" for note in body["notes"]),
        "",
        "| network | trainable | GMAC | ONNX MB | MB a federated round | PyTorch ms | ONNX Runtime ms | OpenVINO ms "
        "| published: count, file MB, s for 150 slices |",
        f"|---|{'--:|' * 7}---|",
    ]
    for row in body["rows"]:
        times = (cell(row[name], ",.0f") for name in ("PyTorch ms", "ONNX Runtime ms", "OpenVINO f32 ms"))
        published = "-"
        if row["published count"]:
            file, seconds = row["published file MB"], row["table 2 s for 150 slices"]
            published = f"{row['published count']:,}, {file:.1f}, {seconds}"
        lines.append(
            f"| {row['network']} | {row['trainable']:,} | {row['GMAC a slice']:.2f} | {cell(row['ONNX MB'], '.2f')} | "
            f"{row['MB a federated round']:.2f} | {' | '.join(times)} | {published} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(bench, "Size, traffic, work and time of MoNet and the networks it was compared with.", page=page)
