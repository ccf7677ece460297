"""Checks a configuration before anything is built: each key's range, then keys against each other.

`rules.RULES` holds what one key alone may be, the functions here what must fit together. All faults are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from yacs.config import CfgNode

from alphaction.config.defaults import get_cfg
from alphaction.config.merge import coerce, leaves
from alphaction.config.names import nearest, shown
from alphaction.config.rules import BODIES, RULES
from alphaction.errors import ConfigError

FUTURE_BODIES = ("I3D-Resnet50", "I3D-Resnet101", "I3D-Resnet50-Sparse", "I3D-Resnet101-Sparse")
#: Width of a pathway's last stage over that of its first.
_LAST_OVER_FIRST = 32
#: Frames of a group of CONV3_GROUP_NL.
_GROUP_FRAMES = 4
#: AVA's poses, actions with an object, actions with a person.
AVA_GROUPS = (14, 49, 17)


def validate(cfg: CfgNode, *, world_size: int = 1) -> None:
    """Refuses a configuration that cannot be built or run.

    Args:
        cfg: a complete tree, as `get_cfg` or `load_config` return it. It is not changed.
        world_size: number of processes that share a batch.

    Raises:
        ConfigError: one line for each fault: key, value, what is allowed.
    """
    defaults = dict(leaves(get_cfg()))
    values, faults = _values_of_right_type(cfg, defaults)
    faults += _out_of_range(values)
    # A key that is wrong by itself says nothing about those beside it.
    wrong = {line.partition(":")[0] for line in faults}
    values.update({key: defaults[key] for key in wrong & defaults.keys()})
    for check in (_classes, _pathways, _other_projects, _person_head, _sizes, _interaction):
        faults += [fault.line for fault in check(values) if not wrong.intersection(fault.keys)]
    for key in ("SOLVER.VIDEOS_PER_BATCH", "TEST.VIDEOS_PER_BATCH"):
        if key not in wrong and values[key] % world_size:
            faults.append(f"{key}: got {values[key]}, expected a multiple of {world_size}, the number of processes")
    videos, steps = values["SOLVER.VIDEOS_PER_BATCH"], values["SOLVER.ACCUMULATION_STEPS"]
    if not wrong & {"SOLVER.VIDEOS_PER_BATCH", "SOLVER.ACCUMULATION_STEPS"} and 0 < videos // world_size < steps:
        clips = "clip" if videos // world_size == 1 else "clips"
        faults.append(
            f"SOLVER.ACCUMULATION_STEPS: got {steps}, expected at most {videos // world_size}, the {clips} of a batch "
            f"that each process has (SOLVER.VIDEOS_PER_BATCH {videos}, processes: {world_size})"
        )
    if len(faults) == 1:
        raise ConfigError(f"configuration: {faults[0]}")
    if faults:
        raise ConfigError(f"configuration: {len(faults)} faults\n  " + "\n  ".join(faults))


class _Fault(NamedTuple):
    """A line of the message, and the keys that contradict each other."""

    line: str
    keys: tuple[str, ...]


_Values = dict[str, Any]
_Faults = Iterator[_Fault]


def _values_of_right_type(cfg: CfgNode, defaults: _Values) -> tuple[_Values, list[str]]:
    """Every key's value in its type, the default where it has none of its own; faults of type."""
    values, faults = dict(defaults), []
    for key, value in leaves(cfg):
        if key not in defaults:
            faults.append(f"{key}: unknown key; the nearest one is {nearest(key, defaults)}")
            continue
        try:
            if isinstance(value, str) and not isinstance(defaults[key], str):
                # Set past the merging functions, which would have read the number in the text.
                raise ConfigError(f"{key}: got {shown(value)} (text), expected a {type(defaults[key]).__name__}")
            values[key] = coerce(key, value, defaults[key])
        except ConfigError as fault:
            faults.append(str(fault))
    for key in sorted(defaults.keys() - dict(leaves(cfg)).keys()):
        faults.append(f"{key}: is missing, expected a value (default {defaults[key]!r})")
    return values, faults


def _out_of_range(values: _Values) -> list[str]:
    faults = []
    for key, rule in RULES.items():
        if rule.holds(values[key]):
            continue
        if key == "MODEL.BACKBONE.CONV_BODY" and values[key] in FUTURE_BODIES:
            allowed = f"{rule.allowed} (the I3D bodies are known but not available yet)"
        else:
            allowed = rule.allowed
        faults.append(f"{key}: got {shown(values[key])}, expected {allowed}")
    return faults


def _classes(values: _Values) -> _Faults:
    head = "MODEL.ROI_ACTION_HEAD."
    total_key = head + "NUM_CLASSES"
    names = ("NUM_PERSON_MOVEMENT_CLASSES", "NUM_OBJECT_MANIPULATION_CLASSES", "NUM_PERSON_INTERACTION_CLASSES")
    keys = tuple(head + name for name in names)
    counts = tuple(values[key] for key in keys)
    total = values[total_key]
    one_group = counts == AVA_GROUPS and total != sum(AVA_GROUPS)
    if total and not one_group and sum(counts) != total:
        parts = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        line = (
            f"{total_key}: got {total}, but the groups have {sum(counts)} classes ({parts}); expected groups that add "
            "up to NUM_CLASSES, or left at 14, 49, 17 to put all classes into one group"
        )
        yield _Fault(line, (total_key, *keys))


def _pathways(values: _Values) -> _Faults:
    slow, fast = "MODEL.BACKBONE.SLOWFAST.SLOW.ACTIVE", "MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE"
    if not values[slow] and not values[fast]:
        yield _Fault(f"{slow}: got False, as is {fast}; expected at least one pathway", (slow, fast))
    yield from _fast_width(values)
    frames, tau, alpha = values["INPUT.FRAME_NUM"], values["INPUT.TAU"], values["INPUT.ALPHA"]
    if tau > 0 and frames % tau:
        line = f"INPUT.FRAME_NUM: got {frames}, expected a multiple of INPUT.TAU ({tau})"
        yield _Fault(line, ("INPUT.FRAME_NUM", "INPUT.TAU"))
    if values[fast] and alpha > 0 and tau % alpha:
        line = f"INPUT.TAU: got {tau}, expected a multiple of INPUT.ALPHA ({alpha})"
        yield _Fault(line, ("INPUT.TAU", "INPUT.ALPHA"))
    elif not frames % tau:
        for pathway, count in (("SLOW", frames // tau), ("FAST", frames // tau * alpha)):
            yield from _frame_groups(values, pathway, count)


def _other_projects(values: _Values) -> _Faults:
    """Keys with which networks of other projects are described."""
    jitter, frames = "INPUT.SLOW_JITTER", "INPUT.SLOW_FRAMES"
    if values[jitter] and values[frames] != "middle":
        yield _Fault(f'{frames}: got {shown(values[frames])}, expected "middle" with {jitter} True', (jitter, frames))
    stride, scale, active = (
        "MODEL.BACKBONE.LAST_STRIDE",
        "MODEL.ROI_ACTION_HEAD.POOLER_SCALE",
        "MODEL.ROI_PERSON_HEAD.ACTIVE",
    )
    if values[stride] == 2 and values[scale] == 1 / 16:
        yield _Fault(f"{scale}: got 0.0625, expected 0.03125 (1/32) with {stride} 2", (scale, stride))
    if values[stride] == 2 and values[active]:
        yield _Fault(f"{stride}: got 2, expected 1 with {active} True", (stride, active))


def _person_head(values: _Values) -> _Faults:
    active, slow, boxes = "MODEL.ROI_PERSON_HEAD.ACTIVE", "MODEL.BACKBONE.SLOWFAST.SLOW.ACTIVE", "TEST.BOXES"
    if values[active] and not values[slow]:
        yield _Fault(
            f"{active}: got True, but persons are found on the slow pathway's map; expected {slow} True, or {active} "
            "False",
            (active, slow),
        )
    if values[boxes] == "head" and not values[active]:
        yield _Fault(
            f'{boxes}: got "head", but the network has no person head; expected {active} True (and weights that were '
            "trained with it), or another value",
            (boxes, active),
        )


def _frame_groups(values: _Values, pathway: str, frames: int) -> _Faults:
    section = f"MODEL.BACKBONE.SLOWFAST.{pathway}."
    grouped = all(values[section + name] for name in ("ACTIVE", "CONV3_NONLOCAL", "CONV3_GROUP_NL"))
    if grouped and frames % _GROUP_FRAMES:
        keys = (section + "CONV3_GROUP_NL", "INPUT.FRAME_NUM", "INPUT.TAU", "INPUT.ALPHA")
        line = f"{keys[0]}: got True, expected False: the pathway has {frames} frames, no multiple of {_GROUP_FRAMES}"
        yield _Fault(line, keys)


def _fast_width(values: _Values) -> _Faults:
    body, beta = values["MODEL.BACKBONE.CONV_BODY"], values["MODEL.BACKBONE.SLOWFAST.BETA"]
    width = BODIES[body] * beta
    if width != round(width) or width < 1:
        line = (
            f"MODEL.BACKBONE.SLOWFAST.BETA: got {beta}, which makes the fast pathway {width:g} channels wide "
            f"({BODIES[body]} of {body} times BETA), expected a whole number, 1 or more, e.g. BETA 0.125"
        )
        yield _Fault(line, ("MODEL.BACKBONE.SLOWFAST.BETA", "MODEL.BACKBONE.CONV_BODY"))


def _sizes(values: _Values) -> _Faults:
    for split in ("TRAIN", "TEST"):
        low, high = f"INPUT.MIN_SIZE_{split}", f"INPUT.MAX_SIZE_{split}"
        if values[low] > values[high]:
            yield _Fault(f"{low}: got {values[low]}, expected at most {high} ({values[high]})", (low, high))


def _interaction(values: _Values) -> _Faults:
    prefix = "MODEL.IA_STRUCTURE."
    if not values[prefix + "ACTIVE"]:
        return
    dim_in, dim_out = values[prefix + "DIM_IN"], values[prefix + "DIM_OUT"]
    width = _person_width(values)
    if dim_in != width:
        line = f"{prefix}DIM_IN: got {dim_in}, expected {width}, the feature width of the body's active pathways"
        yield _Fault(line, (prefix + "DIM_IN", "MODEL.BACKBONE.CONV_BODY", "MODEL.BACKBONE.SLOWFAST.BETA"))
    if values[prefix + "FUSION"] == "add" and dim_out != dim_in:
        line = f'{prefix}DIM_OUT: got {dim_out}, expected DIM_IN ({dim_in}) with FUSION "add" (or FUSION "concat")'
        yield _Fault(line, (prefix + "DIM_OUT", prefix + "DIM_IN", prefix + "FUSION"))
    yield from _blocks(values, prefix)


def _person_width(values: _Values) -> int:
    """Width of a person's pooled feature: the last stages of the active pathways, side by side."""
    section = "MODEL.BACKBONE.SLOWFAST."
    slow = BODIES[values["MODEL.BACKBONE.CONV_BODY"]] * _LAST_OVER_FIRST
    fast = round(slow * values[section + "BETA"])
    return slow * values[section + "SLOW.ACTIVE"] + fast * values[section + "FAST.ACTIVE"]


def _blocks(values: _Values, prefix: str) -> _Faults:
    key = prefix + "I_BLOCK_LIST"
    blocks, structure = values[key], values[prefix + "STRUCTURE"]
    got = f"{key}: got {shown(blocks)}, expected"
    layers = [block for block in blocks if isinstance(block, list)]
    letters = [letter for block in blocks for letter in (block if isinstance(block, list) else [block])]
    if not letters or not all(letter in ("P", "O", "M") for letter in letters):
        yield _Fault(f"{got} one or more of 'P' (persons), 'O' (objects), 'M' (memory)", (key,))
        return
    about = (key, prefix + "STRUCTURE")
    lengths = [len(layer) for layer in layers]
    if structure == "parallel":
        if len(layers) != len(blocks) or 0 in lengths or lengths != sorted(lengths, reverse=True):
            line = (
                f'{got} for STRUCTURE "parallel" a list of layers, none empty or longer than the one before, '
                "e.g. [['P', 'O', 'M'], ['P', 'O', 'M']]"
            )
            yield _Fault(line, about)
    elif layers:
        yield _Fault(f"{got} for STRUCTURE \"{structure}\" a flat list, e.g. ['P', 'O', 'M', 'P', 'O', 'M']", about)
    for letter, name, released in (("O", "MAX_OBJECT", 5), ("P", "MAX_PERSON", 25)):
        if letter in letters and values[prefix + name] == 0:
            line = (
                f"{prefix}{name}: got 0, but I_BLOCK_LIST has {letter} blocks; expected 1 or more (released models: "
                f"{released}), or a list without {letter}"
            )
            yield _Fault(line, (prefix + name, key))
