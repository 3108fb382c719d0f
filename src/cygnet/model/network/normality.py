"""How far patches lie outside what the patches of normal frames span: the normality part of the detector.

A principal subspace of the normal patches' features explains nearly all of their variance. What of a patch lies outside
it has not been seen in a normal frame, whatever it is: no anomaly needs to be drawn for that (Lendering et al.,
"SubspaceAD", CVPR 2026). The features are the mean of the backbone's middle blocks; the last ones forget texture.

Mean and basis are all that remains of the frames. `cygnet.model.training.normality` fits them.
"""

import math

import torch
from torch import nn


class Subspace(nn.Module):
    """A mean and an orthonormal basis. Before it is fitted the basis is empty: everything lies outside.

    In the comments B is the batch, P = G * G the patches of an image, D the backbone's width, K the dimension of the
    subspace.
    """

    mean: torch.Tensor  # (D,) float32
    basis: torch.Tensor  # (D, K) float32
    blocks: torch.Tensor  # (2,) int64: first and last block, counted from 1, whose mean is the features

    def __init__(self, width: int, first_block: int, last_block: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, 0))
        self.register_buffer("blocks", torch.tensor([first_block, last_block]))

    @property
    def first_block(self) -> int:
        """The first block whose patches count, from 1."""
        return int(self.blocks[0])

    @property
    def last_block(self) -> int:
        """The last block whose patches count."""
        return int(self.blocks[1])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Measure the squared distance of each patch to the subspace.

        Args:
            features: `(B, P, D)`, any float dtype.

        Returns:
            `(B, G, G)` float32, >= 0.
        """
        centred = features.float() - self.mean  # (B, P, D)
        inside = (centred @ self.basis).square().sum(-1)
        side = math.isqrt(features.shape[1])  # G
        return (centred.square().sum(-1) - inside).clamp(min=0).reshape(-1, side, side)
