"""The carried checkpoint as a folder: weights of both heads in fp16, config, preprocessing, and a model card.

torch is imported where it is used, so that the nodes' annotations resolve quickly.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cygnet.parameters.pretraining import Pretraining
from cygnet.reports import PairMetrics, PairMetricsByKind, PretrainingReport

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector

CONFIG, CARD = "config.json", "README.md"

TEMPLATE = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-classification
tags: [anomaly-detection, vit]
---
# {name}

A small Vision Transformer that tells whether an image has a small visual anomaly, and where. It is where Cygnet's
fine-tuning starts. It was trained on procedural images alone: it has never seen a photograph.

## What it is

ViT, {settings.vit.layers} layers, width {settings.vit.hidden_size}, {settings.vit.heads} heads, patches of
{settings.vit.patch_size_px} px, {settings.input_size_px} px input (by interpolated positions, as others);
{made[parameters]} parameters in fp16. Two linear heads are in the same file: `classifier.*` on the CLS token
(0 = abnormal, 1 = normal), and `patch_head.*` on every patch (logit of being abnormal). Pixels are RGB, scaled to
-1..1. `transformers.AutoModel.from_pretrained` loads the backbone; Cygnet's `training.checkpoint` takes the folder.

## How it was made

```sh
kedro run --pipeline=pretraining
```

with these `params:pretraining` among others:

| | |
| --- | --- |
| seed | {settings.seed}: image i follows from the seed and i |
| images seen | {made[images_seen]}, each once; half are normal, the other half their twins with anomalies |
| trained at | {settings.small_size_px} px, in the last {larger_frac:.0%} of the steps {settings.vit.image_size_px} px |
| drawn | {settings.oversampling} times as large, then averaged down, as images of 256 px are before they get here |
| kinds seen | {kinds_seen} |
| kinds never seen | {kinds_unseen} |
| textures seen | {textures_seen} |
| steps, batch | {made[steps]}, {settings.batch_size} |
| time | {minutes:.0f} minutes |
| weights | their moving average, {settings.average} per step |

Images are drawn while it trains: textures in random palettes, laid over one another, with strokes, shading, small
things of several parts, and natural black and white areas as hard normals. Both twins go through the same affine map,
exposure, blur, noise and JPEG encoding, so that the anomaly alone tells them apart; half of the anomalies are in the
scene and go the same way, the others are drawn just before the encoding. The loss is cross-entropy on CLS, and
{settings.patch_loss_weight:g} times the binary cross-entropy of the patches from the masks.

## How good it is

On twins that it never saw, with these fp16 weights, before any fine-tuning or calibration. NLL is in nats; patch AP is
the average precision of the patches. The last rows are of the kinds seen.

Scenes of textures left out of training ({textures_unseen}):

{held_out_table}

The sample video's swan, {settings.swan_frames} frames:

{swan_table}

## Limits

It finds small changes that break a texture: patches, scratches, blots, up to about {widest:.0%} of the image across. It
knows no objects and no scene: what is odd only by where or what it is, or is missing, it does not find without
fine-tuning. Its scores are not calibrated for any scene. The figures above are of drawn images and promise nothing for
filmed ones.

## Licence

Apache-2.0, as Cygnet. No data of others went into it.
"""


@dataclass(frozen=True)
class PackagedCheckpoint:
    """A detector, what its config records beside the architecture, and its card."""

    detector: "Detector"
    facts: dict[str, Any]  # as JSON: kinds_seen, textures_seen, images_seen, seed
    card: str  # Markdown

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in fp16, `config.json`, `preprocessor_config.json` and `README.md`."""
        import torch

        self.detector.save(folder, torch.float16)
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | self.facts, indent=2) + "\n")
        (folder / CARD).write_text(self.card)


def write_card(name: str, pretraining: Pretraining, report: PretrainingReport) -> str:
    """Write the model card.

    Args:
        name: The checkpoint's.
        pretraining: All settings.
        report: The content of `pretraining_report`.
    """
    return TEMPLATE.format(
        name=name,
        settings=pretraining,
        made=report["pretraining"],
        widest=2 * pretraining.twins.spots.radius_frac[1],
        larger_frac=1 - pretraining.small_size_frac,
        minutes=report["pretraining"]["seconds"] / 60,
        kinds_seen=", ".join(pretraining.twins.kinds),
        kinds_unseen=", ".join(kind for kind in report["held_out"]["by_kind"] if kind not in pretraining.twins.kinds),
        textures_seen=", ".join(pretraining.textures),
        textures_unseen=", ".join(pretraining.held_out_textures),
        held_out_table=_table(report["held_out"]),
        swan_table=_table(report["swan"]),
    )


def _table(measured: PairMetricsByKind) -> str:
    lines = ["| kind | pairs | AUROC | NLL | patch AP |", "| --- | --- | --- | --- | --- |"]
    rows: dict[str, PairMetrics] = {**measured["by_kind"], "**seen kinds**": measured}
    for kind, row in rows.items():
        patch = row["patch_average_precision"]
        figures = [f"{row['auroc']:.3f}", f"{row['nll']:.3f}", "-" if patch is None else f"{patch:.3f}"]
        lines.append(f"| {kind} | {row['pairs']} | {' | '.join(figures)} |")
    return "\n".join(lines)
