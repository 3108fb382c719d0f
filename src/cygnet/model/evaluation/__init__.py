"""Evaluation: calibration, metrics with their intervals, localisation, baselines, parity, events and plots."""
