"""A small trained network, the script that made it, and what `make demo` shows of it."""
