"""Serving: the scorer, the runtimes behind it, and the MLflow model that carries them."""
