"""Imported first by the settings: what libraries say about each other while they load is no news to a user of Cygnet.

From here on, warnings go to the logger `py.warnings`, which conf/logging.yml silences, and MLflow logs warnings only.
"""

import logging
import os

logging.captureWarnings(True)
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
