"""What a weight file holds and which configuration it fits: the work of `python -m alphaction.checkpoint inspect`."""
