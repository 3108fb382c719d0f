"""Scoring of videos: frames in Spark's workers, the parts that store their scores, clips and counts for the reports."""
