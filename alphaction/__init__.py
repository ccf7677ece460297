"""AlphAction: spatio-temporal action detection (who does what, where and when in a video).

A rebuild of "Asynchronous Interaction Aggregation for Action Detection" (Tang et al., ECCV 2020,
arXiv 2004.07485): SlowFast backbone, ROI action head, configuration by a yacs tree.
"""

__version__ = "0.1.0"
