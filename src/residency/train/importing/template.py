"""card.yaml for an imported network: what is known stands there, what a person must say is marked and left out.

Nothing is guessed, codes least of all: `residency models build` refuses the folder, and names the field, until every
line marked FILL IN has been.
"""

from __future__ import annotations

import json

from residency.train.importing.plans import Planned

TO_FILL_IN = (
    "identity: name, family, version, publisher, created, summary",
    "licences: code, weights, data",
    "inputs: modalities and regions (coded), and the gates that keep other images out",
    "outputs: category and type (coded) of each class",
    "intended_use and regulatory",
    "training: data sets and how it was trained",
    "golden: golden-input.nii.gz, golden-expected.nii.gz and where they come from; licence.txt",
)
"""What `residency models build` needs beyond what an import finds."""


def template(planned: Planned, letters: str) -> str:
    """The card's text; `letters` are those of the network's own axes, after nnU-Net's transposition."""
    inputs = "\n".join(_input(planned, number, letters) for number in range(len(planned.channels)))
    first = 0 if planned.regions else 1
    classes = "\n".join(_class(name, number, number < first) for number, name in enumerate(planned.classes))
    decision = (
        "{activation: sigmoid, rule: threshold, threshold: 0.5}"
        if planned.regions
        else "{activation: softmax, rule: argmax}"
    )
    return f"""# Imported from nnU-Net v2: {_said(planned.dataset)}, {_said(planned.configuration)}.
# Fill in every line marked FILL IN; `residency models build` names what is still missing. Codes are never guessed.

# FILL IN identity:
#   name: what people call it
#   family: lower-case-name
#   version: 1.0.0
#   sequence: 1
#   publisher: {{id: your.domain, name: Who answers for it}}
#   created: 2026-01-31T12:00:00Z
#   summary: what it outlines, in which images

# FILL IN licences:
#   code: Apache-2.0          of nnU-Net
#   weights: SPDX expression  as their makers say
#   data: []

task: segmentation

inputs:
{inputs}

outputs:
  - name: segments
    tensor: scores
    kind: segmentation
    classes:
{classes}
    decision: {decision}

# The patch, and the overlap with which nnU-Net predicts.
tiling: {{window: {json.dumps(list(planned.window))}, overlap: 0.5}}

# FILL IN intended_use: statement, users, population, out_of_scope, oversight, role
# FILL IN regulatory: {{status: research only, notice: Research use only. Not a medical device.}}
# FILL IN training: datasets, split, seed, augmentation, loss, optimiser, steps, hardware, duration_minutes
evaluation: []  # figures of your own; what the makers publish was not measured on this graph
# FILL IN golden: {{input: golden-input.nii.gz, expected: golden-expected.nii.gz, source: where it comes from}}
"""


def _input(planned: Planned, number: int, letters: str) -> str:
    steps = [("orient", {"letters": letters}), *planned.steps[number]]
    lines = [
        f"  - name: channel{number}",
        "    tensor: image",
        f"    channel: {json.dumps(planned.channels[number])}",
        "    # FILL IN modalities: [CT]",
        "    # FILL IN regions: [{scheme: SCT, value: ..., meaning: ...}]",
        "    recipe:",
        "      steps:",
    ]
    lines += [f"        - {{name: {name}, parameters: {json.dumps(dict(values))}}}" for name, values in steps]
    return "\n".join(lines)


def _class(name: str, number: int, background: bool) -> str:
    lines = [f"      - index: {number}", f"        name: {json.dumps(name)}"]
    if not background:
        lines += [
            "        # FILL IN category: {scheme: SCT, value: ..., meaning: ...}",
            "        # FILL IN type: {scheme: SCT, value: ..., meaning: ...}",
        ]
    return "\n".join(lines)


def _said(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
