"""The training file's `device`: what computes, and how precisely; no torch."""

from __future__ import annotations

from typing import Literal

from residency.train.part import Part


class DevicePart(Part):
    """What computes a training, and how precisely. Weights are kept, judged and exported in 32 bits all the same.

    kind       `cpu`, `cuda`, or `auto`: the first GPU that torch finds, else the CPU. A run repeats itself bit by bit
               on a CPU; on a GPU to rounding
    precision  `f32`; `bf16` or `f16`: the net computes in half precision where that is safe (torch's autocast), and
               the gradients of f16 are scaled; `auto`: bf16 where the processor or the GPU has it, else f32
    """

    kind: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["f32", "bf16", "f16", "auto"] = "f32"

    def told(self) -> dict[str, str]:
        """Plain values for digests: what decides the weights, which half precision does, and the place does not."""
        return {} if self.precision == "f32" else {"precision": self.precision}
