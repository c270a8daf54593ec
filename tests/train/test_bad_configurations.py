"""Training files that are wrong: each is refused with its key, the reason and what to write, before torch is imported.

The table of them is docs/reference/refused-training-files.md; RESIDENCY_WRITE_DOCS=1 writes it anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from residency.errors import ConfigError, ResidencyError
from residency.testing.bad_training_files import (
    BAD,
    CLASSIFIES,
    FLAT,
    OF_A_PEER,
    OF_LEARNING,
    OF_THE_DATA,
    OF_THE_FILE,
    OF_THE_NET,
    Bad,
    changed,
    write_data,
)
from residency.train.config import TrainingConfig, read_config
from residency.train.config_errors import HERE
from residency.train.config_keys import keys_of
from residency.train.sources import division

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "refused-training-files.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("training")
    write_data(made)
    return made


def _refused(bad: Bad, folder: Path) -> str:
    file = bad.write(folder)
    with pytest.raises(ResidencyError) as raised:
        division(read_config(file))
    return str(raised.value)


def test_there_are_the_eleven_of_a_peer_and_more() -> None:
    assert len(OF_A_PEER) == 11
    assert len(BAD) >= 32
    assert len({bad.what for bad in BAD}) == len(BAD)


@pytest.mark.parametrize("changes", [{}, FLAT, CLASSIFIES])
def test_the_file_that_they_are_made_of_is_sound(changes: dict[str, object], folder: Path) -> None:
    file = folder / "sound.yaml"
    file.write_text(yaml.safe_dump(changed(changes)))
    assert division(read_config(file)).learning


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)
def test_it_is_refused_with_key_reason_and_what_to_write(bad: Bad, folder: Path) -> None:
    said = _refused(bad, folder)
    assert "\n" not in said
    assert bad.key in said
    assert bad.instead in said
    assert len(said) > len(bad.key) + len(bad.instead)


def test_all_are_refused_without_torch_and_at_once(folder: Path) -> None:
    """In an interpreter of its own. A bench holds the command to 2 s; here reading alone has as much."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from residency.errors import ResidencyError\n"
        "from residency.testing.bad_training_files import BAD\n"
        "from residency.train.config import read_config\nfrom residency.train.sources import division\n"
        "for bad in BAD:\n"
        "    file, began = bad.write(Path(sys.argv[1])), time.process_time()\n"
        "    try:\n        division(read_config(file))\n        sys.exit(f'{bad.what} was taken')\n"
        "    except ResidencyError:\n        pass\n"
        "    assert time.process_time() - began < 2, bad.what\n"
        "assert not {'torch', 'monai', 'openvino'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=120)


def test_the_command_says_so_without_torch(folder: Path) -> None:
    file = next(bad for bad in BAD if bad.what == "a fold that the file has not").write(folder)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "residency", "train", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode != 0
    assert len(lines) == 1
    assert "holds the folds 0 to 1" in lines[0]
    assert not re.search(r"\| +(torch|monai|openvino)$", done.stderr, re.MULTILINE)


def test_all_that_is_wrong_is_told_the_misspelt_key_first(folder: Path) -> None:
    values = changed({"threads": 0, "net.name": "unett", "patch": [1], "lossy": "dice"})
    values["shcedule"] = values.pop("schedule")
    file = folder / "several.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(ConfigError) as raised:
        read_config(file)
    first, *others = str(raised.value).splitlines()
    assert first == f"{file}: unknown key 'lossy', did you mean 'loss'? (and 4 more)"
    assert [other.split(":")[0].strip() for other in others] == [
        "unknown key 'shcedule', did you mean 'schedule'?",
        "threads",
        "net.name",
        "patch",
    ]


def test_a_fault_of_one_part_hides_none_of_the_others(folder: Path) -> None:
    steps = [
        {"name": "orient", "parameters": {"letters": "SPP"}},
        {"name": "resample", "parameters": {"spacing_mm": [1, 1]}},
        {"name": "sharpen"},
    ]
    wrong = {"recipe.steps": steps, "patch": [50, 50, 50], "schedule.warmup": 1000, "seed": -1}
    wrong |= {"data.split_file": "fold.json", "data.fold": 0, "net.start": "liver.safetensors"}
    file = folder / "several.yaml"
    file.write_text(yaml.safe_dump(changed(wrong), sort_keys=False))
    with pytest.raises(ConfigError) as raised:
        read_config(file)
    first, *others = str(raised.value).splitlines()
    assert first.startswith(f"{file}: seed: ")
    assert first.endswith("(and 7 more)")
    assert [re.split(r": | (?=/)", other.strip(), maxsplit=1)[0] for other in others] == [
        *3 * ["recipe"],
        "patch",
        "schedule.warmup",
        "data.split_file",
        "net.start",
    ]
    assert "a list of three numbers (slice, row, column), or one for all, is expected, got [1, 1]" in others[1]


def test_what_depends_on_a_fault_is_not_guessed_at(folder: Path) -> None:
    """The sides that a patch may have are those of a net that is not known."""
    file = folder / "unknown-net.yaml"
    file.write_text(yaml.safe_dump(changed({"net.name": "unett", "patch": [50, 50, 50]})))
    with pytest.raises(ConfigError) as raised:
        read_config(file)
    assert "\n" not in str(raised.value)
    assert "net.name" in str(raised.value)


def test_more_than_can_be_read_are_counted(folder: Path) -> None:
    file = folder / "many.yaml"
    file.write_text(yaml.safe_dump(changed({f"zz{number}": 1 for number in range(100)})))
    with pytest.raises(ConfigError) as raised:
        read_config(file)
    first, *others = str(raised.value).splitlines()
    assert first.endswith("(and 99 more)")
    assert len(others) == 20
    assert others[-1].strip() == "and 80 more"


def test_a_key_of_many_lines_stays_on_one(folder: Path) -> None:
    file = folder / "lines.yaml"
    file.write_text(yaml.safe_dump(changed({"a\nb\x1b[31m" + "c" * 5000: 1})))
    with pytest.raises(ConfigError) as raised:
        read_config(file)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


def test_what_other_trainers_call_a_key_leads_to_one_that_is_there() -> None:
    places = {key.place for key in keys_of(TrainingConfig)}
    known = places | {place.partition(".")[0] for place in places} | {"recipe.steps"}
    for here in set(HERE.values()):
        assert re.split(r"[:, ]", here.removeprefix("always AdamW, set by "))[0] in known


_HEAD = """# Training files that are refused

What people get wrong in a [training file](training-file.md), and what they are told. Each is found before PyTorch is
imported and before any image is read. `tests/train/test_bad_configurations.py` makes every one of these and checks this
page; `bench/refusals.py` measures how long each refusal takes. The name of the file, which comes first in each message,
is left out here.
"""

_PARTS: Sequence[tuple[str, Sequence[Bad]]] = (
    ("What another trainer took, or found late", OF_A_PEER),
    ("The file", OF_THE_FILE),
    ("The data", OF_THE_DATA),
    ("The net and its patch", OF_THE_NET),
    ("Recipe, loss, schedule, augmentation, export", OF_LEARNING),
)


def test_the_page_of_refusals_is_what_is_said_today(folder: Path) -> None:
    assert tuple(bad for _, part in _PARTS for bad in part) == BAD
    parts = [_HEAD]
    for title, part in _PARTS:
        parts.append(f"\n## {title}\n\n| mistake | key | message |\n| --- | --- | --- |\n")
        parts += [
            f"| {bad.what} | `{bad.key.strip(chr(39))}` | {_told(_refused(bad, folder), folder)} |\n" for bad in part
        ]
    page = "".join(parts)
    if os.environ.get("RESIDENCY_WRITE_DOCS"):
        PAGE.write_text(page, "utf-8")
    assert PAGE.read_text("utf-8") == page


def _told(message: str, folder: Path) -> str:
    message = message.removeprefix(f"{folder}/train.yaml: ").replace(f"{folder}/", "")
    return re.sub(r"\b[0-9a-f]{64}\b", "...", message).replace("|", "\\|").replace("<", "&lt;")
