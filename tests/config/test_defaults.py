import ast
import copy
import pathlib
import pickle
import re

import goldens
import pytest
import yaml

import alphaction.config.defaults
import alphaction.config.model_defaults
from alphaction.config import get_cfg, load_config, validate
from alphaction.config.merge import ITEM_TYPES, leaves

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASED = sorted(goldens.record_files("configs").keys() - {"defaults"})
YAML_FILES = sorted((ROOT / "config_files").glob("*.yaml"))

OURS = {
    "MODEL.DEVICE": "auto",
    "MODEL.CONVOLUTION": "auto",
    "MODEL.ROI_ACTION_HEAD.COPY_ROWS_BY_NAME": False,
    "MODEL.IA_STRUCTURE.MEMORY_STEP": 1.0,
    "MODEL.IA_STRUCTURE.MEMORY_DTYPE": "float32",
    "MODEL.IA_STRUCTURE.MEMORY_LIMIT_MB": 0,
    "MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS": False,
    "QUIRKS.RANDOM_CHOICE_IN_TEST": False,
    "INPUT.FRAME_RATE": 25.0,
    "INPUT.TRANSFORM": "exact",
    "INPUT.SLOW_FRAMES": "middle",
    "DATASETS.ON_ERROR": "raise",
    "TEST.BOXES": "auto",
    "TEST.PRECISION": "float32",
    "TEST.IOU_THRESH": 0.5,
    "TEST.IOU_THRESHOLDS": (),
    "TEST.COCO_METRICS": False,
    "TEST.VIDEO_MAP": False,
    "TEST.PROTOCOL": "alphaction",
    "TEST.NUM_PICTURES": 12,
    "TEST.EVAL_AT_START": False,
    "TEST.EVERY_N": 1,
    "SOLVER.LOG_PERIOD": 20,
    "QUIRKS.SWAP_CLIP_SIZE": False,
    "QUIRKS.KEEP_OBJECTS_UNFLIPPED": False,
    "QUIRKS.UNLABELLED_POSE_IS_FIRST_CLASS": False,
    "QUIRKS.SHARE_EACH_PASS": False,
    "MODEL.ROI_PERSON_HEAD.ACTIVE": False,
    "MODEL.ROI_PERSON_HEAD.CHANNELS": 256,
    "MODEL.ROI_PERSON_HEAD.MLP_HEAD_DIM": 1024,
    "MODEL.ROI_PERSON_HEAD.ANCHOR_SIZES": (32.0, 64.0, 128.0, 256.0),
    "MODEL.ROI_PERSON_HEAD.ANCHOR_RATIOS": (0.5, 1.0, 2.0),
    "MODEL.ROI_PERSON_HEAD.PROPOSALS": 300,
    "MODEL.ROI_PERSON_HEAD.SAMPLES": 128,
    "MODEL.ROI_PERSON_HEAD.NMS_THRESH": 0.5,
    "MODEL.ROI_PERSON_HEAD.MAX_PERSONS": 20,
    "MODEL.ROI_PERSON_HEAD.OBJECTNESS_LOSS_WEIGHT": 1.0,
    "MODEL.ROI_PERSON_HEAD.RPN_BOX_LOSS_WEIGHT": 1.0,
    "MODEL.ROI_PERSON_HEAD.PERSON_LOSS_WEIGHT": 1.0,
    "MODEL.ROI_PERSON_HEAD.PERSON_BOX_LOSS_WEIGHT": 1.0,
    "MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS": (),
    "MODEL.ROI_ACTION_HEAD.CLASS_BALANCE": 0.0,
    "MODEL.ROI_ACTION_HEAD.POOLER_ALIGNED": False,
    "MODEL.BACKBONE.STEM_POOL_PADDING": 0,
    "MODEL.BACKBONE.LAST_STRIDE": 1,
    "MODEL.BACKBONE.LAST_DILATION": 2,
    "MODEL.BACKBONE.CONV4_TEMPORAL_BLOCKS": 0,
    "MODEL.BACKBONE.SLOWFAST.LATERAL_KERNEL": 5,
    "MODEL.BACKBONE.SLOWFAST.LATERAL_BIAS": True,
    "MODEL.BACKBONE.SLOWFAST.LATERAL_NORM": False,
    "MODEL.BACKBONE.SLOWFAST.LATERAL_RELU": False,
    "MODEL.NONLOCAL.POOL_FRAMES": 1,
    "MODEL.BACKBONE.SYNC_BN": False,
    "MODEL.BACKBONE.ACTIVATION_CHECKPOINTING": False,
    "DATALOADER.REPEAT_THRESHOLD": 0.0,
    "SOLVER.ACCUMULATION_STEPS": 1,
    "SOLVER.AUTO_SCALE": False,
    "SOLVER.REFERENCE_BATCH": 0,
    "SOLVER.OPTIMIZER": "sgd",
    "SOLVER.ADAMW_BETAS": (0.9, 0.999),
    "SOLVER.PRECISION": "float32",
    "SOLVER.MAX_GRAD_NORM": 0.0,
    "SOLVER.ON_NONFINITE": "raise",
    "SOLVER.EMA_DECAY": 0.0,
    "SOLVER.EARLY_STOP_PATIENCE": 0,
    "SOLVER.KEEP_CHECKPOINTS": 0,
    "SOLVER.KEEP_BEST": False,
    "DISTRIBUTED.BACKEND": "auto",
    "DISTRIBUTED.TIMEOUT": 1800.0,
    "DISTRIBUTED.DEAD_AFTER": 30.0,
}


def flat(tree, prefix=""):
    out = {}
    for name, value in tree.items():
        out.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return out


def plain(value):
    """As json holds it."""
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def recorded_defaults():
    return flat(goldens.config_record("defaults"))


def test_every_key_of_the_original_has_its_default():
    ours = {key: plain(value) for key, value in leaves(get_cfg())}
    recorded = recorded_defaults()
    assert {key: ours.get(key, "missing") for key in recorded} == recorded
    for key, value in recorded.items():
        assert type(ours[key]) is type(value), key  # yacs' own merging insists on the type


def test_the_other_keys_are_the_ones_we_say():
    ours = dict(leaves(get_cfg()))
    assert {key: ours[key] for key in ours.keys() - recorded_defaults().keys()} == OURS


def test_sequences_have_a_known_item_type_and_shape():
    sequences = {key: type(value) for key, value in leaves(get_cfg()) if isinstance(value, (tuple, list))}
    assert sequences.keys() == ITEM_TYPES.keys()
    assert {key for key, kind in sequences.items() if kind is tuple} == {
        "MODEL.IA_STRUCTURE.LENGTH",
        "DATASETS.TRAIN",
        "DATASETS.TEST",
        "MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS",
        "MODEL.ROI_PERSON_HEAD.ANCHOR_SIZES",
        "MODEL.ROI_PERSON_HEAD.ANCHOR_RATIOS",
        "SOLVER.STEPS",
        "SOLVER.ADAMW_BETAS",
        "TEST.EXTEND_SCALE",
        "TEST.IOU_THRESHOLDS",
    }


def test_each_tree_is_its_own():
    first, second = get_cfg(), get_cfg()
    assert first == second
    first.INPUT.PIXEL_MEAN[0] = -1.0
    first.MODEL.IA_STRUCTURE.I_BLOCK_LIST.append("P")
    first.SOLVER.BASE_LR = 7.0
    first.freeze()
    assert second == get_cfg() != first
    assert not second.is_frozen() and not get_cfg().is_frozen()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda cfg: pickle.loads(pickle.dumps(cfg)), lambda cfg: cfg.clone()]
)
def test_a_tree_can_be_copied(copied):
    cfg = get_cfg()
    cfg.freeze()
    other = copied(cfg)
    assert other == cfg and other is not cfg and other.is_frozen()


def test_every_key_is_commented():
    """The line before a key, or before the run of keys it stands in, is a comment."""
    files = (alphaction.config.defaults.__file__, alphaction.config.model_defaults.__file__)
    lines = [line for file in files for line in pathlib.Path(file).read_text().splitlines()]
    commented = False
    for line in lines:
        if line.startswith("#"):
            commented = True
        elif not line.strip():
            commented = False
        elif re.match(r"(_C|MODEL)\.\S+ = (?!CN\(\)|MODEL$)", line):
            assert commented or "I3D" in line or "SLOWFAST.FAST" in line, line


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_config_sets_what_was_recorded(name):
    recorded = goldens.config_record(name)
    path = ROOT / "config_files" / f"{name}.yaml"
    assert flat(yaml.safe_load(path.read_text())) == recorded

    expected = recorded_defaults() | {key: plain(value) for key, value in OURS.items()}
    for key, value in recorded.items():
        # Text that spells a tuple or a number means that (QUIRKS 107).
        means_more = isinstance(value, str) and re.fullmatch(r"\(.*\)|[\d.]+e-?\d+", value)
        expected[key] = plain(ast.literal_eval(value)) if means_more else value
    assert {key: plain(value) for key, value in leaves(load_config(path))} == expected


def test_all_released_configs_are_there():
    assert set(RELEASED) <= {path.stem for path in YAML_FILES}


@pytest.mark.parametrize("path", YAML_FILES, ids=[path.stem for path in YAML_FILES])
def test_every_yaml_loads_and_validates(path):
    first, second = load_config(path), load_config(path)
    validate(first)
    assert first == second
    first.INPUT.PIXEL_MEAN.append(0.0)
    first.MODEL.WEIGHT = "changed"
    assert second == load_config(path)


@pytest.mark.parametrize("path", YAML_FILES, ids=[path.stem for path in YAML_FILES])
def test_the_dumped_config_loads_to_the_same(path, tmp_path):
    cfg = load_config(path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(tmp_path / "config.yaml")
    assert again == cfg
    assert [type(value) for _, value in leaves(again)] == [type(value) for _, value in leaves(cfg)]


def test_the_defaults_validate():
    validate(get_cfg())
