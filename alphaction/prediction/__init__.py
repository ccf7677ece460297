"""From a video to who does what, when and where: persons, their tracks, their actions over time."""
