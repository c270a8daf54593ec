"""`residency nets`: every net with what it costs and where it comes from, and one of them in full."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.machinery import ModuleSpec

import pytest
from click.testing import Result
from typer.testing import CliRunner

from residency.cli import app, nets
from residency.errors import ConfigError, DependencyError, UsageError
from residency.nets import NETS
from residency.nets.cost import cost
from residency.nets.table import described

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command of the whole command line; errors of ours are raised."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None:
            raise result.exception
        return result

    return run


def test_every_net_is_listed_with_size_work_and_source(run: Run) -> None:
    shown = " ".join(run("nets").stdout.split())
    for net in map(described, NETS.values()):
        published = f"{net['published']:,}" if net["published"] is not None else "-"
        grid = " x ".join(map(str, net["grid"]))
        assert f"{net['name']} {net['trainable']:,} {published} {net['macs'] / 1e9:.2f} {grid}" in shown
        assert " ".join(net["source"].split()) in shown


def test_json_holds_what_is_known_of_each_net(run: Run) -> None:
    found = {net["name"]: net for net in json.loads(run("nets", "--json").stdout)}
    assert list(found) == list(NETS)
    monet = found["monet"]
    assert (monet["trainable"], monet["statistics"], monet["published"]) == (401_666, 1_890, 403_556)
    assert (monet["task"], monet["dimensions"], monet["grid"]) == ("segmentation", 2, [256, 256])
    assert {each["name"]: each["default"] for each in monet["settings"]}["filters"] == 16
    assert monet["departures"]
    for name in ("monet", "resnet18-3d"):
        assert found[name]["macs"] == cost(NETS[name]).macs


@pytest.mark.parametrize("filter_", [("--task", "classification"), ("--dimensions", 3)])
def test_a_net_that_a_filter_leaves_out_is_said_in_one_line(run: Run, filter_: tuple[object, ...]) -> None:
    for more in ((), ("--json",)):
        with pytest.raises(UsageError, match="'monet' segments 2D images, which --task or --dimensions leaves out"):
            run("nets", "monet", *filter_, *more)
    assert run("nets", "monet", "--task", "segmentation").stdout.startswith("MoNet")


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_list_may_be_narrowed(run: Run, task: str, dimensions: int) -> None:
    found = json.loads(run("nets", "--json", "--task", task, "--dimensions", dimensions).stdout)
    assert found
    wanted = [name for name, one in NETS.items() if (one.task, one.dimensions) == (task, dimensions)]
    assert [net["name"] for net in found] == wanted


def test_one_net_is_told_in_full(run: Run) -> None:
    shown = " ".join(run("nets", "monet").stdout.split())
    for part in ("segments 2D", "Knolle et al.", "multiples of 4", "4.76 GMAC", "filters = 16: features of the finest"):
        assert part in shown
    assert "by default: 401,666, and 1,890 running statistics; published 403,556 (table 3" in shown
    for sentence in (*NETS["monet"].departures, *NETS["monet"].remarks):
        assert " ".join(sentence.split()) in shown
    assert json.loads(run("nets", "monet", "--json").stdout) == json.loads(json.dumps(described(NETS["monet"])))


def test_no_line_is_wider_than_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ((), ("brainmage-resunet",)):
        assert max(len(line) for line in run("nets", *arguments).stdout.splitlines()) <= 80


def test_an_unknown_net_is_named_with_the_nearest(run: Run) -> None:
    with pytest.raises(ConfigError, match="unknown net 'monett', did you mean 'monet'"):
        run("nets", "monett")


def test_without_torch_it_is_said_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(nets, "find_spec", nothing)
    with pytest.raises(DependencyError, match=r"torch, which is not installed.*pip install '\.\[train\]'"):
        run("nets")


def test_every_setting_has_a_meaning() -> None:
    """`residency nets NAME` is where somebody who writes a training file looks."""
    silent = [
        f"{name}: {each['name']}"
        for name, architecture in NETS.items()
        for each in described(architecture)["settings"]
        if not each["meaning"]
    ]
    assert silent == []


def test_a_value_that_is_none_of_those_is_told_with_them() -> None:
    done = CliRunner().invoke(app, ["nets", "--task", "foo"])
    assert done.exit_code == 2
    assert "'--task': 'foo' is not one of 'segmentation', 'classification'" in done.stderr


def test_who_published_a_count_stands_with_it(run: Run) -> None:
    shown = " ".join(run("nets").stdout.split())
    assert "He, Zhang, Ren, Sun, CVPR 2016, table 1; published count: torchvision 0.29, documentation of its" in shown


def test_the_beginning_of_several_names_is_answered_with_all_of_them(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"unknown net 'resnet', did you mean 'resnet18-unet', .* or 'resnet50-3d'"):
        run("nets", "resnet")


@pytest.mark.parametrize("name", ["monet-3d", "resnet18-unet", "resenc-unet", "planned-unet"])
def test_settings_are_told_without_looking_elsewhere(name: str) -> None:
    told = {each["name"]: each["meaning"] for each in described(NETS[name])["settings"]}
    for wording in ("as of MoNet", "builders below", "deep_scores"):
        assert not any(wording in meaning for meaning in told.values())
    if "kernels" in told:
        assert "[1, 3, 3, 3, 3, 3] is 1 x 3 x 3, then 3 x 3 x 3" in told["kernels"]
