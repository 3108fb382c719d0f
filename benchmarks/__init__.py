"""Speed ratios that the README states, measured against plain ways of doing the same: `make bench`."""
