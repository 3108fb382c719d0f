"""The detector: backbone, data, fit, calibration, evaluation, and the scorer that is served.

Nothing here imports Kedro or Spark. `scorer`, `preprocessing` and `served` travel inside the served model.
"""
