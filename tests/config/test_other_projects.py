"""Weights of another project in a network that is not like theirs."""

import logging

import pytest
from zoo_kit import CONFIGS, WHOLE_CLIPS, config

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
    assert not unlike_project(cfg, "torchvision", with_head=True) and not unlike_project(cfg, "", with_head=True)


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
        "c.pyth holds weights of PyTorchVideo SlowFast detection, whose network is another one than the "
        f"configuration's where no tensor shows it: {ALIGNED} True (theirs False). Results will be worse; "
        "config_files/slow*_pytorchvideo.yaml have the right keys."
    )
