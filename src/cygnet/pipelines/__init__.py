"""The pipelines: `pipeline.py` wires, `nodes.py` holds pure functions of tables and parameters."""
