"""A sequence in, one answer out. See README.md."""
