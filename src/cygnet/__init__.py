"""Cygnet: from a video of how things normally look to a deployed Vision Transformer that finds what is abnormal.

This file stays empty of imports: the served model carries a part of the package (see `cygnet.model.serving.packaging`),
and that part must load where neither Kedro nor Spark is installed.
"""

__version__ = "0.1.0"
