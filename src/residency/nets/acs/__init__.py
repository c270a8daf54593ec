"""ACS convolutions: 2D weights that look at a volume along all three axes."""

from residency.nets.acs.operator import ACSConv3d

__all__ = ["ACSConv3d"]
