"""What every net promises. Subclass `NetContract` and `NetExportContract`, and supply the `architecture` fixture.

It may be one of the registry or one of your own: an `Architecture` names the builder, the counts to pin, the grid, and
parameters that make the net small; all but the counts is tried on the small form, so that the whole takes seconds.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from residency.nets.architecture import Architecture
from residency.nets.cost import cost, size, without_memory
from residency.nets.net import Net
from residency.train.export import export_graph, prove_parity

CHANNELS, CLASSES = 2, 3
"""Unlike the defaults of any source, and unlike each other."""

PLAIN = (int, float, str, bool, type(None))


def small(architecture: Architecture, *, seed: int = 7, **parameters: Any) -> Net:
    """The small form, its running statistics moved by two batches, so that they are not those of a fresh net."""
    torch.manual_seed(seed)
    net = architecture.make(**{"channels": CHANNELS, "classes": CLASSES, **architecture.small, **parameters})
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(1.5 * image(net, 2) + 0.5)
    return net


def sides(net: Net, more: Sequence[int] = (0, 0, 0)) -> tuple[int, ...]:
    """A small grid that the net takes, no layer of it a single voxel; `more` is in steps of the net's multiple."""
    steps = max(2, -(-net.least // net.multiple))
    return tuple(net.multiple * (steps + each) for each in more[: net.dimensions])


def image(net: Net, number: int = 1, more: Sequence[int] = (0, 0, 0)) -> Tensor:
    """Normal noise of the shape that `sides` gives, from torch's global generator."""
    return torch.randn(number, net.channels, *sides(net, more))


class NetContract:
    """Shapes, gradients, state, repeatability and what is refused; sizes as they are pinned."""

    def test_sizes_are_those_that_are_pinned(self, architecture: Architecture) -> None:
        """A count tells what a drawing does not: a layer too many, a bias, a norm left out."""
        assert architecture.counts, "pin the size of the default setting at least"
        assert not architecture.counts[0].setting, "the first count is that of the builder's defaults"
        for count in architecture.counts:
            found = size(without_memory(architecture.make, **count.setting))
            counted = found.trainable + found.frozen, found.statistics
            assert counted == (count.trainable, count.statistics), (
                f"counted {counted[0]:_} parameters and {counted[1]:_} running statistics with "
                f"{dict(count.setting) or 'the defaults'}, pinned {count.trainable:_} and {count.statistics:_}"
            )
            if count.published not in {None, count.trainable}:
                assert count.where, f"say where {count.published} stands and what it includes"

    def test_parameters_are_plain_data(self, architecture: Architecture) -> None:
        """They come from a training file, and are listed for whoever writes one."""
        parameters = inspect.signature(architecture.make).parameters
        assert {"channels", "classes"} <= set(parameters)
        settings: list[Mapping[str, Any]] = [architecture.small, *(count.setting for count in architecture.counts)]
        for setting in settings:
            assert set(setting) <= set(parameters), set(setting) - set(parameters)
        values = [value for setting in settings for value in setting.values()]
        for name, one in parameters.items():
            assert one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}, f"{name}: name each parameter"
            assert one.default is not one.empty, f"{name}: every parameter has the default of the source"
            values.append(one.default)
        for value in values:
            assert all(type(each) in PLAIN for each in (value if isinstance(value, tuple) else (value,))), value

    def test_the_grid_of_the_source_is_one_that_the_net_takes(self, architecture: Architecture) -> None:
        net = without_memory(architecture.make)
        assert len(architecture.grid) == architecture.dimensions == net.dimensions
        assert cost(architecture).macs > 0

    @pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 1), (CHANNELS, CLASSES)])
    def test_scores_are_finite_and_of_the_promised_shape(
        self, architecture: Architecture, channels: int, classes: int
    ) -> None:
        """On the grid of the image where the net segments, whatever the sides; a row an image where it classifies."""
        if architecture.task == "classification" and classes == 1:
            classes = 4
        net = small(architecture, channels=channels, classes=classes).eval()
        for number, more in ((1, (0, 0, 0)), (2, (1, 0, 2))):
            given = image(net, number, more)
            with torch.inference_mode():
                scores = net(given)
            grid = given.shape[2:] if architecture.task == "segmentation" else ()
            assert scores.shape == (number, classes, *grid)
            assert scores.dtype == torch.float32
            assert scores.isfinite().all()

    def test_odd_sides_give_scores_or_a_clear_error(self, architecture: Architecture) -> None:
        """Never scores on another grid than that of the image."""
        net = small(architecture).eval()
        for axis in range(net.dimensions):
            grid = list(sides(net, (1, 1, 1)))
            grid[axis] += 1
            given = torch.randn(1, CHANNELS, *grid)
            if net.multiple > 1:
                with pytest.raises(ValueError, match=f"multiples of {net.multiple}, got {grid[0]} x {grid[1]}"):
                    net(given)
                continue
            with torch.inference_mode():
                scores = net(given)
            assert scores.shape == (1, CLASSES, *(grid if architecture.task == "segmentation" else ()))
            assert scores.isfinite().all()

    def test_the_shortest_side_is_taken_and_a_shorter_one_refused(self, architecture: Architecture) -> None:
        net = small(architecture).eval()
        least = net.multiple * -(-net.least // net.multiple)
        for axis in range(net.dimensions):
            grid = list(sides(net, (1, 1, 1)))
            grid[axis] = least
            with torch.inference_mode():
                scores = net(torch.randn(1, CHANNELS, *grid))
            assert scores.shape == (1, CLASSES, *(grid if architecture.task == "segmentation" else ()))
            assert scores.isfinite().all()
            grid[axis] -= net.multiple
            with pytest.raises(ValueError, match=f"sides of at least {max(net.least, net.multiple)}"):
                net(torch.randn(1, CHANNELS, *grid))

    def test_images_of_another_shape_are_refused_in_one_line(self, architecture: Architecture) -> None:
        net = small(architecture)
        given = image(net)
        wrong = [torch.cat([given, given], 1), given[0], given[..., None], given[:, :1]]
        for each in wrong:
            with pytest.raises(ValueError, match="takes images of shape") as caught:
                net(each)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["channels", "classes"])
    @pytest.mark.parametrize("value", [0, -1])
    def test_a_net_of_nothing_is_refused(self, architecture: Architecture, name: str, value: int) -> None:
        with pytest.raises(ValueError, match=r"\S") as caught:
            architecture.make(**{**architecture.small, name: value})
        assert "\n" not in str(caught.value)

    def test_every_parameter_gets_a_finite_gradient(self, architecture: Architecture) -> None:
        """In training for all of them; one that never gets any is a layer that the scores do not pass."""
        net = small(architecture).train()
        net(image(net, 2, (1, 0, 0))).square().mean().backward()
        unreached = [name for name, one in net.named_parameters() if one.requires_grad and one.grad is None]
        assert unreached == []
        broken = [
            name for name, one in net.named_parameters() if one.grad is not None and not one.grad.isfinite().all()
        ]
        assert broken == []

    def test_every_kernel_has_a_say(self, architecture: Architecture) -> None:
        """Only kernels are asked: what a bias adds before a norm of the image is taken away by it. In both modes, since
        dropout may hide a kernel in the one and a fresh net's few features be cut off by ReLU in the other."""
        net = small(architecture)
        for training in (False, True):
            net.train(training)(image(net, 2, (1, 0, 0))).square().mean().backward()
        kernels = {name: one.grad for name, one in net.named_parameters() if one.ndim > 1 and one.requires_grad}
        assert [name for name, gradient in kernels.items() if gradient is None or not gradient.any()] == []

    def test_a_state_read_back_gives_the_same_scores(self, architecture: Architecture) -> None:
        """Through a file of weights alone, strictly, into a net that was initialised otherwise."""
        net, other = small(architecture).eval(), small(architecture, seed=8).eval()
        given = image(net)
        file = io.BytesIO()
        torch.save(net.state_dict(), file)
        file.seek(0)
        with torch.inference_mode():
            assert not torch.equal(other(given), net(given))
            other.load_state_dict(torch.load(file, weights_only=True), strict=True)
            assert torch.equal(other(given), net(given))

    def test_an_image_gets_the_same_scores_whenever_and_with_whatever_it_comes(
        self, architecture: Architecture
    ) -> None:
        net = small(architecture).eval()
        one, other = image(net), 100 * image(net)
        with torch.inference_mode():
            alone, again, together = net(one), net(one), net(torch.cat([one, other]))[:1]
        assert torch.equal(alone, again)
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))

    def test_inference_leaves_the_state_alone(self, architecture: Architecture) -> None:
        net = small(architecture).eval()
        before = {name: values.clone() for name, values in net.state_dict().items()}
        with torch.inference_mode():
            net(image(net, 2))
        assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())

    def test_the_seed_says_which_net_it_is(self, architecture: Architecture) -> None:
        first, same, other = (small(architecture, seed=seed).state_dict() for seed in (3, 3, 4))
        assert all(torch.equal(first[name], same[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


class NetExportContract:
    """One ONNX file that ONNX Runtime and OpenVINO answer as the net does, at sizes the exporter has not seen.

    tolerance  most that a score may differ, as a share of the largest score
    """

    tolerance = 1e-4

    def test_engines_answer_as_the_net(self, architecture: Architecture) -> None:
        net = small(architecture).eval()
        before = {name: values.clone() for name, values in net.state_dict().items()}
        graph = export_graph(net)
        least = net.multiple * -(-net.least // net.multiple)
        shortest = torch.randn(1, CHANNELS, least, *sides(net, (1, 1, 1))[1:])
        images = [each.numpy() for each in (image(net, 1, (1, 0, 2)), image(net, 3, (0, 1, 0)), shortest)]
        parities = prove_parity(net, graph, images, tolerance=self.tolerance)
        assert len(parities) == 2 * len(images)
        assert np.isfinite([parity.largest_score for parity in parities]).all()
        assert min(parity.largest_score for parity in parities) > 0
        assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())
