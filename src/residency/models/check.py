"""What is checked on a package before anything of it is computed with: its graphs, and the steps of its recipes."""

from __future__ import annotations

from residency.errors import CardError, ConfigError
from residency.models.graph import GraphFacts, check_graph
from residency.package import ModelPackage
from residency.prepare import check_recipe


def check_package(package: ModelPackage) -> GraphFacts:
    """Facts of the graph of a package that may be used. Raises GraphError, or CardError naming the step of a recipe."""
    for needed in package.card.inputs:
        try:
            check_recipe(needed.recipe)
        except ConfigError as error:
            raise CardError(f"input '{needed.name}' of the model card: {error}") from None
    for payload in package.payloads:
        if payload.role.startswith("variant/"):
            check_graph(payload.data, package.card)
    return check_graph(package.with_role("graph").data, package.card)
