"""The how-to on networks in Python does what it says: its code is run, block by block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.mark.filterwarnings("ignore")  # what torch's exporter says of torch
def test_every_block_of_the_page_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (repository / "docs" / "how-to" / "use-a-network-from-python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == page.count("```python") >= 7
    monkeypatch.chdir(tmp_path)
    held: dict[str, object] = {"__name__": "how_to"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"block {number} of {len(blocks)}", "exec"), held)
    said = capsys.readouterr().out
    assert "122 tensors loaded." in said
    assert "The classifier 'fc' begins anew. First layer made for 3 channels, adapted to 1: their sum." in said
    assert "multiples of 32, got 50 x 96: pad the image" in said
    assert "into='encoder') loads them there" in said
    assert "(with 2 of three outputs it has no sagittal view)" in said
    assert {file.name for file in tmp_path.glob("*.onnx*")} == {"solid.onnx", "any-size.onnx"}
