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

A small Vision Transformer that detects small visual anomalies in an image and localises them. Cygnet fine-tunes it on
your scene. It was trained on procedural images only, and has never seen a photograph.

## What it is

ViT, {settings.vit.layers} layers, width {settings.vit.hidden_size}, {settings.vit.heads} heads, patches of
{settings.vit.patch_size_px} px, {settings.input_size_px} px input (position embeddings are interpolated to any size);
{made[parameters]} parameters in fp16. The same file holds two linear heads: `classifier.*` on the CLS token
(0 = abnormal, 1 = normal), and `patch_head.*` on every patch (logit of being abnormal). Pixels are RGB, scaled to
-1..1. `transformers.AutoModel.from_pretrained` loads the backbone; Cygnet's `training.checkpoint` takes the folder.

## How it was made

```sh
kedro run --pipeline=pretraining
```

The main settings of `params:pretraining`:

| | |
| --- | --- |
| seed | {settings.seed}; the seed and i determine image i |
| images seen | {made[images_seen]}, each once; half are normal, the other half the same images with anomalies |
| image size | {settings.small_size_px} px; {settings.vit.image_size_px} px in the last {larger_frac:.0%} of the steps |
| rendering | {settings.oversampling} times as large, then averaged down, as Cygnet does with images of 256 px |
| kinds seen | {kinds_seen} |
| kinds never seen | {kinds_unseen} |
| textures seen | {textures_seen} |
| steps, batch | {made[steps]}, {settings.batch_size} |
| time | {minutes:.0f} minutes |
| weights | exponential moving average, decay {settings.average} per step |

Images are rendered during training: layered textures in random palettes, with strokes, shading, small objects of
several parts, and black and white areas as hard normals. Each normal image is paired with the same image with an
anomaly. Both get the same affine map, exposure, blur, noise and JPEG encoding, so that only the anomaly tells them
apart. Half of the anomalies are part of the scene and vary with it; the others are drawn just before encoding. The
loss is cross-entropy on CLS, plus {settings.patch_loss_weight:g} times the binary cross-entropy of the patches from
the masks.

## Evaluation

On unseen pairs, with these fp16 weights, before any fine-tuning or calibration. NLL is in nats; patch AP is the average
precision of the patches. The last row of each table covers the kinds seen in training.

Scenes with textures held out of training ({textures_unseen}):

{held_out_table}

Cygnet's sample video, {settings.swan_frames} frames:

{swan_table}

## Limits

It finds small changes that break a texture, such as patches, scratches and blots, up to about {widest:.0%} of the
image across. It does not recognise objects or scenes: without fine-tuning it misses objects that are out of place or
missing. Its scores are not calibrated for any scene. The metrics above are of synthetic images and do not carry over
to filmed ones.

## Licence

Apache-2.0, like Cygnet. No third-party data was used.
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
