"""How far a long work is: a bar for each part on a terminal, a line as each begins elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from residency.cli.train import working


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
