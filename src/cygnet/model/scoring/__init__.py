"""Scoring: the frames of videos in Spark's workers, and the parts in which they leave their scores."""
