"""Tries a run out without a trace, to say what it will take."""
