"""`python -m minigrad`: the `minigrad` command."""

from minigrad.cli import app

if __name__ == "__main__":
    app()
