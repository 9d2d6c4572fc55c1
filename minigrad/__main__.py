"""`python -m minigrad`: the `minigrad` command."""

from minigrad.cli import app

app()
