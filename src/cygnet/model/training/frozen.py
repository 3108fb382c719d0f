"""Blocks that are not fitted: frozen, and computed once for every image.

Frozen blocks always give the same output for the same image. It is computed once, kept in a memory-mapped file, and
reused in every epoch.
"""

from dataclasses import replace
from pathlib import Path

import torch

from cygnet.errors import UserError
from cygnet.model.network.detector import Detector
from cygnet.model.serving.blocks import FirstBlocks, block_runner
from cygnet.model.training.examples import Examples, mapped_tensor
from cygnet.parameters.training import Training
from cygnet.progress import tracked


def freeze(detector: Detector, training: Training) -> int:
    """Switch off the gradients of what is not fitted; return how many blocks at the start are frozen.

    Raises:
        UserError: `last_blocks` would fit all blocks.
    """
    blocks = len(detector.blocks)
    if training.fitted == "full":
        return 0
    if training.fitted == "last_blocks" and training.last_blocks >= blocks:
        msg = (
            f"training.last_blocks is {training.last_blocks}, but the checkpoint has {blocks} blocks: use fewer, or "
            "training.fitted: full."
        )
        raise UserError(msg)
    frozen = blocks if training.fitted == "heads" else blocks - training.last_blocks
    detector.backbone.requires_grad_(False)
    for module in (*detector.blocks[frozen:], detector.backbone.layernorm) if frozen < blocks else ():
        module.requires_grad_(True)
    return frozen


class FromBlock(torch.nn.Module):
    """The detector from its first block that is not frozen: the module that Accelerate wraps and calls."""

    def __init__(self, detector: Detector, frozen: int) -> None:
        super().__init__()
        self.detector, self.frozen = detector, frozen

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take tokens `(B, T, D)`, or with no frozen block images; return what `Detector.forward` returns."""
        tokens = inputs.float() if self.frozen else self.detector.run_blocks(inputs, 0)[0]
        return self.detector.finish(tokens, self.frozen)


def run_frozen_blocks(detector: Detector, examples: Examples, frozen: int, path: Path, batch_size: int) -> Examples:
    """Replace images by the output of the frozen blocks.

    Half precision halves the file, and rounds less than bfloat16 does.

    Args:
        detector: Moved to the device of the fit.
        examples: The images.
        frozen: Number of frozen blocks; 0 returns the examples as they are.
        path: The memory-mapped file to write.
        batch_size: Images at once.

    Returns:
        Examples whose images are tokens `(N, T, D)` float16.
    """
    if not frozen:
        return examples
    run = block_runner(FirstBlocks(detector, frozen))
    tokens = torch.empty(0)
    batches = torch.arange(len(examples.labels)).split(batch_size)
    for indices in tracked(batches, "Running the frozen blocks", "images", len(examples.labels), len):
        made, _ = run(examples.take(indices)[0])
        if not len(tokens):
            tokens = mapped_tensor(path, (len(examples.labels), *made.shape[1:]), torch.float16)
        tokens[indices] = made.half()
    return replace(examples, images=tokens, preprocessing=None)
