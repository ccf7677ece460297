"""The key tables of the projects whose SlowFast and Slow networks can be read.

Stages, blocks and lateral connections are counted differently, the tensors are the same; none needs another layout.
"""

from __future__ import annotations

from alphaction.checkpoint.zoo.keys import NUMBER, Field, KeyTable, Rule

#: Our name of the last layer.
PREDICTOR = "roi_heads.action.predictor.cls_score."

_BN_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_SAME_PARTS: dict[str, Field] = {
    "block": NUMBER,
    "wb": {name: name for name in ("weight", "bias")},
    "bn": {name: name for name in _BN_PARTS},
}
_FROM_2 = {str(i): str(i + 1) for i in range(1, 5)}  # our stage 1 is their stage 2: the stem is their first
_SAME_STAGES = {str(i): str(i) for i in range(1, 5)}
_LETTERS = {"1": "a", "2": "b", "3": "c"}
_PATHS = {"slow": "0", "fast": "1"}

_STEM = "backbone.{path}.conv1.weight"
_STEM_BN = "backbone.{path}.bn1.{bn}"
_CONV = "backbone.{path}.res_nl{stage}.res_{block}.btnk.conv{branch}.conv.weight"
_CONV_BN = "backbone.{path}.res_nl{stage}.res_{block}.btnk.conv{branch}.bn.{bn}"
_SHORTCUT = "backbone.{path}.res_nl{stage}.res_{block}.shortcut.conv.weight"
_SHORTCUT_BN = "backbone.{path}.res_nl{stage}.res_{block}.shortcut.bn.{bn}"
_LATERAL = "backbone.fast.Tconv{lateral}.conv.weight"
_LATERAL_BN = "backbone.fast.Tconv{lateral}.bn.{bn}"
_NONLOCAL = "backbone.{path}.res_nl{stage}.nonlocal_{block}.{layer}.{wb}"
_NONLOCAL_BN = "backbone.{path}.res_nl{stage}.nonlocal_{block}.bn.{bn}"
_LAST = PREDICTOR + "{wb}"


def _slow_only(template: str) -> str:
    return template.replace("{path}", "slow")


PYSLOWFAST = KeyTable(
    "PySlowFast",
    {
        **_SAME_PARTS,
        "path": _PATHS,
        "stage": _FROM_2,
        "branch": _LETTERS,
        "lateral": _SAME_STAGES,
        "layer": {name: f"conv_{name}" for name in ("theta", "phi", "g", "out")},
    },
    (
        Rule(_STEM, "s1.pathway{path}_stem.conv.weight"),
        Rule(_STEM_BN, "s1.pathway{path}_stem.bn.{bn}"),
        Rule(_CONV, "s{stage}.pathway{path}_res{block}.branch2.{branch}.weight"),
        Rule(_CONV_BN, "s{stage}.pathway{path}_res{block}.branch2.{branch}_bn.{bn}"),
        Rule(_SHORTCUT, "s{stage}.pathway{path}_res{block}.branch1.weight"),
        Rule(_SHORTCUT_BN, "s{stage}.pathway{path}_res{block}.branch1_bn.{bn}"),
        Rule(_LATERAL, "s{lateral}_fuse.conv_f2s.weight"),
        Rule(_LATERAL_BN, "s{lateral}_fuse.bn.{bn}"),
        Rule(_NONLOCAL, "s{stage}.pathway{path}_nonlocal{block}.{layer}.{wb}"),
        Rule(_NONLOCAL_BN, "s{stage}.pathway{path}_nonlocal{block}.bn.{bn}"),
        Rule(_LAST, "head.projection.{wb}"),
    ),
    signatures=("s1.pathway0_stem.conv.weight", "s1.pathway1_stem.conv.weight"),
)

# The names that PySlowFast's own loader of Caffe2 files takes ("riv" holds the variance, whatever its name says).
CAFFE2_SLOWFAST = KeyTable(
    "PySlowFast (Caffe2)",
    {
        "block": NUMBER,
        "wb": {"weight": "w", "bias": "b"},
        "bn": {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"},
        "path": {"slow": "", "fast": "t_"},
        "stage": _FROM_2,
        "branch": _LETTERS,
        "lateral": {str(i): str(i) for i in range(2, 5)},
        "layer": {name: name for name in ("theta", "phi", "g", "out")},
        "nl_stage": {"2": "3", "3": "4"},
        "last": NUMBER,
    },
    (
        Rule(_STEM, "{path}conv1_w"),
        Rule(_STEM_BN, "{path}res_conv1_bn_{bn}"),
        Rule(_CONV, "{path}res{stage}_{block}_branch2{branch}_w"),
        Rule(_CONV_BN, "{path}res{stage}_{block}_branch2{branch}_bn_{bn}"),
        Rule(_SHORTCUT, "{path}res{stage}_{block}_branch1_w"),
        Rule(_SHORTCUT_BN, "{path}res{stage}_{block}_branch1_bn_{bn}"),
        Rule("backbone.fast.Tconv1.conv.weight", "t_pool1_subsample_w"),
        Rule("backbone.fast.Tconv1.bn.{bn}", "t_pool1_subsample_bn_{bn}"),
        Rule(_LATERAL, "t_res{lateral}_{last}_branch2c_bn_subsample_w", last_block="lateral"),
        Rule(_LATERAL_BN, "t_res{lateral}_{last}_branch2c_bn_subsample_bn_{bn}", last_block="lateral"),
        Rule(
            "backbone.slow.res_nl{nl_stage}.nonlocal_{block}.{layer}.{wb}",
            "nonlocal_conv{nl_stage}_{block}_{layer}_{wb}",
        ),
        Rule("backbone.slow.res_nl{nl_stage}.nonlocal_{block}.bn.{bn}", "nonlocal_conv{nl_stage}_{block}_bn_{bn}"),
        Rule(_LAST, "pred_{wb}"),
    ),
    signatures=("t_conv1_w",),
)


def _pytorchvideo(*, prefix: str, last: str, two_paths: bool) -> KeyTable:
    block = prefix + "blocks."
    path = "multipathway_blocks.{path}." if two_paths else ""
    residual = block + "{stage}." + path + "res_blocks.{block}."
    lateral = block + "{lateral}.multipathway_fusion."
    rules = [
        Rule(_STEM, f"{block}0.{path}conv.weight"),
        Rule(_STEM_BN, f"{block}0.{path}norm.{{bn}}"),
        Rule(_CONV, residual + "branch2.conv_{branch}.weight"),
        Rule(_CONV_BN, residual + "branch2.norm_{branch}.{bn}"),
        Rule(_SHORTCUT, residual + "branch1_conv.weight"),
        Rule(_SHORTCUT_BN, residual + "branch1_norm.{bn}"),
    ]
    if two_paths:
        rules += [Rule(_LATERAL, lateral + "conv_fast_to_slow.weight"), Rule(_LATERAL_BN, lateral + "norm.{bn}")]
    else:
        rules = [Rule(_slow_only(rule.ours), rule.theirs) for rule in rules]
    return KeyTable(
        f"PyTorchVideo {'SlowFast' if two_paths else 'Slow'}{' detection' if prefix else ''}",
        {
            **_SAME_PARTS,
            "path": _PATHS,
            "stage": _SAME_STAGES,
            "branch": _LETTERS,
            "lateral": {str(i): str(i - 1) for i in range(1, 5)},
        },
        (*rules, Rule(_LAST, last + "{wb}")),
        signatures=(f"{block}0.multipathway_blocks.0.conv.weight" if two_paths else f"{block}0.conv.weight",),
    )


def _mmaction2(*, prefix: str, two_paths: bool) -> KeyTable:
    path = prefix + ("{path}." if two_paths else "")
    residual = path + "layer{stage}.{block}."
    lateral = prefix + "slow_path."
    rules = [
        Rule(_STEM, path + "conv1.conv.weight"),
        Rule(_STEM_BN, path + "conv1.bn.{bn}"),
        Rule(_CONV, residual + "conv{branch}.conv.weight"),
        Rule(_CONV_BN, residual + "conv{branch}.bn.{bn}"),
        Rule(_SHORTCUT, residual + "downsample.conv.weight"),
        Rule(_SHORTCUT_BN, residual + "downsample.bn.{bn}"),
    ]
    if two_paths:
        rules += [
            Rule("backbone.fast.Tconv1.conv.weight", lateral + "conv1_lateral.conv.weight"),
            Rule("backbone.fast.Tconv1.bn.{bn}", lateral + "conv1_lateral.bn.{bn}"),
            Rule(_LATERAL, lateral + "layer{lateral}_lateral.conv.weight"),
            Rule(_LATERAL_BN, lateral + "layer{lateral}_lateral.bn.{bn}"),
        ]
    else:
        rules = [Rule(_slow_only(rule.ours), rule.theirs) for rule in rules]
    if prefix:
        rules.append(Rule(_LAST, "roi_head.bbox_head.fc_cls.{wb}"))
    first = "slow_path." if two_paths else ""
    return KeyTable(
        f"mmaction2 {'SlowFast' if two_paths else 'SlowOnly'}{'' if prefix else ' backbone'}",
        {
            **_SAME_PARTS,
            "path": {"slow": "slow_path", "fast": "fast_path"},
            "stage": _SAME_STAGES,
            "branch": {str(i): str(i) for i in (1, 2, 3)},
            "lateral": {str(i): str(i - 1) for i in range(2, 5)},
        },
        rules,
        signatures=(f"{prefix}{first}conv1.conv.weight",),
    )


PYTORCHVIDEO_SLOWFAST = _pytorchvideo(prefix="", last="blocks.6.proj.", two_paths=True)
PYTORCHVIDEO_SLOWFAST_DETECTION = _pytorchvideo(prefix="model.", last="detection_head.proj.", two_paths=True)
PYTORCHVIDEO_SLOW = _pytorchvideo(prefix="", last="blocks.5.proj.", two_paths=False)
PYTORCHVIDEO_SLOW_DETECTION = _pytorchvideo(prefix="model.", last="detection_head.proj.", two_paths=False)
MMACTION2_SLOWFAST = _mmaction2(prefix="backbone.", two_paths=True)
MMACTION2_SLOWFAST_BACKBONE = _mmaction2(prefix="", two_paths=True)
MMACTION2_SLOWONLY = _mmaction2(prefix="backbone.", two_paths=False)
MMACTION2_SLOWONLY_BACKBONE = _mmaction2(prefix="", two_paths=False)

FORMATS = (
    PYSLOWFAST,
    CAFFE2_SLOWFAST,
    PYTORCHVIDEO_SLOWFAST,
    PYTORCHVIDEO_SLOWFAST_DETECTION,
    PYTORCHVIDEO_SLOW,
    PYTORCHVIDEO_SLOW_DETECTION,
    MMACTION2_SLOWFAST,
    MMACTION2_SLOWFAST_BACKBONE,
    MMACTION2_SLOWONLY,
    MMACTION2_SLOWONLY_BACKBONE,
)
