"""Frames of files and streams, and the clips that are cut from them."""
