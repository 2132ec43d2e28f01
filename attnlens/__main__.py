"""Lets ``python -m attnlens`` be the command ``attnlens``."""

from attnlens.cli.main import run

if __name__ == "__main__":
    run()
