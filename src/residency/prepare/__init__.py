"""From a source volume to a network's input, by recipe, and the way back."""

from residency.prepare.prepared import Prepared, labels_on, prepare
from residency.prepare.registry import STEPS, check_recipe, faults_of
from residency.prepare.step import Preparation

__all__ = ["STEPS", "Preparation", "Prepared", "check_recipe", "faults_of", "labels_on", "prepare"]
