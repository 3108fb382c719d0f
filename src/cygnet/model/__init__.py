"""The detector: backbone, data, fit, calibration, evaluation, and the scorer that is served.

Nothing here imports Kedro or Spark. What travels inside the served model is listed in `packaging`.
"""
