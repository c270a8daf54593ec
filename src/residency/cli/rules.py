"""`residency rules`: the site's label rules, and a person's approval of each."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from residency.site import Site


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Label rules: what headers lack, supplied by exact match.", no_args_is_help=True)
    group.command("list")(list_rules)
    group.command("approve")(approve)
    app.add_typer(group, name="rules")


def list_rules(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Every rule in the order in which it is tried, what it gives, and who approved it."""
    from residency.assemble import label_rules

    rules = label_rules(_site())
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
        by = rules.approver(rule) or "nobody"
        table.add_row(*(Text(cell) for cell in (rule.id, str(rule.version), when, str(rule.gives), by)))
    Console().print(table)
    for rule in rules.rules:
        if rules.approver(rule) is None:
            typer.echo(f"{rule.id} applies once a person approves it: residency rules approve {rule.id} --by NAME")


def approve(
    rule_id: Annotated[str, typer.Argument(metavar="ID", help="The rule, as 'residency rules list' names it.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="The person who approves it.")],
) -> None:
    """Approve exactly this rule. A changed rule has another digest and needs another approval."""
    from residency.assemble import label_rules
    from residency.errors import UsageError

    site = _site()
    rule = label_rules(site).get(rule_id)
    if not by.strip() or len(by) > 100 or not by.isprintable():
        raise UsageError("--by needs the name of a person, up to 100 characters")
    site.approve_rules(rule.digest, by=by.strip(), now=dt.datetime.now(dt.UTC))
    typer.echo(f"{rule.name} now gives {rule.gives}; approved by {by.strip()} ({rule.digest})")


def _site() -> Site:
    from residency.settings import read_settings
    from residency.site import Site

    return Site(read_settings().settings.home)
