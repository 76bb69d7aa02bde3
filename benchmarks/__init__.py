"""Measurements of tapdot: a zoo of networks, the machine's limits, and the engines it is compared with."""
