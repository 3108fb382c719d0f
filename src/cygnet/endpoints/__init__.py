"""Endpoints: where a model version is served, and the client that asks them over REST."""
