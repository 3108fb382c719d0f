"""Evaluation: batch scoring, calibration, metrics with intervals, localisation, baselines, parity, events and plots."""
