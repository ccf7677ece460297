"""Where the boxes of persons come from."""
