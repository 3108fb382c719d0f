"""Endpoints: where a model version is served, on this machine or at Databricks, and their REST client."""
