"""`residency rules`: the site's label rules, and a person's approval of each."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from residency.selection import RuleSet
    from residency.settings import Settings
    from residency.site import Site

FILE = "label_rules.toml"
"""Name of a site's own rules in its home directory; they are tried before the shipped ones."""


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Label rules: what headers lack, supplied by exact match.", no_args_is_help=True)
    group.command("list")(list_rules)
    group.command("approve")(approve)
    app.add_typer(group, name="rules")


def list_rules(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Every rule in the order in which it is tried, what it gives, and who approved it."""
    rules = rule_set(*_site())
    if as_json:
        found = [
            {**rule.model_dump(mode="json"), "digest": rule.digest, "approved_by": rules.approver(rule)}
            for rule in rules.rules
        ]
        typer.echo(json.dumps(found, indent=1))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("Rule", "Version", "When", "Gives", "Approved by")
    for rule in rules.rules:
        when = "\n".join(f"{keyword} = {value}" for keyword, value in rule.when.items())
        by = rules.approver(rule) or f"nobody: residency rules approve {rule.id} --by NAME"
        table.add_row(*(Text(cell) for cell in (rule.id, str(rule.version), when, str(rule.gives), by)))
    Console().print(table)


def approve(
    rule_id: Annotated[str, typer.Argument(metavar="ID", help="The rule, as 'residency rules list' names it.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="The person who approves it.")],
) -> None:
    """Approve exactly this rule. A changed rule has another digest and needs another approval."""
    from residency.errors import UsageError

    site, settings = _site()
    rule = rule_set(site, settings).get(rule_id)
    if not by.strip() or len(by) > 100 or not by.isprintable():
        raise UsageError("--by needs the name of a person, up to 100 characters")
    site.approve_rules(rule.digest, by=by.strip(), now=dt.datetime.now(dt.UTC))
    typer.echo(f"{rule.name} now gives {rule.gives}; approved by {by.strip()} ({rule.digest})")


def rule_set(site: Site, settings: Settings) -> RuleSet:
    """The site's own rules, then the shipped ones, each with its approval if it has one."""
    from residency.errors import ConfigError
    from residency.selection import RuleSet, parse_rules, shipped_rules

    path = settings.home / FILE
    try:
        own = parse_rules(path.read_text(encoding="utf-8"), str(path)) if path.exists() else ()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read as UTF-8 text") from None
    names = {rule.id for rule in own}
    rules = (*own, *(rule for rule in shipped_rules() if rule.id not in names))
    approvals = {
        rule.digest: found.evidence.get("by", "") for rule in rules if (found := site.rules_approval(rule.digest))
    }
    return RuleSet(rules, approvals)


def _site() -> tuple[Site, Settings]:
    from residency.settings import read_settings
    from residency.site import Site

    settings = read_settings().settings
    return Site(settings.home), settings
