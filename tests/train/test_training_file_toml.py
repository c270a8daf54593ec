"""A training file in TOML: read as strictly as in YAML, with the same limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from residency.errors import ConfigError
from residency.files.strict_yaml import DEEPEST, LARGEST_FILE
from residency.train.config import read_config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 1\nseed = 2\n", "not valid: .*line 2"),
        ("[data]\nname = 'a'\n[data]\nname = 'b'\n", "not valid: .*line 3"),
        ("seed = \n", "not valid: .*line 1"),
        ("seed: 1\n", "not valid"),
        ("", "holds no keys"),
        ("seed = 1\nsede = 1\n", "unknown key 'sede', did you mean 'seed'"),
        ("seed = 2026-11-21\n", "seed: a whole number is expected, got 2026-11-21"),
        ("name = 2026-11-21\n", "name: text is expected, got 2026-11-21; put quotes round it"),
        ("threads = true\n", "threads: true or false is not meant here"),
        ("x" + ".x" * DEEPEST + " = 1\n", "nested deeper"),
        ("x = " + "[" * 10000 + "]" * 10000, "not valid|nested deeper"),
        ("seed = " + "9" * 10000, "not valid"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_or_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "train.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as raised:
        read_config(file)
    assert str(file) in str(raised.value)


def test_bytes_that_are_no_text_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.TOML"
    file.write_bytes(b"name = '\xff'\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_config(file)
    file.write_bytes(b"#" * (LARGEST_FILE + 1))
    with pytest.raises(ConfigError, match="at most"):
        read_config(file)
