"""Our trainer against nnU-Net and MONAI on the hippocampus: same split, same wall-clock budget, two cores.

    python bench/training.py [--quick] [--json FILE] [--work FOLDER] [--nnunet-env FOLDER]
                             [--minutes NUMBER] [--record]

Each contender trains in a process of its own, one after the other. First all three train the same two nets on patches
of the same size, for the pace alone, in turns, three times: our first hippocampus model's, and the one that nnU-Net
plans for these data. Then each trains as it ships, for the whole budget: ours the recipe of that model; nnU-Net its
plan, trainer and predictor; MONAI an ordinary script of its documented parts. Weights are kept at 1/4, 1/2 and the
whole of the budget, and the labels that each contender's own inference makes of them are judged by one code.

What each found lies in the work folder, by a digest of what it was asked, of the code and of the versions; a bench that
was stopped goes on with what is missing, and begins a training that was under way anew, since a wall clock cannot be
taken up again. The full form takes about two hours on two quiet cores; `--record` writes docs/results/training.json and
.md. nnU-Net is had by

    python3.11 -m venv FOLDER
    FOLDER/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    FOLDER/bin/pip install nnunetv2==2.8.1

and left out, with a note, where `--nnunet-env` does not name such a folder. MONAI is that of our own environment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from contract import REPOSITORY, RESULTS, Claim, Report, code_digest, main
from residency.train.config import read_config
from training_parts.cases import Figures, difference, divide, judged, over_persons
from training_parts.page import SHIPPED, page
from training_parts.processes import carried_out

PARTS = REPOSITORY / "bench" / "training_parts"
CHILDREN = REPOSITORY / "bench" / "children"
DATA = Path(os.environ.get("RESIDENCY_SHARED_DATA", REPOSITORY.parent / "shared" / "data")) / "hippocampus"

OURS, NNUNET, MONAI = "ours", "nnU-Net", "MONAI"
MARKS = (0.25, 0.5, 1.0)
SEED = 20261121
NOTHING = 0.01
"""Mean Dice below which hardly anything was outlined."""
GOAL = 1.5
"""Times the patches of the faster of the others."""

_SOURCE = REPOSITORY / "src" / "residency"
_COMMON = (PARTS / "clock.py", _SOURCE / "nets")
CODE = {
    OURS: (*_COMMON, PARTS / "cases.py", *(_SOURCE / "train").glob("*.py"), _SOURCE / "datasets", _SOURCE / "prepare"),
    NNUNET: _COMMON,
    MONAI: _COMMON,
}
"""What of ours decides what a contender finds, beside its script."""

FULL = {"pace_s": 50.0, "warm_s": 10.0, "rounds": 3}
MINUTES = 25.0
QUICK = {"budget_s": 16.0, "pace_s": 8.0, "warm_s": 0.0, "rounds": 1}

NETS: Mapping[str, Mapping[str, Any]] = {
    "our U-Net": {
        "net": {"name": "unet", "parameters": {"features": [16, 40, 96]}},
        "patch": [36, 48, 36],
        "batch": 2,
    },
    "nnU-Net's plan": {
        "net": {
            "name": "planned-unet",
            "parameters": {
                "features": [32, 64, 128, 256],
                "down": [2, 2, 2, 2],
                "up": [2, 2, 2],
                "kernels": [3, 3, 3, 3],
                "strides": [1, 2, 2, 2],
            },
        },
        "patch": [40, 56, 40],
        "batch": 4,
    },
}
"""For the pace alone, in all three trainers, without deep supervision."""

Found = dict[str, Any]


def bench(quick: bool) -> Report:
    """Pace on the same nets, then each as it ships; quick: seconds of each, from which no claim is judged."""
    own = _options().parse_known_args()[0]
    bout = Bout(own.work.resolve() / ("quick" if quick else "full"), own.nnunet_env, quick)
    settings = QUICK if quick else {**FULL, "budget_s": 60.0 * own.minutes}
    rounds: dict[tuple[str, str], list[Found]] = {}
    for number, (net, given), who in product(range(int(settings["rounds"])), NETS.items(), bout.contenders):
        if not (quick and net != "our U-Net"):
            found = bout.trained(who, settings["pace_s"], settings["warm_s"], (), {**given, "round": number})
            rounds.setdefault((net, who), []).append(found)
    paces = {both: sorted(found, key=_pace)[len(found) // 2] for both, found in rounds.items()}
    pace = _pace(paces["our U-Net", OURS])
    steps = max(1, round(pace * settings["budget_s"] / NETS["our U-Net"]["batch"]))
    trained = {
        who: bout.trained(who, settings["budget_s"], 0, MARKS, {"steps": steps} if who == OURS else {})
        for who in bout.contenders
    }
    speeds = paces | {(SHIPPED, who): found for who, found in trained.items()}
    figures = {(who, mark): bout.judged(who, mark, trained[who]) for who in bout.contenders for mark in MARKS}
    return Report(
        f"Our trainer beside others on {len(bout.cases['learn'])} cases, {settings['budget_s'] / 60:.0f} min each",
        _rows(paces, trained, figures, bout.cases),
        _claims(speeds, figures, bout, judge=not quick and NNUNET in bout.contenders),
        _notes(bout, steps, settings, figures),
    )


class Bout:
    """The contenders, the division of the cases, and what is known already."""

    def __init__(self, work: Path, environment: Path | None, quick: bool) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work = work
        self.pythons = {OURS: Path(sys.executable), MONAI: Path(sys.executable)}
        if environment is not None:
            self.pythons[NNUNET] = environment.resolve() / "bin" / "python"
        self.contenders = tuple(who for who in (OURS, NNUNET, MONAI) if who in self.pythons)
        config = read_config(PARTS / "ours.yaml")
        config = config.model_copy(update={"data": config.data.model_copy(update={"folder": DATA})})
        self.cases = divide(config, work / "cases.json", few=quick)
        self.plan = self._asked(NNUNET, "prepare", "prepared", {}) if NNUNET in self.contenders else None

    def trained(self, who: str, budget_s: float, warm_s: float, marks: Sequence[float], more: Found) -> Found:
        """What a training of so long came to. Its weights at the marks lie in its "folder"."""
        name = "learn-" + (more["net"]["name"] if "net" in more else "shipped")
        asked = {"budget_s": budget_s, "warm_s": warm_s, "marks": list(marks), "seed": SEED, **more}
        print(f"{who}: {name}, {budget_s:.0f} s", file=sys.stderr, flush=True)
        return self._asked(who, "learn", name, asked)

    def judged(self, who: str, mark: float, trained: Found) -> Figures:
        """Dice by case of what a training of a contender knew at a mark."""
        weights = Path(trained["folder"]) / f"mark-{mark}.pt"
        content = hashlib.sha256(weights.read_bytes()).hexdigest()
        print(f"{who}: answers at {mark:g} of the budget", file=sys.stderr, flush=True)
        answered = self._asked(who, "answer", f"answer-{mark}", {"of": content}, {"weights": str(weights)})
        return judged(Path(answered["folder"]) / "predictions", self.cases)

    def _asked(self, who: str, task: str, name: str, asked: Found, places: Found | None = None) -> Found:
        """What is known already, or else found by a process, which writes into a "folder" of this question alone.

        places  what is asked too, and decides nothing: where files lie
        """
        contender = self.work / who.lower()
        script = CHILDREN / f"training_{who.lower().replace('-', '')}.py"
        digest = hashlib.sha256(json.dumps([task, asked], sort_keys=True).encode())
        for told in (code_digest(script, *CODE[who]), _versions(self.pythons[who])):
            digest.update(told.encode())
        for file in (self.work / "cases.json", *([PARTS / "ours.yaml"] if who == OURS else [])):
            digest.update(file.read_bytes())
        folder = contender / f"{name}-{digest.hexdigest()[:12]}"
        kept = folder / "found.json"
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what was under way
            folder.mkdir(parents=True)
            answer = folder / "answer.json"
            known = {"cases": str(self.work / "cases.json"), "data": str(DATA), "folder": str(folder)}
            given = json.dumps(known | asked | (places or {}) | {"answer": str(answer)})
            command = [str(self.pythons[who]), "-W", "ignore", str(script), task, given]
            found = carried_out(command, answer, _surroundings(contender))
            whole = folder / "found.part"
            whole.write_text(json.dumps(found | {"folder": str(folder)}, indent=1) + "\n", encoding="utf-8")
            whole.replace(kept)
        known_already: Found = json.loads(kept.read_text(encoding="utf-8"))
        return known_already


def _surroundings(folder: Path) -> dict[str, str]:
    """nnU-Net's three folders, and the nets of ours for the environments that lack them."""
    named = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    return {**named, "PYTHONPATH": str(REPOSITORY / "src")}


def _versions(python: Path) -> str:
    if python == Path(sys.executable):
        return " ".join(f"{name} {version(name)}" for name in ("torch", "monai", "numpy"))
    code = "from importlib.metadata import version as v; print('torch', v('torch'), 'nnunetv2', v('nnunetv2'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _pace(found: Found) -> float:
    return float(found["patches_second"])


def _rows(
    paces: Mapping[tuple[str, str], Found],
    trained: Mapping[str, Found],
    figures: Mapping[tuple[str, float], Figures],
    cases: Mapping[str, Any],
) -> list[Found]:
    rows = [_row(f"pace: {net}", who, found) for (net, who), found in paces.items()]
    for who, found in trained.items():
        dice = {f"Dice at {mark:g}": round(over_persons(figures[who, mark], cases).mean, 4) for mark in MARKS}
        rows.append(_row(SHIPPED, who, found) | dice)
    return rows


def _row(what: str, who: str, found: Found) -> Found:
    return {
        "what": what,
        "trainer": who,
        "parameters": found["parameters"],
        "steps": found["steps"],
        "patches a second": round(found["patches_second"], 3),
        "waiting for data": round(found["waiting_share"], 3),
        "set-up s": round(found["set_up_s"], 1),
        "processor s / s": round(found["processor_s"] / (found["seconds"] + found["set_up_s"]), 2),
        "processes": found["processes"],
        "peak MB": round(found["peak_mb"]),
        "peak MB, shared once": round(found["shared_mb"]),
        "loss": round(found["loss"], 4),
        **{f"Dice at {mark:g}": "" for mark in MARKS},
    }


def _claims(
    speeds: Mapping[tuple[str, str], Found], figures: Mapping[tuple[str, float], Figures], bout: Bout, *, judge: bool
) -> list[Claim]:
    source = "no source: measured here, each as it is installed"
    claims = []
    for net in dict.fromkeys(net for net, _ in speeds):
        ours = speeds[net, OURS]["patches_second"]
        theirs = {who: speeds[net, who]["patches_second"] for who in bout.contenders if who != OURS}
        counted = ours > 0 and min(theirs.values()) > 0  # a busy machine may come to no step in the quick form
        claims.append(
            Claim(
                "patches a second, each as it ships: nets and patches differ"
                if net == SHIPPED
                else f"patches a second with the same net ({net}), patch and batch",
                source,
                f"at least {GOAL} times each",
                ", ".join(f"{ours:.3f} against {one:.3f} of {who}" for who, one in theirs.items())
                + (f": {ours / max(theirs.values()):.2f} times the faster" if counted else ""),
                counted and ours >= GOAL * max(theirs.values()),
                evaluated=judge and counted,
            )
        )
    for mark in MARKS:
        ours_then = figures[OURS, mark]
        gains = {who: difference(ours_then, figures[who, mark], bout.cases) for who in bout.contenders if who != OURS}
        claims.append(
            Claim(
                f"mean Dice at {mark:g} of the budget, each as it ships",
                source,
                "not below any",
                f"{over_persons(ours_then, bout.cases).mean:.4f}; "
                + ", ".join(f"{g.mean:+.4f} ({g.low:+.4f} to {g.high:+.4f}) to {who}" for who, g in gains.items()),
                min(gain.mean for gain in gains.values()) >= 0,
                evaluated=judge,
            )
        )
    return claims


def _notes(
    bout: Bout, steps: int, settings: Mapping[str, float], figures: Mapping[tuple[str, float], Figures]
) -> list[str]:
    cases = bout.cases
    plan = bout.plan
    return [
        f"{len(cases['learn'])} cases learnt from, {len(cases['choose'])} held out for choosing (used by none here), "
        f"{len(cases['judge'])} of other persons (split val) judged on; intervals: 95 %, bootstrap over persons",
        f"budget {settings['budget_s']:.0f} s from the first batch on; reading, preparing and planning are before it "
        "(set-up s; nnU-Net's plan and preprocessing apart); nobody validates within it; weights of the moment are "
        "judged, ours as their running average",
        f"ours: steps set to {steps} from its pace measured before; rate falls over the last half; answers: windows "
        "and the left-right mirror image, as the shipped model",
        *(
            f"{who} at {mark:g} of the budget answers with background alone, or nearly: it has only begun to learn"
            for (who, mark), found in figures.items()
            if over_persons(found, cases).mean < NOTHING
        ),
        "one training of each, with one seed: the intervals are of the persons judged on, not of trainings",
        "nnU-Net: rate by its polynomial over the share of the budget; answers: its predictor, mirrored along all axes",
        "MONAI: SegResNet of 16 filters, AdamW, cosine over the budget; answers: sliding windows with Gaussian weights",
        "waiting for data: share of the time in which what computes waits for its next batch",
        "peak MB: VmHWM summed over all processes; shared once: highest sum of proportional set sizes",
        f"pace: the median of {settings['rounds']:.0f} rounds in turns, each after the first "
        f"{settings['warm_s']:.0f} s, of {settings['pace_s']:.0f} s; same net, patch and batch; each with its own "
        "augmentation, loss and optimiser",
        "intra-operation threads: as each sets them, two for nnU-Net and MONAI, one in each of two threads for ours",
        *(
            [
                "nnU-Net left out, and so nothing is claimed: name its environment with --nnunet-env "
                f"({__doc__.count('pip')} commands above)"
            ]
            if plan is None
            else [
                f"nnU-Net's plan: patch {plan['patch']}, batch {plan['batch']}, {json.dumps(plan['net'])}; planned and "
                f"preprocessed in {plan['seconds']:.0f} s"
            ]
        ),
        *(f"{who}: {_versions(python)}" for who, python in bout.pythons.items()),
    ]


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        default=REPOSITORY / "runs" / "bench-training",
        help="what was found, so that a stopped bench goes on  [default: runs/bench-training]",
    )
    parser.add_argument(
        "--nnunet-env", type=Path, metavar="FOLDER", help="virtual environment with nnU-Net; left out without it"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="NUMBER",
        default=MINUTES,
        help=f"budget of each trainer  [default: {MINUTES:g}]",
    )
    return parser


if __name__ == "__main__":
    main(bench, __doc__.splitlines()[0] if __doc__ else "", [_options()], page, RESULTS / "training.json")
