"""The walk from archive to archive; read `walk.py` first."""

from residency.pipeline.compute import compute, replay
from residency.pipeline.outcome import Ending, Outcome, Reading, Watch
from residency.pipeline.walk import House, read_series, read_study

__all__ = ["Ending", "House", "Outcome", "Reading", "Watch", "compute", "read_series", "read_study", "replay"]
