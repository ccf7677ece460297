"""Tests a model on the data sets of a configuration."""
