"""The command line. Each command is a thin layer over the public functions; results go to stdout, progress and errors to stderr."""

from tapdot.cli.main import main

__all__ = ["main"]
