"""Weights of other projects: PySlowFast, PyTorchVideo, mmaction2, and torchvision's networks for images."""

from alphaction.checkpoint.zoo.convert import Converted, converted, recognised
from alphaction.checkpoint.zoo.inflate import ImageWeights, inflated, is_image_network

__all__ = ["Converted", "ImageWeights", "converted", "inflated", "is_image_network", "recognised"]
