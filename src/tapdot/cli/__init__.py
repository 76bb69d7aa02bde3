"""The command line: a thin layer over the public functions. Results go to stdout, progress and errors to stderr."""

from tapdot.cli.main import main

__all__ = ["main"]
