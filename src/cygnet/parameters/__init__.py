"""The parameters of every pipeline: one module of frozen pydantic models for each `conf/base/parameters_*.yml`.

The YAML files say type, unit and range of each parameter; the bounds in these models enforce what they say.
"""
