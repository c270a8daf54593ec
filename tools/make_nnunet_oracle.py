"""Write tests/train/nnunet_oracle.json: names, shapes and scores of nnU-Net's own nets, with weights from a formula.

Needs dynamic-network-architectures (0.4.4 was used), which Residency does not: run it in an environment of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

COMMON = {
    "n_stages": 3,
    "features_per_stage": [4, 6, 8],
    "conv_op": torch.nn.Conv3d,
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "conv_bias": True,
    "norm_op": torch.nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": torch.nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
    "deep_supervision": True,
}
SHAPE = (1, 2, 4, 8, 12)


def wave(shape: tuple[int, ...], phase: float) -> torch.Tensor:
    """Values from a formula, the same everywhere."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (0.3 * torch.cos(1.7 * count + 0.9 * phase) + 0.1).reshape(shape).float()


def told(net: torch.nn.Module) -> dict[str, object]:
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(wave(tuple(parameter.shape), number))
        net.decoder.deep_supervision = False
        scores = net.eval()(wave(SHAPE, 0.5))
    order = {id(parameter): number for number, parameter in enumerate(net.parameters())}
    keys = [[key, list(value.shape), order[id(value)]] for key, value in net.state_dict(keep_vars=True).items()]
    return {"keys": keys, "scores": [round(float(score), 7) for score in scores.flatten()[::29]]}


def main() -> None:
    plain = PlainConvUNet(2, n_conv_per_stage=[2, 3, 2], n_conv_per_stage_decoder=[2, 1], num_classes=3, **COMMON)
    residual = ResidualEncoderUNet(
        2, n_blocks_per_stage=[1, 2, 2], n_conv_per_stage_decoder=[1, 1], num_classes=3, **COMMON
    )
    made = {"planned-unet": told(plain), "resenc-unet": told(residual)}
    file = Path(__file__).parents[1] / "tests" / "train" / "nnunet_oracle.json"
    file.write_text(json.dumps(made, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
