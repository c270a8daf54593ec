"""What every net costs and whether it keeps its word: export, parity, time, memory; and two cases learnt by heart.

    python bench/nets.py [--quick] [--json FILE] [--work FOLDER]

Each net at full width on its own grid: exported to one ONNX file, then run by PyTorch, ONNX Runtime and OpenVINO, each
in a process of its own on one thread. Times are medians of process CPU time of one image. At reduced width each net
learns two cases by heart. Weights are random: good for time and parity, worthless for accuracy.

What was found of a net lies in the work folder by net and digest of the code it came from, so a run that was stopped or
killed goes on where it was; what was found with other code is not read.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contract import REPOSITORY, Claim, Report, cell, claims_told, main, measured_on, paragraph
from residency.nets import NETS
from residency.nets.architecture import Architecture
from residency.nets.cost import cost, without_memory

CHILD = REPOSITORY / "bench" / "children" / "nets_child.py"
SOURCES = REPOSITORY / "src" / "residency"
QUICK = ("unet", "monet-r", "resnet18", "resnet18-3d")
"""Nets of the quick form, at reduced width: a norm of the image, running statistics; classifying in 2D and in 3D."""

CUT = {"resenc-unet": (96, 96, 96)}
"""Grids in place of those of the source, whose pass in PyTorch takes more than 20 s or 6 GB."""

RUNS, PATIENCE_S = 5, 30.0
"""Timed runs at most, and seconds after which no further one is begun."""

STEPS = 300
GOAL = 0.9
"""Overfitting: steps at most; Dice, or mean probability of the right class, at which the cases are known by heart."""

LARGEST_ERROR, WITH_OWN_STATISTICS = 1e-4, 5e-3
"""Of a score, as a share of the largest. The second for nets that normalise by each image's own statistics: summing a
million voxels in another order is felt in all of them."""

APART = 1.2
"""Ratio from which two engines are called different on a net: each ran at a moment of its own on a shared machine."""

NOT_NATIVE = "not native here"

Found = dict[str, Any]


def bench(quick: bool) -> Report:
    """Every net at full width; quick: four of them at reduced width."""
    work = _work_folder() / ("quick" if quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    chosen = [NETS[name] for name in (QUICK if quick else NETS)]
    idle = {name: _child("idle", {"imports": [name]})["peak_mb"] for name in ("torch", "openvino")}
    rows = []
    for number, architecture in enumerate(chosen, 1):
        print(f"{number} of {len(chosen)}: {architecture.name}", file=sys.stderr, flush=True)
        found = _judged(architecture, work, small=quick)
        rows.append(_row(architecture, found, small=quick))
    notes = [
        "one thread, one image; ms: median of process CPU time of up to "
        f"{RUNS} runs after one that is not timed, none begun after {PATIENCE_S:.0f} s",
        "error: largest difference from PyTorch's scores, as a share of the largest score; OpenVINO's precision is "
        "always said",
        f"peak: of a process that runs this engine alone; one that only imports torch holds {idle['torch']:.0f} MB, "
        f"OpenVINO {idle['openvino']:.0f} MB",
        f"two cases: at reduced width, without dropout, judged in evaluation mode; Dice, or mean probability of the "
        f"right class, of at least {GOAL} within {STEPS} steps of Adam",
        *(
            f"{name}: measured on {_grid(grid)} in place of {_grid(NETS[name].grid)}, which takes PyTorch more than "
            "20 s or 6 GB here"
            for name, grid in CUT.items()
            if not quick and name in NETS
        ),
        *_engines_compared(rows),
    ]
    return Report(f"{len(rows)} nets{' at reduced width' if quick else ''}", rows, _claims(rows, quick), notes)


def _judged(architecture: Architecture, work: Path, *, small: bool) -> Found:
    """All that is asked of a net; what an earlier run found with the same code is taken from the work folder."""
    stages = _stages(architecture, small=small)
    folder = work / f"{architecture.name}-{_digest(architecture, stages)[:12]}"
    folder.mkdir(exist_ok=True)
    file = folder / "found.json"
    found: Found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    # What the engines are handed lies there only until all of them have been asked.
    handed = {"export": folder / "graph.onnx", "eager": folder / "scores.npy"}
    if set(found) != set(stages):
        found = {name: value for name, value in found.items() if name not in handed or handed[name].exists()}
    for name, (task, arguments) in stages.items():
        if name not in found:
            native = name != "openvino bf16" or _bf16_is_native()
            found[name] = _child(task, arguments | {"folder": str(folder)}) if native else NOT_NATIVE
            part = file.with_suffix(".part")
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            part.replace(file)
    for left in handed.values():
        left.unlink(missing_ok=True)
    return found | {"grid": stages["eager"][1]["grid"]}


def _stages(architecture: Architecture, *, small: bool) -> dict[str, tuple[str, Found]]:
    """Name of a stage -> task of the child, and its arguments."""
    parameters = dict(architecture.small) if small else {}
    net = without_memory(architecture.make, **parameters)
    run = {
        "net": architecture.name,
        "parameters": parameters,
        "channels": net.channels,
        "grid": _small_grid(net) if small else list(CUT.get(architecture.name, architecture.grid)),
        "runs": RUNS,
        "patience": PATIENCE_S,
    }
    return {
        "export": ("export", run),
        "eager": ("eager", run),
        "onnxruntime": ("onnxruntime", run),
        "openvino f32": ("openvino", run | {"precision": "f32"}),
        "openvino bf16": ("openvino", run | {"precision": "bf16"}),
        "two cases": ("overfit", _two_cases(architecture)),
    }


def _two_cases(architecture: Architecture) -> Found:
    """Reduced width, one channel, two classes, nothing dropped."""
    parameters = {**architecture.small, "channels": 1, "classes": 2, "dropout": 0.0, "stochastic_depth": 0.0}
    known = inspect.signature(architecture.make).parameters
    given = {key: value for key, value in parameters.items() if key in known}
    return {
        "net": architecture.name,
        "parameters": given,
        "task": architecture.task,
        "grid": _small_grid(
            without_memory(architecture.make, **given), 16 if architecture.task == "segmentation" else 64
        ),
        "steps": STEPS,
        "goal": GOAL,
    }


def _small_grid(net: Any, least: int = 16) -> list[int]:
    """The smallest of at least so many a side on which no layer of the net is a single voxel.

    Classifiers learn on 64: where two images make a batch's statistics of two voxels, those are not the running ones.
    """
    return [net.multiple * max(2, -(-net.least // net.multiple), -(-least // net.multiple))] * net.dimensions


def _row(architecture: Architecture, found: Found, *, small: bool) -> dict[str, Any]:
    parameters = dict(architecture.small) if small else {}
    spent = cost(architecture, found["grid"], **parameters)
    bf16 = found["openvino bf16"]
    return {
        "net": architecture.name,
        "parameters": spent.size.trainable,
        "grid": _grid(found["grid"]),
        "GMAC": spent.macs / 1e9,
        "export s": found["export"]["seconds"],
        "file MB": found["export"]["bytes"] / 1e6,
        "files": len(found["export"]["files"]),
        "own statistics": found["export"]["own_statistics"],
        "error ONNX Runtime": found["onnxruntime"]["error"],
        "error OpenVINO f32": found["openvino f32"]["error"],
        "error OpenVINO bf16": bf16 if bf16 == NOT_NATIVE else bf16["error"],
        "PyTorch ms": found["eager"]["cpu_ms"],
        "ONNX Runtime ms": found["onnxruntime"]["cpu_ms"],
        "OpenVINO f32 ms": found["openvino f32"]["cpu_ms"],
        "OpenVINO bf16 ms": bf16 if bf16 == NOT_NATIVE else bf16["cpu_ms"],
        "PyTorch / OpenVINO": found["eager"]["cpu_ms"] / found["openvino f32"]["cpu_ms"],
        "PyTorch peak MB": found["eager"]["peak_mb"],
        "OpenVINO f32 peak MB": found["openvino f32"]["peak_mb"],
        "two cases": found["two cases"]["figure"],
        "after steps": found["two cases"]["steps"],
    }


def _claims(rows: Sequence[Mapping[str, Any]], quick: bool) -> list[Claim]:
    claims = [
        Claim(
            "every net exports to one file",
            "the house: one file, standard ONNX",
            "1 file for each",
            f"{sum(row['files'] == 1 for row in rows)} of {len(rows)}",
            all(row["files"] == 1 for row in rows),
        )
    ]
    for engine in ("ONNX Runtime", "OpenVINO f32"):
        for own, largest in ((False, LARGEST_ERROR), (True, WITH_OWN_STATISTICS)):
            errors = {row["net"]: row[f"error {engine}"] for row in rows if row["own statistics"] is own}
            if errors:
                worst = max(errors, key=lambda name: errors[name])
                which = "nets that normalise by each image's own statistics" if own else "every other net"
                claims.append(
                    Claim(
                        f"{engine} answers as PyTorch: {which} ({len(errors)})",
                        "no source: our own bound",
                        f"at most {largest:g} of the largest score",
                        f"{errors[worst]:.1e} ({worst})",
                        errors[worst] <= largest,
                    )
                )
    unlearnt = [row["net"] for row in rows if row["two cases"] < GOAL]
    claims.append(
        Claim(
            "every net learns two cases by heart at reduced width",
            "no source: our own check that gradients reach what they should",
            f"at least {GOAL} within {STEPS} steps",
            f"{len(rows) - len(unlearnt)} of {len(rows)}" + (f"; not {', '.join(unlearnt)}" if unlearnt else ""),
            not unlearnt,
        )
    )
    ratios = [row["PyTorch / OpenVINO"] for row in rows]
    middle = statistics.median(ratios)
    claims.append(
        Claim(
            "OpenVINO f32 is faster than eager PyTorch, median of all nets",
            "no source: our own expectation",
            "more than 1",
            f"{middle:.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
            middle > 1,
            evaluated=not quick,
        )
    )
    return claims


def _engines_compared(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table says to the choice of an engine, in words."""
    times = {row["net"]: row["ONNX Runtime ms"] / row["OpenVINO f32 ms"] for row in rows}
    peaks = {row["net"]: row["OpenVINO f32 peak MB"] / row["PyTorch peak MB"] for row in rows}
    return [
        f"ONNX Runtime takes {statistics.median(times.values()):.2f} times as long as OpenVINO f32, median of all nets "
        f"({min(times.values()):.2f} to {max(times.values()):.2f}); {_apart(times, 'longer', 'shorter')}",
        f"OpenVINO f32 uses {statistics.median(peaks.values()):.2f} times the memory of PyTorch, median of all nets "
        f"({min(peaks.values()):.2f} to {max(peaks.values()):.2f}); {_apart(peaks, 'above', 'below')}",
    ]


def _apart(ratios: Mapping[str, float], above: str, below: str) -> str:
    """The nets whose figures differ by more than chance may make them, by name; the number of the others."""
    more = [name for name, ratio in ratios.items() if ratio > APART]
    less = [name for name, ratio in ratios.items() if 1 / ratio > APART]
    share = f"more than {100 * (APART - 1):.0f} %"
    return "; ".join(
        [
            f"{share} {above} on {len(more)}" + (f" ({', '.join(more)})" if more else ""),
            f"{share} {below} on {len(less)}" + (f" ({', '.join(less)})" if less else ""),
            f"alike on the other {len(ratios) - len(more) - len(less)} of {len(ratios)}",
        ]
    )


def _child(task: str, arguments: Found) -> Found:
    command = [sys.executable, "-W", "ignore", str(CHILD), task, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task} of {arguments.get('net', arguments)} failed; what it said stands above")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def _digest(architecture: Architecture, stages: Mapping[str, Any]) -> str:
    """Of all that a figure follows from: what is asked, who asks, what exports, the files of the net, versions."""
    make = architecture.make
    while isinstance(make, partial):
        make = make.func
    files = {CHILD, SOURCES / "train" / "export.py"}
    files |= _made_of(make.__module__) | _made_of("residency.nets.rewrites")
    digest = hashlib.sha256(json.dumps(stages, sort_keys=True).encode())
    for file in sorted(files):
        digest.update(file.read_bytes())
    for package in ("torch", "openvino", "onnx", "onnxruntime", "onnxscript"):
        digest.update(f"{package} {version(package)}".encode())
    return digest.hexdigest()


def _made_of(module: str) -> set[Path]:
    """The file of a module of nets, and those of the modules of nets that it imports."""
    waiting, files = [module], set[Path]()
    while waiting:
        file = SOURCES.joinpath(*waiting.pop().split(".")[1:]).with_suffix(".py")
        if file.exists() and file not in files:
            files.add(file)
            waiting += re.findall(
                r"^from (residency\.nets\.\w+) import", file.read_text(encoding="utf-8"), re.MULTILINE
            )
    return files


def _bf16_is_native() -> bool:
    """OpenVINO computes bf16 on any CPU, by emulation where it has none; that would be no figure of bf16."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _grid(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        default=REPOSITORY / "runs" / "bench-nets",
        help="what was found of each net, so that a stopped run goes on  [default: runs/bench-nets]",
    )
    return parser


def _work_folder() -> Path:
    folder: Path = _options().parse_known_args()[0].work
    return folder


def page(body: Mapping[str, Any]) -> str:
    """The page for readers, from what stands in the JSON."""
    lines = [
        "# What every net costs",
        "",
        paragraph(
            measured_on(body),
            "Each net at full width on its own grid, exported to one ONNX file and run by each engine in a process of "
            "its own on one thread. Weights are random, which is good for time and parity and says nothing about "
            "accuracy. Other work may have shared the machine, and each figure was taken at a moment of its own: "
            "neither nets nor engines that lie within a fifth of each other can be told apart here. Of MoNet and the "
            "2D U-Nets trust [What MoNet costs](monet_cost.md), where all are asked in turns. Memory is the peak, in "
            "MB. The JSON beside this page has every column.",
        ),
        "",
        *claims_told(body["claims"]),
        "",
        *(f"- {note}" for note in body["notes"]),
        "",
        "| net | grid | GMAC | file MB | PyTorch ms | ONNX Runtime ms | OpenVINO ms | PyTorch MB | OpenVINO MB "
        "| error, OpenVINO | two cases: figure, steps |",
        f"|---|---|{'--:|' * 9}",
    ]
    for row in body["rows"]:
        times = (cell(row[name], ",.0f") for name in ("PyTorch ms", "ONNX Runtime ms", "OpenVINO f32 ms"))
        peaks = (cell(row[name], ",.0f") for name in ("PyTorch peak MB", "OpenVINO f32 peak MB"))
        lines.append(
            f"| {row['net']} | {row['grid']} | {row['GMAC']:.2f} | {row['file MB']:.1f} | {' | '.join(times)} | "
            f"{' | '.join(peaks)} | {row['error OpenVINO f32']:.0e} | {row['two cases']:.2f}, {row['after steps']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(bench, __doc__.splitlines()[0] if __doc__ else "", [_options()], page)
