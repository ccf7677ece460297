"""Helpers that know nothing of the task: logging, seeds, meters, devices, atomic files. Of ours imports only errors."""
