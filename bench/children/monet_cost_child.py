"""One process of bench/monet_cost.py: exports the networks, or runs them with one engine whenever it is asked.

    python bench/children/monet_cost_child.py export|eager|onnxruntime|openvino-f32|openvino-bf16 FOLDER

FOLDER holds `networks.json` (name -> net and parameters), `image.npy` and, after "export", NAME.onnx. An engine reads
names from standard input and answers each with one line: CPU and wall seconds of one slice, after one that is not
timed. Its first scores of a network are left in FOLDER as ENGINE-NAME.npy. One thread.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

Run = Callable[[Any], Any]
"""Image -> scores."""


def built(folder: Path, name: str) -> Any:
    """The network, the same in every process; batch norms as if trained, so that none of them is without effect."""
    import torch

    from residency.nets import build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    asked = json.loads((folder / "networks.json").read_text(encoding="utf-8"))[name]
    net = build(asked["net"], **asked["parameters"])
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return net.eval()


def export(folder: Path) -> None:
    """NAME.onnx of each network, its weights inside."""
    from residency.train.export import export_graph

    for name in json.loads((folder / "networks.json").read_text(encoding="utf-8")):
        (folder / f"{name}.onnx").write_bytes(export_graph(built(folder, name)))


def eager(folder: Path, name: str) -> Run:
    """PyTorch as it is trained with: no compilation, no folding."""
    import torch

    net = built(folder, name)

    def run(image: Any) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(image)).numpy()

    return run


def onnxruntime(folder: Path, name: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["scores"], {"image": image})[0]


def openvino(precision: str) -> Callable[[Path, str], Run]:
    """With the precision said: left out, OpenVINO takes bf16 by itself wherever the CPU has it."""

    def prepare(folder: Path, name: str) -> Run:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(folder / f"{name}.onnx"), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda image: request.infer([image])["scores"]

    return prepare


ENGINES: dict[str, Callable[[Path, str], Run]] = {
    "eager": eager,
    "onnxruntime": onnxruntime,
    "openvino-f32": openvino("f32"),
    "openvino-bf16": openvino("bf16"),
}


def answer(engine: str, folder: Path) -> None:
    """Time one slice for each name on standard input."""
    image = np.load(folder / "image.npy")
    ready: dict[str, Run] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in ready:
            ready[name] = ENGINES[engine](folder, name)
            np.save(folder / f"{engine}-{name}.npy", ready[name](image))
        run = ready[name]
        run(image)
        cpu, wall = time.process_time(), time.perf_counter()
        run(image)
        taken = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]))
    else:
        answer(sys.argv[1], Path(sys.argv[2]))
