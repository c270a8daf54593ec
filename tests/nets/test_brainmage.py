"""The 3D ResU-Net of BrainMaGe: size, work, which statistics normalise, and its two equal ways of upsampling."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from residency.errors import ConfigError
from residency.nets import build
from residency.nets.net import Net
from residency.train.export import export_graph, prove_parity

NAME = "brainmage-resunet"


def small(**parameters: object) -> Net:
    """Reduced width, with running statistics of its own in place of 0 and 1."""
    torch.manual_seed(0)
    net = build(NAME, features=4, **parameters)
    for layer in net.modules():
        if isinstance(layer, nn.InstanceNorm3d) and layer.running_mean is not None:
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return net.eval()


@pytest.mark.parametrize(("channels", "parameters"), [(1, 8_290_417), (4, 8_291_713)])
def test_it_has_as_many_parameters_and_statistics_as_counted_in_the_reference(channels: int, parameters: int) -> None:
    with torch.device("meta"):
        net = build(NAME, channels=channels)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert sum(b.numel() for name, b in net.named_buffers() if not name.endswith("num_batches_tracked")) == 4_896
    layers = list(net.modules())
    kernels = [layer.kernel_size for layer in layers if isinstance(layer, nn.Conv3d)]
    assert (kernels.count((3, 3, 3)), kernels.count((1, 1, 1))) == (27, 5)
    assert all(layer.bias is not None for layer in layers if isinstance(layer, nn.Conv3d))
    assert sum(isinstance(layer, nn.InstanceNorm3d) for layer in layers) == 27


def multiply_accumulates(net: Net, *shape: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops()) / 2


def test_it_does_the_work_that_was_counted_and_less_when_it_mixes_channels_first() -> None:
    with torch.device("meta"):
        published, cheaper = build(NAME).eval(), build(NAME, upsample_first=False).eval()
    whole, saved = (multiply_accumulates(net, 1, 1, 128, 128, 128) for net in (published, cheaper))
    assert whole == pytest.approx(174.6e9, rel=0.005)
    # The 1x1x1 convolutions behind the upsamplings: 2.01 G, of which 7/8 are saved.
    assert whole - saved == pytest.approx(7 / 8 * sum(2 * c * c * (2048 // c) ** 3 for c in (16, 32, 64, 128)))


def test_mixing_channels_before_upsampling_gives_the_same_scores_with_the_same_weights() -> None:
    published = small()
    cheaper = build(NAME, features=4, upsample_first=False).eval()
    cheaper.load_state_dict(published.state_dict())
    image = torch.randn(2, 1, 32, 48, 32)
    with torch.inference_mode():
        torch.testing.assert_close(cheaper(image), published(image), rtol=1e-5, atol=1e-5)


def test_in_inference_a_volume_is_normalised_by_the_running_statistics() -> None:
    net, image = small(), torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        before = net(image)
        for layer in net.modules():
            if isinstance(layer, nn.InstanceNorm3d):
                assert layer.running_mean is not None
                layer.running_mean += 1
        assert not torch.allclose(net(image), before, atol=0.01)


def test_a_true_instance_norm_is_another_function_and_their_weights_are_not_exchanged_in_silence() -> None:
    running, own = small(), small(instance_stats=True)
    own.load_state_dict({name: value for name, value in running.state_dict().items() if name in own.state_dict()})
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert not torch.allclose(running(image), own(image), atol=0.01)
    with pytest.raises(RuntimeError, match=r"Missing key.*running_mean"):
        running.load_state_dict(own.state_dict())
    with pytest.raises(RuntimeError, match=r"Unexpected key.*running_mean"):
        own.load_state_dict(running.state_dict())


def test_feature_maps_are_dropped_in_training_only() -> None:
    net, image = small(instance_stats=True, dropout=0.5), torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net(image), net(image))
        net.train()
        assert not torch.equal(net(image), net(image))
    assert sum(isinstance(layer, nn.Dropout3d) for layer in net.modules()) == 5


def test_every_parameter_learns() -> None:
    net = small(dropout=0.0).train()
    net(torch.randn(1, 1, 32, 32, 48)).square().mean().backward()
    still = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # A shift before a normalisation by the volume's own mean is taken away again by it.
    assert all(name.startswith("down") and name.endswith("0.bias") for name in still)


@pytest.mark.parametrize("shape", [(1, 1, 32, 40, 32), (1, 1, 16, 32, 32), (1, 2, 32, 32, 32), (1, 32, 32, 32)])
def test_an_image_that_it_cannot_take_is_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes (grids with sides of at least 32|images of shape)") as refusal:
        small()(torch.zeros(shape))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("parameters", [{"classes": 0}, {"channels": 0}, {"features": 0}, {"dropout": 1.0}])
def test_what_cannot_be_built_is_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="needs a channel, a class"):
        build(NAME, **parameters)


@pytest.mark.slow
@pytest.mark.parametrize("rewritten", [True, False])
def test_the_exported_graph_answers_as_the_net_with_and_without_rewriting(
    rewritten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rewritten:
        monkeypatch.setattr("residency.train.export.prepared_for_export", lambda net: net)
    net = small(classes=2)
    graph = export_graph(net)
    kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert ("Tile" in kinds) is not rewritten  # how an instance norm with running statistics is written as it stands
    assert len(prove_parity(net, graph, [torch.randn(1, 1, 32, 48, 64).numpy()])) == 2
