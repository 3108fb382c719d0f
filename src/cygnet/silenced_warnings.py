"""Imported first by the settings: silences what libraries report about themselves while they load.

From here on, warnings go to the logger `py.warnings`, which conf/logging.yml silences, and MLflow logs warnings only.
"""

import logging
import os

logging.captureWarnings(True)
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
