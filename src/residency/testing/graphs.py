"""Small real ONNX graphs to test with: a network without training that still computes what its card says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def threshold_graph(*, channels: int = 2, inputs: str = "image", outputs: str = "scores", scale: float = 1.0) -> bytes:
    """A graph (1, 1, s, r, c) -> (1, channels, s, r, c): channel k scores `scale * k * x`, so the sign of x decides.

    A convolution of kernel 1 with `channels` weights and biases: 2 * channels parameters.
    """
    from onnx import TensorProto, helper, numpy_helper

    weight = (scale * np.arange(channels, dtype=np.float32)).reshape(channels, 1, 1, 1, 1)
    bias = np.zeros(channels, np.float32)
    node = helper.make_node("Conv", [inputs, "weight", "bias"], [outputs], kernel_shape=[1, 1, 1])
    return model_bytes(
        [node],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
        helper.make_tensor_value_info(inputs, TensorProto.FLOAT, [1, 1, "s", "r", "c"]),
        helper.make_tensor_value_info(outputs, TensorProto.FLOAT, [1, channels, "s", "r", "c"]),
    )


def difference_graph() -> bytes:
    """A graph (1, 2, s, r, c) -> (1, 2, s, r, c): class 1 scores the first channel less the second, class 0 scores 0.

    6 parameters.
    """
    from onnx import TensorProto, helper, numpy_helper

    weight = np.array([[0, 0], [1, -1]], np.float32).reshape(2, 2, 1, 1, 1)
    node = helper.make_node("Conv", ["image", "weight", "bias"], ["scores"], kernel_shape=[1, 1, 1])
    shape: list[str | int | None] = [1, 2, "s", "r", "c"]
    return model_bytes(
        [node],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.zeros(2, np.float32), "bias")],
        helper.make_tensor_value_info("image", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape),
    )


def nearest_level_graph(levels: Sequence[float]) -> bytes:
    """A graph (1, 1, s, r, c) -> (1, levels, s, r, c): the largest score has the level nearest to the voxel's value.

    2 * levels parameters.
    """
    from onnx import TensorProto, helper, numpy_helper

    at = np.asarray(levels, np.float32)
    node = helper.make_node("Conv", ["image", "weight", "bias"], ["scores"], kernel_shape=[1, 1, 1])
    return model_bytes(
        [node],
        [
            numpy_helper.from_array(2 * at.reshape(len(at), 1, 1, 1, 1), "weight"),
            numpy_helper.from_array(-(at**2), "bias"),
        ],
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, "s", "r", "c"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(at), "s", "r", "c"]),
    )


def model_bytes(nodes: list[Any], initializers: list[Any], given: Any, made: Any, **more: Any) -> bytes:
    """Serialise nodes and constants as an ONNX model of opset 17; `more` goes to `onnx.helper.make_model`."""
    from onnx import helper

    graph = helper.make_graph(nodes, "graph", [given], [made], initializers)
    options = {"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 8} | more
    data: bytes = helper.make_model(graph, **options).SerializeToString()
    return data


def mean_classifier_graph(weights: list[float], biases: list[float]) -> bytes:
    """A graph (1, 1, s, r, c) -> (1, classes): class k scores `weights[k] * mean(x) + biases[k]`.

    2 * classes parameters.
    """
    from onnx import TensorProto, helper, numpy_helper

    count = len(weights)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Conv", ["mean", "weight", "bias"], ["columns"], kernel_shape=[1, 1, 1]),
        helper.make_node("Flatten", ["columns"], ["scores"], axis=1),
    ]
    return model_bytes(
        nodes,
        [
            numpy_helper.from_array(np.asarray(weights, np.float32).reshape(count, 1, 1, 1, 1), "weight"),
            numpy_helper.from_array(np.asarray(biases, np.float32), "bias"),
        ],
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, "s", "r", "c"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, count]),
    )
