"""Kedro datasets of Cygnet's own: thin descriptions of catalog entries for files, servers and MLflow."""
