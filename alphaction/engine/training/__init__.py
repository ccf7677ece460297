"""Builds the training step."""
