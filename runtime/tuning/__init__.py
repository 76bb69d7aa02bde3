"""Tuning: which configuration of a kernel is fastest on a device, found by measuring, kept in a database, used when compiling."""
