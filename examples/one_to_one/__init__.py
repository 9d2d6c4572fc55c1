"""One input, one output: no time at all. See README.md."""
