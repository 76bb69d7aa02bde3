"""From graphs to files of other tools."""
