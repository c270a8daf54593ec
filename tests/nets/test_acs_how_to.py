"""The how-to on ACS in one's own model does what it says: its code is run, block by block."""

from __future__ import annotations

import re
import subprocess
import sys


def test_every_block_of_the_how_to_runs(repository, capsys):
    page = (repository / "docs" / "how-to" / "use-acs-in-your-own-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == page.count("```python") >= 8
    held: dict[str, object] = {"__name__": "how_to"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"block {number} of {len(blocks)}", "exec"), held)
    said = capsys.readouterr().out
    assert "layers converted to acs" in said
    assert "up: " in said  # the refusal names the module


def test_networks_and_converter_import_nothing_heavy_besides_torch():
    """What the how-to says of `pip install --no-deps`: nothing else that this project installs is imported."""
    code = (
        "import sys, residency.nets.acs, residency.nets; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"monai", "openvino", "onnx", "onnxruntime", "pydicom", "pydantic", "nibabel", "scipy", "yaml"}
