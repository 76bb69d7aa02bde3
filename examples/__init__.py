"""Programs to read and run: what tapdot does, on models that come with them."""
