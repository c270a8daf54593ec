"""How far a long work is: a bar for each part on a terminal, a line as each begins elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from residency.cli.train import _shown, working
from residency.train.progress import Progress


@pytest.mark.parametrize("terminal", [True, False])
def test_each_part_is_told(*, terminal: bool) -> None:
    screen = io.StringIO()
    with working(Console(file=screen, force_terminal=terminal, width=120)) as tell:
        for what in ("reading", "writing"):
            for done in range(3):
                tell(what, done, 2)
    said = screen.getvalue()
    if terminal:
        assert said.count("2/2") >= 2
        assert said.index("reading") < said.index("writing")
    else:
        assert said == "reading ...\nwriting ...\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_training_tells_what_it_prepares_before_its_first_step(*, terminal: bool) -> None:
    screen = io.StringIO()
    with _shown(Console(file=screen, force_terminal=terminal, width=120), 2, "Dice") as (show, tell):
        tell("preparing", 0, 3)
        tell("preparing", 3, 3)
        before = screen.getvalue()
        show(Progress(1, 0.5, 0.75))
        show(Progress(2, 0.5))
    said = screen.getvalue()
    assert "0.7500" in said
    if terminal:
        assert said.index("3/3") < said.index("2/2")
    else:
        assert before == "preparing ...\n"
