"""A page in the browser of this machine, on which a person labels frames."""
