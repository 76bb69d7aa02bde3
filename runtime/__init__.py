"""Devices, the agent that runs on them, instruction counting, and a doctor for their set-up."""
