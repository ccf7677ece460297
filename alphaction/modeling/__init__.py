"""The network: SlowFast backbone, region pooling, action head, losses and scores.

cfg = get_cfg(); cfg.merge_from_file("config_files/resnet50_4x16f_baseline.yaml")
model, criterion, postprocess = build_detection_model(cfg), build_criterion(cfg), build_postprocess(cfg)
"""

from alphaction.modeling.build import (
    action_groups,
    build_criterion,
    build_detection_model,
    build_person_criterion,
    build_postprocess,
)

__all__ = [
    "action_groups",
    "build_criterion",
    "build_detection_model",
    "build_person_criterion",
    "build_postprocess",
]
