"""The sample: a synthetic video of a swan on a pond, generated where the data folder has no video."""
