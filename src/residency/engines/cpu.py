"""What this process may use of the CPU, and which instruction sets decide how an engine rounds."""

from __future__ import annotations

import math
import os
from pathlib import Path

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "sve")
"""Flags by which CPU kernels are chosen; two machines that differ in one may differ in the last digits."""


def usable_threads(root: Path = Path("/")) -> int:
    """Cores that this process may use at once: its affinity, and the quota of the container that it lives in.

    A container with a quota of two cores still sees all cores of the machine; as many threads as those would spend
    their time throttled. Reads cgroup version 2 (cpu.max) and 1 (cpu.cfs_quota_us) under `root`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min([cores, *(math.ceil(q) for q in _quotas(root))]))


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """The flags of INSTRUCTION_SETS that the first core has; none where /proc/cpuinfo is not there."""
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            have = set(value.split())
            return tuple(flag for flag in INSTRUCTION_SETS if flag in have)
    return ()


def _quotas(root: Path) -> list[float]:
    """Cores allowed by each group from this process's own up to the top; the smallest holds."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        parts = line.strip().split(":", 2)
        if len(parts) != 3 or not (parts[0] == "0" or "cpu" in parts[1].split(",")):
            continue
        unified = parts[0] == "0"
        mount = root / ("sys/fs/cgroup" if unified else "sys/fs/cgroup/cpu")
        group = [step for step in parts[2].split("/") if step not in ("", "..")]
        for depth in range(len(group) + 1):
            folder = mount.joinpath(*group[:depth])
            quota = _quota_v2(folder) if unified else _quota_v1(folder)
            if quota is not None:
                found.append(quota)
    return found


def _quota_v2(folder: Path) -> float | None:
    words = " ".join(_lines(folder / "cpu.max")).split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:
        return int(words[0]) / int(words[1])
    return None


def _quota_v1(folder: Path) -> float | None:
    quota = "".join(_lines(folder / "cpu.cfs_quota_us")).strip()
    period = "".join(_lines(folder / "cpu.cfs_period_us")).strip()
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
