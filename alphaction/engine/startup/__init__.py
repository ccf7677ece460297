"""Before a run: its configuration, its processes, its folder, its log."""
