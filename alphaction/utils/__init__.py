"""Helpers without knowledge of the task: logging, seeds, meters, devices, atomic files. Imports nothing of ours but errors."""
