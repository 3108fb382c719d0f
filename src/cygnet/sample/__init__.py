"""The sample: a procedural video of a swan on a pond, made where the data folder has none."""
