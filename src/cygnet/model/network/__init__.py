"""The network: the ViT detector, the checkpoints it starts from, its preprocessing, and the hardware that runs it."""
