"""Kedro datasets of our own: everything that touches a file, a server or a tracker is behind one of these."""
