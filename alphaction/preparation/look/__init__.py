"""Contact sheets and short films of samples, as the loader gives them to the network."""
