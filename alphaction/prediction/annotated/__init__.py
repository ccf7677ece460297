"""The annotated video: boxes that move smoothly, readable labels, an mp4 file that survives a kill."""

from alphaction.prediction.annotated.video import AnnotatedVideo

__all__ = ["AnnotatedVideo"]
