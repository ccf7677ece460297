"""From a user's videos and annotations to a data set that trains: made, checked, looked at. The work of `tools/`."""
