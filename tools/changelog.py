"""Changelog fragments: one file a change in changelog.d/, so that two changes never touch the same lines.

python tools/changelog.py check              are all fragments well formed?
python tools/changelog.py release VERSION DATE   move the fragments into CHANGELOG.md under a heading of their own
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
NAME = re.compile(rf"[a-z0-9][a-z0-9-]*\.(?P<kind>{'|'.join(KINDS)})\.md")
LONGEST = 600
MARKER = "<!-- releases below -->\n"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["check"]:
            problems = check(REPOSITORY / "changelog.d")
            for problem in problems:
                print(problem, file=sys.stderr)
            return 1 if problems else 0
        case ["release", version, date]:
            release(REPOSITORY, version, date)
            return 0
    print(__doc__, file=sys.stderr)
    return 2


def fragments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "README.md")


def check(folder: Path) -> list[str]:
    """What is wrong with the fragments in a folder, one line each."""
    problems = []
    for path in fragments(folder):
        if NAME.fullmatch(path.name) is None:
            problems.append(f"{path.name}: expected TOPIC.KIND.md with KIND one of {', '.join(KINDS)}")
            continue
        text = path.read_text(encoding="utf-8").strip()
        if not text or not text.endswith((".", "`")):
            problems.append(f"{path.name}: expected one or two whole sentences, ending with a full stop")
        elif len(text) > LONGEST or text.startswith(("#", "-", "*")):
            problems.append(f"{path.name}: expected one or two sentences of at most {LONGEST} characters, no list")
    return problems


def release(repository: Path, version: str, date: str) -> None:
    """Write the fragments into CHANGELOG.md as one release, grouped by kind, and remove them."""
    folder, changelog = repository / "changelog.d", repository / "CHANGELOG.md"
    if problems := check(folder):
        raise SystemExit("\n".join(problems))
    paths = fragments(folder)
    lines = [f"\n## {version} ({date})\n"]
    for kind in KINDS:
        entries = [path.read_text(encoding="utf-8").strip() for path in paths if path.name.endswith(f".{kind}.md")]
        if entries:
            lines += [f"\n### {kind.capitalize()}\n\n", *("- " + " ".join(entry.split()) + "\n" for entry in entries)]
    before, marker, after = changelog.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise SystemExit(f"CHANGELOG.md has lost its line {MARKER.strip()}")
    changelog.write_text(before + marker + "".join(lines) + after, encoding="utf-8")
    for path in paths:
        path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
