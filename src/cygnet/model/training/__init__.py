"""Training: what the detector is fitted on, fine-tuning, and pretraining of the carried checkpoint."""
