"""The table of public weights. Accuracies are those that the projects publish; none was measured by us."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from alphaction.errors import CheckpointError

#: Folder of all weights, relative to the working directory.
FOLDER = "data/models"
_FACEBOOK = "https://dl.fbaipublicfiles.com/"
_OPENMMLAB = "https://download.openmmlab.com/mmaction/v1.0/detection/slowfast/"
_TORCHVISION = "https://download.pytorch.org/models/"
_DRIVE = "https://drive.google.com/file/d/{}/view?usp=sharing"
_APACHE = "Apache-2.0"


@dataclass(frozen=True)
class PublicWeights:
    """A file that some project published.

    Attributes:
        name: of the table: project and file.
        file: place below `FOLDER`.
        trained_on: data sets, in the order of training.
        published: accuracy as the project tells it.
        config: the file of `config_files` whose network fits; "" = none.
        whole: whether the file is a detector; False: a starting point (`--transfer --no-head`).
        licence: of the project that publishes the file; "none stated" where it has none.
        url: "" = no address is known. A page of Google Drive is no file: it is for a browser.
        sha256: hexadecimal digits of the file's checksum, or its first ones; "" = unknown.
    """

    name: str
    file: str
    trained_on: str
    published: str
    config: str
    whole: bool
    licence: str
    url: str
    sha256: str = ""

    @property
    def is_direct(self) -> bool:
        """Whether the address is the file's own."""
        return bool(self.url) and "drive.google.com" not in self.url


def find(name: str) -> PublicWeights:
    """The row of that name; the project may be left out where the rest is unique.

    Raises:
        CheckpointError: there is none.
    """
    rows = [row for row in TABLE if name in (row.name, row.name.partition("/")[2])]
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise CheckpointError(f"weights: {name!r} is the name of several: {', '.join(row.name for row in rows)}")
    near = difflib.get_close_matches(name, [row.name for row in TABLE], n=3, cutoff=0.3)
    raise CheckpointError(
        f"weights: got {name!r}, expected a name of `python -m alphaction.weights list`"
        + (f", such as {', '.join(near)}" if near else "")
    )


def _alphaction(stem: str, published: str, config: str, *, drive: str = "", backbone: bool = False) -> PublicWeights:
    return PublicWeights(
        name=f"alphaction/{stem}",
        file=f"{'pretrained_models' if backbone else 'aia_models'}/{stem}.pth",
        trained_on="K700" if backbone else "K700, AVA 2.2",
        published=published,
        config=config,
        whole=not backbone,
        licence="none stated",
        url=_DRIVE.format(drive) if drive else "",
    )


def _facebook(
    path: str, trained_on: str, published: str, config: str, *, whole: bool = False, part: str = ""
) -> PublicWeights:
    project, _, file = path.partition("/model_zoo/")
    file = part + file.rpartition("/")[2]
    return PublicWeights(
        name=f"{project}/{file.rpartition('.')[0]}",
        file=f"{project}/{file}",
        trained_on=trained_on,
        published=published,
        config=config,
        whole=whole,
        licence=_APACHE,
        url=_FACEBOOK + path,
    )


def _mmaction2(name: str, stem: str, date_and_hash: str, trained_on: str, published: str, config: str) -> PublicWeights:
    file = f"{stem}_{date_and_hash}.pth"
    return PublicWeights(
        name=f"mmaction2/{name}",
        file=f"mmaction2/{file}",
        trained_on=trained_on,
        published=published,
        config=config,
        whole=True,
        licence=_APACHE,
        url=f"{_OPENMMLAB}{stem}/{file}",
        sha256=date_and_hash.rpartition("-")[2],
    )


def _torchvision(name: str, file: str, top1: str, config: str) -> PublicWeights:
    """Written down here as torchvision's tables have them, whose import takes seconds; a test compares.

    The names end in the first digits of the checksum, as torchvision's own download checks them.
    """
    return PublicWeights(
        name=f"torchvision/{name}",
        file=f"torchvision/{file}",
        trained_on="ImageNet-1K (images)",
        published=f"{top1} top-1",
        config=config,
        whole=False,
        licence="BSD-3-Clause",
        url=_TORCHVISION + file,
        sha256=file.rpartition("-")[2].partition(".")[0],
    )


TABLE: tuple[PublicWeights, ...] = (
    _alphaction(
        "SlowFast-ResNet50-4x16",
        "66.34 top-1",
        "resnet50_4x16f_baseline",
        drive="1hqFuhD1p0lMpl3Yi5paIGY-hlPTVYgyi",
        backbone=True,
    ),
    _alphaction(
        "SlowFast-ResNet101-8x8",
        "69.32 top-1",
        "resnet101_8x8f_baseline",
        drive="1JDQLyyL-GFd3qi0S31Mdt5oNmUXnyJza",
        backbone=True,
    ),
    *(
        _alphaction(stem, f"{value} mAP", stem)
        for stem, value in (
            ("resnet50_4x16f_baseline", "26.7"),
            ("resnet50_4x16f_parallel", "29.0"),
            ("resnet50_4x16f_serial", "29.8"),
            ("resnet50_4x16f_denseserial", "30.0"),
            ("resnet101_8x8f_baseline", "29.3"),
            ("resnet101_8x8f_denseserial", "32.4"),
        )
    ),
    *(
        _facebook(f"pyslowfast/model_zoo/kinetics400/{stem}.pkl", "K400", f"{value} top-1", config)
        for stem, value, config in (
            ("SLOWFAST_4x16_R50", "75.6", "slowfast_r50_4x16_pyslowfast"),
            ("SLOWFAST_8x8_R50", "77.0", "slowfast_r50_8x8_pyslowfast"),
            ("SLOWONLY_4x16_R50", "72.7", "slow_r50_4x16_pyslowfast"),
            ("SLOWONLY_8x8_R50", "74.8", "slow_r50_8x8_pyslowfast"),
        )
    ),
    _facebook(
        "pyslowfast/model_zoo/ava/pretrain/SLOWFAST_32x2_R101_50_50.pkl",
        "K600",
        "unknown",
        "slowfast_r101_8x8_pyslowfast",
        part="pretrain/",
    ),
    _facebook(
        "pyslowfast/model_zoo/ava/SLOWFAST_32x2_R101_50_50.pkl",
        "K600, AVA 2.2",
        "29.1 mAP",
        "slowfast_r101_8x8_pyslowfast",
        whole=True,
    ),
    _facebook(
        "pyslowfast/model_zoo/ava/SLOWFAST_64x2_R101_50_50.pkl",
        "K600, AVA 2.2",
        "29.4 mAP",
        "slowfast_r101_16x8_pyslowfast",
        whole=True,
    ),
    *(
        _facebook(f"pytorchvideo/model_zoo/kinetics/{stem}.pyth", "K400", f"{value} top-1", config)
        for stem, value, config in (
            ("SLOWFAST_8x8_R50", "76.4", "slowfast_r50_8x8_pytorchvideo"),
            ("SLOWFAST_8x8_R101", "77.9", "slowfast_r101_8x8_pytorchvideo"),
            ("SLOWFAST_16x8_R101_50_50", "78.7", "slowfast_r101_16x8_pytorchvideo"),
            ("SLOW_8x8_R50", "74.58", "slow_r50_8x8_pyslowfast"),
        )
    ),
    *(
        _facebook(f"pytorchvideo/model_zoo/ava/{stem}.pyth", "K400, AVA 2.2", f"{value} mAP", config, whole=True)
        for stem, value, config in (
            ("SLOWFAST_8x8_R50_DETECTION", "24.67", "slowfast_r50_8x8_pytorchvideo"),
            ("SLOW_4x16_R50_DETECTION", "19.5", "slow_r50_4x16_pytorchvideo"),
        )
    ),
    _mmaction2(
        "slowfast_r50_4x16_ava21",
        "slowfast_kinetics400-pretrained-r50_8xb16-4x16x1-20e_ava21-rgb",
        "20220906-5180ea3c",
        "K400, AVA 2.1",
        "24.32 mAP",
        "slowfast_r50_4x16_mmaction2",
    ),
    _mmaction2(
        "slowfast_r50_8x8_ava22",
        "slowfast_kinetics400-pretrained-r50_8xb6-8x8x1-cosine-10e_ava22-rgb",
        "20220906-d934a48f",
        "K400, AVA 2.2",
        "25.90 mAP",
        "slowfast_r50_8x8_mmaction2",
    ),
    _torchvision("resnet50_v1", "resnet50-0676ba61.pth", "76.1", "slow_r50_8x8_imagenet"),
    _torchvision("resnet50_v2", "resnet50-11ad3fa6.pth", "80.9", "slow_r50_8x8_imagenet"),
    _torchvision("resnet101_v1", "resnet101-63fe2227.pth", "77.4", ""),
    _torchvision("resnet101_v2", "resnet101-cd907fc2.pth", "81.9", ""),
)
