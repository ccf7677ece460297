"""Weights of another project in a network that is not like theirs."""

import logging

import pytest
from zoo_kit import CONFIGS, WHOLE_CLIPS, config

from alphaction.checkpoint.zoo import ImageWeights
from alphaction.checkpoint.zoo.formats import FORMATS, MMACTION2_SLOWFAST, PYSLOWFAST, PYTORCHVIDEO_SLOWFAST_DETECTION
from alphaction.config.other_projects import unlike_project, warn_if_unlike

TITLES = {"pyslowfast": "PySlowFast (Caffe2)", "pytorchvideo": "PyTorchVideo Slow", "mmaction2": "mmaction2 SlowOnly"}
ALIGNED = "MODEL.ROI_ACTION_HEAD.POOLER_ALIGNED"


@pytest.mark.parametrize("project, name", sorted({(project, name) for (project, _), name in CONFIGS.items()}))
def test_the_shipped_configurations_are_like_their_projects(project, name):
    assert not unlike_project(config(name), TITLES[project], with_head=True)
    others = [title for other, title in TITLES.items() if other != project]
    assert all(unlike_project(config(name), title, with_head=True) for title in others)


def test_every_format_is_of_a_project_that_is_known():
    cfg = config("slowfast_r50_8x8_pyslowfast", ["MODEL.BACKBONE.STEM_POOL_PADDING", 0])
    assert all(unlike_project(cfg, table.title, with_head=False) for table in FORMATS)
    assert unlike_project(cfg, ImageWeights.title, with_head=False) and not unlike_project(cfg, "", with_head=True)
    assert not unlike_project(config("slow_r50_8x8_imagenet"), ImageWeights.title, with_head=False)


@pytest.mark.parametrize(
    "opts, keys",
    [
        (["INPUT.PIXEL_MEAN", [122.7717, 115.9465, 102.9801]], {"INPUT.PIXEL_MEAN"}),
        (["INPUT.PIXEL_MEAN", [123.68, 116.28, 103.53], "INPUT.PIXEL_STD", [58.4, 57.1, 57.4]], set()),
        (["INPUT.PIXEL_STD", [1.0, 1.0, 1.0], "INPUT.TO_BGR", True], {"INPUT.PIXEL_STD", "INPUT.TO_BGR"}),
    ],
)
def test_pictures_unlike_those_of_the_training(opts, keys):
    """Also without their head: it is the backbone that sees them. A mean with fewer digits is no other mean."""
    cfg = config("slowfast_r50_4x16_mmaction2", opts)
    assert set(unlike_project(cfg, MMACTION2_SLOWFAST.title, with_head=False)) == keys


def test_what_does_not_matter_without_their_head():
    cfg = config("slowfast_r50_8x8_pyslowfast", [*WHOLE_CLIPS, ALIGNED, False])
    assert not unlike_project(cfg, PYSLOWFAST.title, with_head=False)
    assert set(unlike_project(cfg, PYSLOWFAST.title, with_head=True)) == {
        "MODEL.BACKBONE.LAST_STRIDE",
        "MODEL.BACKBONE.LAST_DILATION",
        ALIGNED,
    }


def test_a_network_with_one_pathway_has_no_lateral_connections():
    relu = ["MODEL.BACKBONE.SLOWFAST.LATERAL_RELU", True]
    assert not unlike_project(config("slowonly_r50_4x16_mmaction2", relu), "mmaction2 SlowOnly", with_head=True)
    assert unlike_project(config("slowfast_r50_4x16_mmaction2", relu), MMACTION2_SLOWFAST.title, with_head=True)


def test_the_warning(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    cfg = config("slowfast_r50_8x8_pyslowfast")
    title = PYTORCHVIDEO_SLOWFAST_DETECTION.title
    warn_if_unlike(cfg, PYSLOWFAST.title, source="a.pyth", with_head=True)
    warn_if_unlike(cfg, title, source="b.pyth", with_head=False)
    assert not caplog.records
    warn_if_unlike(cfg, title, source="c.pyth", with_head=True)
    [record] = caplog.records
    assert record.levelname == "WARNING" and record.getMessage() == (
        "c.pyth holds weights of PyTorchVideo SlowFast detection, trained with other settings than the "
        f"configuration's where no tensor shows it: {ALIGNED} True (theirs False). Results will be worse; the right "
        "keys are in config_files/slow*_pytorchvideo.yaml."
    )
