"""``python -m tapdot.cli``: the same as ``tapdot``."""

from tapdot.cli.main import main

main()
