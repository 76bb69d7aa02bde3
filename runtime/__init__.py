"""Devices, the agent that runs on them, measuring."""
