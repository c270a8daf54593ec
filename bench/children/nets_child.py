"""One process of bench/nets.py: does one thing with one net, on one thread, and prints what it found as JSON.

    python bench/children/nets_child.py TASK ARGUMENTS_AS_JSON

Peak memory is that of the whole process, so an engine is alone in its own: what runs OpenVINO never imports torch.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

Arguments = Mapping[str, Any]
Run = Callable[[Any], Any]
"""Image -> scores."""

SEED = 0
RATE, EVERY = 2e-3, 10
"""Overfitting: rate of Adam, steps between two looks."""


def export(arguments: Arguments) -> dict[str, Any]:
    """The graph, with its weights in one file."""
    import torch

    from residency.train.export import export_graph

    net = built(arguments)
    true_norms = [one for one in net.modules() if isinstance(one, torch.nn.modules.instancenorm._InstanceNorm)]
    own_statistics = any(not one.track_running_stats for one in true_norms)
    begun = time.process_time()
    graph = export_graph(net)
    seconds = time.process_time() - begun
    folder = Path(arguments["folder"])
    (folder / "graph.onnx").write_bytes(graph)
    left = sorted(one.name for one in folder.glob("graph*"))
    return {"seconds": seconds, "bytes": len(graph), "files": left, "own_statistics": own_statistics}


def eager(arguments: Arguments) -> dict[str, Any]:
    """PyTorch as it trains: no compilation, no folding. Leaves its scores for the others to be held against."""
    import torch

    net = built(arguments)

    def run(image: Any) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(image)).numpy()

    scores, found = timed(run, arguments)
    np.save(Path(arguments["folder"]) / "scores.npy", scores)
    return found


def openvino(arguments: Arguments) -> dict[str, Any]:
    """With the precision said: left out, OpenVINO takes bf16 by itself wherever the CPU has it."""
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": arguments["precision"],
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = ov.Core()
    compiled = core.compile_model(core.read_model(graph_of(arguments)), "CPU", settings)
    request = compiled.create_infer_request()
    scores, found = timed(lambda image: request.infer([image])["scores"], arguments)
    return found | {"error": error(scores, arguments)}


def onnxruntime(arguments: Arguments) -> dict[str, Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph_of(arguments), options, providers=["CPUExecutionProvider"])
    scores, found = timed(lambda image: session.run(["scores"], {"image": image})[0], arguments)
    return found | {"error": error(scores, arguments)}


def idle(arguments: Arguments) -> dict[str, Any]:
    """What a process holds that only imports what another one computes with."""
    for name in arguments["imports"]:
        __import__(name)
    return {"peak_mb": peak_mb()}


def overfit(arguments: Arguments) -> dict[str, Any]:
    """Two cases learnt by heart, judged in evaluation mode: no dropout, running statistics in place of the batch's.

    Segmenting: a bright box in noise, in two places. Classifying: noise with a bright box and without.
    """
    import torch

    net = built(arguments)
    segments = arguments["task"] == "segmentation"
    images, wanted = two_cases(arguments["grid"], segments)
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    figure = 0.0
    for step in range(1, arguments["steps"] + 1):
        net.train()
        scores = net(images)
        loss = torch.nn.functional.cross_entropy(scores, wanted)
        if segments:
            loss = loss + 1 - soft_dice(scores.softmax(1)[:, 1], wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % EVERY == 0 or step == arguments["steps"]:
            scores = judged(net, images)
            found = scores.argmax(1)
            margin = float(torch.nn.functional.cross_entropy(scores, wanted).exp().reciprocal())
            figure = float(soft_dice((found == 1).float(), wanted)) if segments else margin
            if figure >= arguments["goal"]:
                break
    return {"figure": figure, "steps": step, "reached": figure >= arguments["goal"]}


def judged(net: Any, images: Any) -> Any:
    """Scores in evaluation mode of a copy whose running statistics are those of these images with the present weights;
    the lag that momentum gives them is no matter of the net."""
    import copy

    import torch

    settled = copy.deepcopy(net)
    for layer in settled.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._NormBase):
            layer.momentum = 1.0
    with torch.no_grad():
        settled.train()(images)
        return settled.eval()(images)


def two_cases(grid: list[int], segments: bool) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(2, 1, *grid, generator=generator) * 0.5
    labels = torch.zeros(2, *grid, dtype=torch.long)
    for case, (first, last) in enumerate(((0.2, 0.6), (0.5, 0.9))):
        labels[(case, *(slice(int(first * n), int(last * n)) for n in grid))] = 1
    if not segments:
        labels[1] = 0
    images += 2.0 * labels[:, None]
    return images, labels if segments else torch.tensor([1, 0])


def soft_dice(share: Any, wanted: Any) -> Any:
    foreground = (wanted == 1).float()
    return 2 * (share * foreground).sum() / (share.sum() + foreground.sum()).clamp(min=1e-6)


def built(arguments: Arguments) -> Any:
    """The net, the same in every process; running statistics as if trained, so that no norm is without effect."""
    import torch

    from residency.nets import NETS

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    make = NETS[arguments["net"]].make
    known = inspect.signature(make).parameters
    net = make(**{key: value for key, value in arguments["parameters"].items() if key in known})
    for name, values in net.named_buffers():
        if name.endswith("running_mean"):
            values.normal_(std=0.1)
        elif name.endswith("running_var"):
            values.uniform_(0.8, 1.25)
    return net.eval()


def timed(run: Run, arguments: Arguments) -> tuple[Any, dict[str, Any]]:
    """Scores of the first run, which is not timed, and the median of the others: at most as many as asked for, and no
    more than fit into `patience` seconds."""
    shape = (1, arguments["channels"], *arguments["grid"])
    image = np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)
    scores = np.array(run(image))
    cpu: list[float] = []
    wall: list[float] = []
    while len(cpu) < arguments["runs"] and (not wall or sum(wall) + wall[-1] < arguments["patience"]):
        began = time.process_time(), time.perf_counter()
        run(image)
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    return scores, {
        "cpu_ms": 1000 * median(cpu),
        "wall_ms": 1000 * median(wall),
        "runs": len(cpu),
        "peak_mb": peak_mb(),
    }


def error(scores: Any, arguments: Arguments) -> float:
    """The largest difference from PyTorch's scores, as a share of the largest of them."""
    wanted = np.load(Path(arguments["folder"]) / "scores.npy")
    if scores.shape != wanted.shape:
        raise SystemExit(f"{arguments['net']}: scores of shape {scores.shape}, PyTorch {wanted.shape}")
    return float(np.abs(scores - wanted).max() / np.abs(wanted).max())


def graph_of(arguments: Arguments) -> str:
    return str(Path(arguments["folder"]) / "graph.onnx")


def peak_mb() -> float:
    """Most memory that this program held at once; getrusage would count what its parent held before it began."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


TASKS = {task.__name__: task for task in (export, eager, openvino, onnxruntime, idle, overfit)}


if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](json.loads(sys.argv[2]))))
