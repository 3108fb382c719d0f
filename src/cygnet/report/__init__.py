"""Pages for people: each is one HTML file that needs no network, written from the reports and tables of a run."""
