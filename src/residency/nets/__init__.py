"""Architectures: one file each, one registry. The only room besides `residency.train` that may import torch.

torch is imported when a net is first asked for: what is known of the nets without it is in `residency.nets.known`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from residency.nets.registry import NETS, build, named

__all__ = ["NETS", "build", "named"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from residency.nets import registry

    return getattr(registry, name)
