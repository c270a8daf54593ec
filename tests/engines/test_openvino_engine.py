"""The OpenVINO engine, by the common contract, and judged by ONNX Runtime where that is installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from residency.engine import Precision
from residency.engines.cpu import instruction_sets, usable_threads
from residency.engines.openvino import OpenVino
from residency.testing.engine import EngineContract, convolution_graph, make_graph, scaling_graph


@pytest.fixture(scope="module")
def engine():
    return OpenVino(threads=2)


class TestOpenVino(EngineContract):
    pass


def unet_like_graph():
    """Strided convolution, instance normalisation, leaky ReLU, resize, transposed convolution: the parts of a U-Net."""
    from onnx import helper

    generator = np.random.default_rng(11)

    def normal(*shape):
        return (generator.normal(size=shape) * 0.3).astype(np.float32)

    weights = {
        "w1": normal(4, 1, 3, 3, 3),
        "w2": normal(8, 4, 3, 3, 3),
        "w3": normal(8, 4, 2, 2, 2),
        "w4": normal(3, 8, 1, 1, 1),
        "scale": np.ones(4, np.float32),
        "shift": np.zeros(4, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], pads=[1] * 6),
        helper.make_node("InstanceNormalization", ["a", "scale", "shift"], ["b"]),
        helper.make_node("LeakyRelu", ["b"], ["c"], alpha=0.01),
        helper.make_node("Conv", ["c", "w2"], ["d"], pads=[1] * 6, strides=[2] * 3),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("ConvTranspose", ["e", "w3"], ["f"], strides=[2] * 3),
        helper.make_node("Concat", ["f", "c"], ["g"], axis=1),
        helper.make_node("Conv", ["g", "w4"], ["scores"]),
    ]
    shape = ["n", 1, "s", "r", "c"]
    return make_graph(nodes, {"image": shape}, {"scores": ["n", 3, "s", "r", "c"]}, weights)


def test_onnx_runtime_agrees():
    """The judge of the first engine is the second one."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the judge, ONNX Runtime, is in the extras train and dev")
    graph = unet_like_graph()
    image = np.random.default_rng(1).normal(size=(1, 1, 16, 24, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    network = OpenVino(threads=2).load(graph, precision=Precision.F32)
    ours = network.collect(network.submit({"image": image}))["scores"]
    np.testing.assert_allclose(ours, session.run(["scores"], {"image": image})[0], atol=2e-4)


def quantised_graph():
    """A convolution with 8-bit activations and weights, as quantisers write it (QuantizeLinear, DequantizeLinear)."""
    from onnx import helper

    weight = np.random.default_rng(2).integers(-127, 128, (8, 4, 3, 3, 3)).astype(np.int8)
    small = np.float32(0.02)
    weights = {"s": small, "z": np.uint8(128), "zw": np.int8(0), "q": weight}
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["iq"]),
        helper.make_node("DequantizeLinear", ["iq", "s", "z"], ["i"]),
        helper.make_node("DequantizeLinear", ["q", "s", "zw"], ["w"]),
        helper.make_node("Conv", ["i", "w"], ["scores"], pads=[1] * 6),
    ]
    shape = ["n", 4, "s", "r", "c"]
    return make_graph(nodes, {"image": shape}, {"scores": ["n", 8, "s", "r", "c"]}, weights)


def test_a_quantised_graph_is_reported_as_such(engine):
    """Its figures come from the 8-bit kernels, so the result must say int8 and not f32."""
    from residency.errors import EngineError

    assert engine.load(quantised_graph(), precision=Precision.INT8).precision is Precision.INT8
    with pytest.raises(EngineError, match="runs in int8"):
        engine.load(quantised_graph(), precision=Precision.F32)


def test_a_compiled_network_is_kept_where_asked(tmp_path):
    """The second process starts faster, and answers the same."""
    graph = convolution_graph(np.random.default_rng(1).normal(size=(4, 1, 3, 3, 3)).astype(np.float32))
    image = np.ones((1, 1, 4, 4, 4), np.float32)
    answers = []
    for _ in range(2):
        network = OpenVino(threads=1, cache_dir=tmp_path / "cache").load(graph, precision=Precision.F32)
        assert network.outputs == ("scores",)
        answers.append(network.collect(network.submit({"image": image}))["scores"].tobytes())
    assert answers[0] == answers[1]
    assert list((tmp_path / "cache").iterdir())


def test_nothing_is_ever_reported_to_anybody():
    """OpenVINO brings a telemetry package that counts a missing consent file as consent."""
    program = (
        "import sys; from residency.engines.openvino import OpenVino; OpenVino(threads=1);"
        "import openvino.utils; assert sys.modules['openvino_telemetry'] is None;"
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry.')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_number_of_threads_is_fixed_and_reported():
    assert OpenVino(threads=1).build.threads == 1
    assert OpenVino().build.threads == usable_threads()
    assert OpenVino(threads=2).load(scaling_graph(), precision=Precision.F32).inputs == ("image",)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "7:memory:/m\n4:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        ({"proc/self/cgroup": "4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}, None),
        ({"proc/self/cgroup": "rubbish\n0::/../..\n", "sys/fs/cgroup/cpu.max": "x y\n"}, None),
    ],
)
def test_a_container_quota_limits_the_threads(tmp_path, monkeypatch, files, quota):
    """A quota of two cores on a machine of sixty-four must not start sixty-four threads."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_threads(tmp_path) == (quota or 64)


def test_instruction_sets_are_read_from_the_cpu(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor : 0\nflags : fpu avx2 sse avx512f\n")
    assert instruction_sets(tmp_path) == ("avx2", "avx512f")
    assert instruction_sets(tmp_path / "elsewhere") == ()
