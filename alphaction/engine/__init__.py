"""Training and testing: loops over built objects, and the one place that builds them from the configuration."""
