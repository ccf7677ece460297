import pytest

from alphaction.config import get_cfg, validate
from alphaction.config.merge import leaves
from alphaction.config.rules import BODIES, FREE_KEYS, RULES
from alphaction.errors import ConfigError

HEAD = "MODEL.ROI_ACTION_HEAD."
PERSONS = "MODEL.ROI_PERSON_HEAD."
IA = "MODEL.IA_STRUCTURE."
SLOWFAST = "MODEL.BACKBONE.SLOWFAST."
INTERACTION = [IA + "ACTIVE", True, IA + "MAX_OBJECT", 5]


def configured(*opts):
    cfg = get_cfg()
    cfg.merge_from_list(list(opts))
    return cfg


def faults(*opts, **options):
    with pytest.raises(ConfigError) as caught:
        validate(configured(*opts), **options)
    message = str(caught.value)
    assert message.startswith("configuration: ")
    return message.removeprefix("configuration: ")


def test_every_key_has_been_thought_about():
    keys = {key for key, value in leaves(get_cfg()) if not isinstance(value, bool)}
    assert keys == RULES.keys() | FREE_KEYS and not RULES.keys() & FREE_KEYS


# One row per rule at least: key, a value that is refused, what the message says after "expected".
REFUSED = [
    ("MODEL.DEVICE", "gpu", "auto, cpu, cuda, or cuda:N"),
    (HEAD + "FEATURE_EXTRACTOR", "3MLP", 'one of "2MLPFeatureExtractor", "MaxpoolFeatureExtractor"'),
    (HEAD + "POOLER_TYPE", "align2d", 'one of "align3d", "pooling3d"'),
    (HEAD + "POOLER_RESOLUTION", 0, "1 or more"),
    (HEAD + "POOLER_SCALE", 16.0, "above 0 and at most 1"),
    (HEAD + "POOLER_SAMPLING_RATIO", -1, "0 or more"),
    (HEAD + "MLP_HEAD_DIM", 0, "1 or more"),
    (HEAD + "PREDICTOR", "Linear", 'one of "FCPredictor"'),
    (HEAD + "DROPOUT_RATE", 1.0, "0 or more and below 1"),
    (HEAD + "DROPOUT_RATE", float("nan"), "0 or more and below 1"),
    (HEAD + "NUM_CLASSES", -1, "1 or more, or 0 (as many as the data set has)"),
    (HEAD + "PROPOSAL_PER_CLIP", 0, "1 or more"),
    (HEAD + "NUM_PERSON_MOVEMENT_CLASSES", -1, "0 or more"),
    (HEAD + "NUM_OBJECT_MANIPULATION_CLASSES", -1, "0 or more"),
    (HEAD + "NUM_PERSON_INTERACTION_CLASSES", -1, "0 or more"),
    (HEAD + "POSE_LOSS_WEIGHT", -0.1, "0 or more"),
    (HEAD + "OBJECT_LOSS_WEIGHT", float("inf"), "0 or more"),
    (HEAD + "PERSON_LOSS_WEIGHT", float("nan"), "0 or more"),
    (HEAD + "FOCAL_LOSS.GAMMA", -1.0, "0 or more"),
    (HEAD + "FOCAL_LOSS.ALPHA", 1.1, "0 to 1, or -1 (off)"),
    ("MODEL.BACKBONE.CONV_BODY", "Slowfast-Resnet18", 'one of "Slowfast-Resnet50", "Slowfast-Resnet101", "Slowfast-T'),
    ("MODEL.BACKBONE.CONV_BODY", "I3D-Resnet50-Sparse", "(the I3D bodies are known but not available yet)"),
    ("MODEL.BACKBONE.BN_MOMENTUM", 1.5, "0 to 1"),
    ("MODEL.BACKBONE.BN_EPSILON", 0.0, "above 0"),
    ("MODEL.BACKBONE.STEM_POOL_PADDING", 2, "0 or 1"),
    ("MODEL.BACKBONE.LAST_STRIDE", 0, "1 or 2"),
    ("MODEL.BACKBONE.LAST_DILATION", 3, "1 or 2"),
    ("MODEL.BACKBONE.CONV4_TEMPORAL_BLOCKS", -1, "0 or more"),
    ("MODEL.BACKBONE.SLOWFAST.LATERAL_KERNEL", 4, "an odd number, 1 or more"),
    ("MODEL.NONLOCAL.POOL_FRAMES", 3, "1 or 2"),
    ("MODEL.BACKBONE.BN_INIT_GAMMA", float("inf"), "a finite number"),
    (SLOWFAST + "BETA", 0.0, "above 0 and at most 1"),
    (SLOWFAST + "BETA", float("nan"), "above 0 and at most 1"),
    (SLOWFAST + "LATERAL", "concat", 'one of "tconv"'),
    ("MODEL.NONLOCAL.CONV_INIT_STD", -1.0, "0 or more"),
    ("MODEL.NONLOCAL.BN_MOMENTUM", -0.1, "0 to 1"),
    ("MODEL.NONLOCAL.BN_EPSILON", -1.0, "above 0"),
    ("MODEL.NONLOCAL.BN_INIT_GAMMA", float("nan"), "a finite number"),
    (IA + "STRUCTURE", "denseserial", 'one of "serial", "dense", "parallel"'),
    (IA + "MAX_PER_SEC", 0, "1 or more"),
    (IA + "MAX_PERSON", -1, "0 or more"),
    (IA + "MAX_OBJECT", -1, "0 or more"),
    (IA + "DIM_IN", 0, "1 or more"),
    (IA + "DIM_INNER", 0, "1 or more"),
    (IA + "DIM_OUT", 0, "1 or more"),
    (IA + "LENGTH", (30,), "2 values, each 0 or more"),
    (IA + "LENGTH", (30, -1), "2 values, each 0 or more"),
    (IA + "MEMORY_RATE", 0, "1 or more"),
    (IA + "MEMORY_STEP", 0.0, "above 0"),
    (IA + "MEMORY_DTYPE", "bfloat16", 'one of "float32", "float16"'),
    (IA + "MEMORY_LIMIT_MB", -1, "1 or more, or 0 (no bound)"),
    (IA + "FUSION", "sum", 'one of "concat", "add"'),
    (IA + "CONV_INIT_STD", -0.01, "0 or more"),
    (IA + "DROPOUT", -0.1, "0 or more and below 1"),
    ("INPUT.MIN_SIZE_TRAIN", 0, "1 or more"),
    ("INPUT.MAX_SIZE_TRAIN", 0, "1 or more"),
    ("INPUT.MIN_SIZE_TEST", -5, "1 or more"),
    ("INPUT.MAX_SIZE_TEST", 0, "1 or more"),
    ("INPUT.PIXEL_MEAN", [1.0], "3 values, each a finite number"),
    ("INPUT.PIXEL_STD", [1.0, 0.0, 1.0], "3 values, each above 0"),
    ("INPUT.FRAME_NUM", 0, "1 or more"),
    ("INPUT.FRAME_SAMPLE_RATE", 0, "1 or more"),
    ("INPUT.FRAME_RATE", -25.0, "above 0, or 0 (count the video's own frames)"),
    ("INPUT.TAU", 0, "1 or more"),
    ("INPUT.ALPHA", 0, "1 or more"),
    ("INPUT.HUE_JITTER", 181.0, "0 to 180"),
    ("INPUT.SAT_JITTER", 2.0, "0 to 1"),
    ("INPUT.VAL_JITTER", -0.1, "0 to 1"),
    ("DATASETS.TRAIN", ("a", " "), "names that are not empty"),
    ("DATASETS.TEST", ("",), "names that are not empty"),
    ("INPUT.SLOW_FRAMES", "last", 'one of "middle", "first", "spread"'),
    ("INPUT.TRANSFORM", "gpu", 'one of "exact", "device"'),
    ("DATASETS.ON_ERROR", "ignore", 'one of "raise", "skip"'),
    ("DATALOADER.NUM_WORKERS", -1, "0 or more"),
    ("DATALOADER.SIZE_DIVISIBILITY", -16, "0 or more"),
    ("SOLVER.MAX_ITER", 0, "1 or more"),
    ("SOLVER.BASE_LR", 0.0, "above 0"),
    ("SOLVER.BASE_LR", float("nan"), "above 0"),
    ("SOLVER.BIAS_LR_FACTOR", -1, "0 or more"),
    ("SOLVER.IA_LR_FACTOR", -1.0, "0 or more"),
    ("SOLVER.MOMENTUM", 1.0, "0 or more and below 1"),
    ("SOLVER.WEIGHT_DECAY", -1.0, "0 or more"),
    ("SOLVER.WEIGHT_DECAY_BIAS", -1.0, "0 or more"),
    ("SOLVER.WEIGHT_DECAY_BN", -1.0, "0 or more"),
    ("SOLVER.SCHEDULER", "cosine", 'one of "warmup_multi_step", "half_period_cosine"'),
    ("SOLVER.GAMMA", 0.0, "above 0"),
    ("SOLVER.STEPS", (3, 2), "iterations above 0 in ascending order"),
    ("SOLVER.STEPS", (0, 2), "iterations above 0 in ascending order"),
    ("SOLVER.WARMUP_FACTOR", 2.0, "0 to 1"),
    ("SOLVER.WARMUP_ITERS", -1, "0 or more"),
    ("SOLVER.WARMUP_METHOD", "cubic", 'one of "linear", "constant"'),
    ("SOLVER.CHECKPOINT_PERIOD", 0, "1 or more"),
    ("SOLVER.EVAL_PERIOD", 0, "1 or more"),
    ("SOLVER.LOG_PERIOD", 0, "1 or more"),
    ("SOLVER.VIDEOS_PER_BATCH", 0, "1 or more"),
    ("TEST.VIDEOS_PER_BATCH", 0, "1 or more"),
    ("TEST.EXTEND_SCALE", (0.1,), "2 values, each 0 or more"),
    ("TEST.BOX_THRESH", 80.0, "0 to 1"),
    ("TEST.ACTION_THRESH", -0.5, "0 to 1"),
    ("TEST.BOXES", "gt", 'one of "auto", "detected", "head", "ground_truth", "both"'),
    ("TEST.IOU_THRESH", 0.0, "above 0 and at most 1"),
    ("TEST.IOU_THRESHOLDS", (0.5, 1.5), "numbers, each above 0 and at most 1"),
    ("TEST.PROTOCOL", "ava", 'one of "alphaction", "activitynet"'),
    ("TEST.NUM_PICTURES", -1, "0 or more"),
    ("TEST.EVERY_N", 0, "1 or more"),
    ("TEST.PRECISION", "half", 'one of "float32", "bfloat16", "float16"'),
    ("MODEL.CONVOLUTION", "fast", 'one of "auto", "plain"'),
    (HEAD + "CLASS_WEIGHTS", (1.0, -1.0), "numbers, each 0 or more"),
    (PERSONS + "CHANNELS", 0, "1 or more"),
    (PERSONS + "MLP_HEAD_DIM", 0, "1 or more"),
    (PERSONS + "ANCHOR_SIZES", (), "one number above 0 or more"),
    (PERSONS + "ANCHOR_RATIOS", (1.0, 0.0), "one number above 0 or more"),
    (PERSONS + "PROPOSALS", 0, "1 or more"),
    (PERSONS + "SAMPLES", 0, "1 or more"),
    (PERSONS + "NMS_THRESH", 1.5, "0 to 1"),
    (PERSONS + "MAX_PERSONS", 0, "1 or more"),
    (PERSONS + "OBJECTNESS_LOSS_WEIGHT", -1.0, "0 or more"),
    (PERSONS + "RPN_BOX_LOSS_WEIGHT", -1.0, "0 or more"),
    (PERSONS + "PERSON_LOSS_WEIGHT", -1.0, "0 or more"),
    (PERSONS + "PERSON_BOX_LOSS_WEIGHT", -1.0, "0 or more"),
    (HEAD + "CLASS_BALANCE", 1.5, "0 to 1"),
    ("DATALOADER.REPEAT_THRESHOLD", -0.1, "0 to 1"),
    ("SOLVER.ACCUMULATION_STEPS", 0, "1 or more"),
    ("SOLVER.REFERENCE_BATCH", -1, "1 or more, or 0 (that of the configuration file)"),
    ("SOLVER.OPTIMIZER", "adam", 'one of "sgd", "adamw"'),
    ("SOLVER.ADAMW_BETAS", (0.9, 1.0), "2 values, each 0 or more and below 1"),
    ("SOLVER.PRECISION", "fp16", 'one of "float32", "bfloat16", "float16"'),
    ("SOLVER.MAX_GRAD_NORM", -1.0, "above 0, or 0 (off)"),
    ("SOLVER.ON_NONFINITE", "ignore", 'one of "raise", "skip"'),
    ("SOLVER.EMA_DECAY", 1.0, "0 or more and below 1"),
    ("SOLVER.EARLY_STOP_PATIENCE", -1, "1 or more, or 0 (never)"),
    ("SOLVER.KEEP_CHECKPOINTS", -1, "1 or more, or 0 (all)"),
    ("DISTRIBUTED.BACKEND", "mpi", 'one of "auto", "nccl", "gloo"'),
    ("DISTRIBUTED.TIMEOUT", 0.0, "above 0"),
    ("DISTRIBUTED.DEAD_AFTER", -1.0, "above 0"),
    ("OUTPUT_DIR", " ", 'a folder ("." is the working directory)'),
]


@pytest.mark.parametrize(("key", "value", "allowed"), REFUSED)
def test_a_value_out_of_range_is_named_with_what_is_allowed(key, value, allowed):
    message = faults(key, value)
    assert "\n" not in message  # one fault, nothing that only follows from it
    assert message.startswith(f"{key}: got {value!r}, expected ") or key == "SOLVER.BIAS_LR_FACTOR"
    assert allowed in message


def test_each_rule_is_seen_to_refuse_something():
    assert {key for key, _, _ in REFUSED} == RULES.keys()


ACCEPTED = {
    "no steps": ["SOLVER.STEPS", ()],
    "steps past the end": ["SOLVER.MAX_ITER", 100],
    "same step twice": ["SOLVER.STEPS", (5, 5)],
    "extractor of the released configs": [HEAD + "FEATURE_EXTRACTOR", "2MLPFeatureExtractor"],
    "number of classes from the data": [HEAD + "NUM_CLASSES", 0],
    "one group of other classes": [HEAD + "NUM_CLASSES", 8],
    "more classes than AVA": [HEAD + "NUM_CLASSES", 200],
    "own groups": [
        *[HEAD + "NUM_CLASSES", 15, HEAD + "NUM_PERSON_MOVEMENT_CLASSES", 6],
        *[HEAD + "NUM_OBJECT_MANIPULATION_CLASSES", 5, HEAD + "NUM_PERSON_INTERACTION_CLASSES", 4],
    ],
    "a group left out": [
        *[HEAD + "NUM_CLASSES", 6, HEAD + "NUM_PERSON_MOVEMENT_CLASSES", 6],
        *[HEAD + "NUM_OBJECT_MANIPULATION_CLASSES", 0, HEAD + "NUM_PERSON_INTERACTION_CLASSES", 0],
    ],
    "slow only": [SLOWFAST + "FAST.ACTIVE", False, "INPUT.ALPHA", 3],
    "fast only": [SLOWFAST + "SLOW.ACTIVE", False],
    "tiny": ["MODEL.BACKBONE.CONV_BODY", "Slowfast-Tiny", SLOWFAST + "BETA", 0.25],
    "the video's own frames": ["INPUT.FRAME_RATE", 0],
    "interaction, concatenated": INTERACTION,
    "interaction, added": [*INTERACTION, IA + "FUSION", "add", IA + "DIM_OUT", 2304],
    "interaction, parallel": [
        *INTERACTION,
        *[IA + "STRUCTURE", "parallel", IA + "I_BLOCK_LIST", [["P", "O", "M"], ["P", "O"], ["M"]]],
    ],
    "interaction without objects": [IA + "ACTIVE", True, IA + "I_BLOCK_LIST", ["P", "M"]],
    "interaction without persons": [*INTERACTION, IA + "MAX_PERSON", 0, IA + "I_BLOCK_LIST", ["O"]],
    "interaction on the slow pathway": [*INTERACTION, SLOWFAST + "FAST.ACTIVE", False, IA + "DIM_IN", 2048],
    "interaction on the fast pathway": [*INTERACTION, SLOWFAST + "SLOW.ACTIVE", False, IA + "DIM_IN", 256],
    "interaction on tiny": [*INTERACTION, "MODEL.BACKBONE.CONV_BODY", "Slowfast-Tiny", IA + "DIM_IN", 576],
    "an unused interaction list": [IA + "I_BLOCK_LIST", ["X"]],
    "persons of the network's own": [PERSONS + "ACTIVE", True, "TEST.BOXES", "head"],
    "no padding": ["DATALOADER.SIZE_DIVISIBILITY", 0],
    "everything through threshold 0": ["TEST.BOX_THRESH", 0, "TEST.ACTION_THRESH", 0],
}


@pytest.mark.parametrize("opts", ACCEPTED.values(), ids=ACCEPTED)
def test_what_makes_sense_is_accepted(opts):
    cfg = configured(*opts)
    before = cfg.clone()
    validate(cfg)
    assert cfg == before


# Keys against each other: options -> the whole line, or its beginning.
CONTRADICTIONS = {
    "groups": (
        [HEAD + "NUM_CLASSES", 12, HEAD + "NUM_PERSON_MOVEMENT_CLASSES", 3],
        "MODEL.ROI_ACTION_HEAD.NUM_CLASSES: got 12, but the groups have 69 classes (NUM_PERSON_MOVEMENT_CLASSES 3, "
        "NUM_OBJECT_MANIPULATION_CLASSES 49, NUM_PERSON_INTERACTION_CLASSES 17); expected groups that add up to "
        "NUM_CLASSES, or left at 14, 49, 17 to put all classes into one group",
    ),
    "80 classes in other groups": (
        [HEAD + "NUM_OBJECT_MANIPULATION_CLASSES", 48],
        "MODEL.ROI_ACTION_HEAD.NUM_CLASSES: got 80, but the groups have 79 classes",
    ),
    "no pathway": (
        [SLOWFAST + "SLOW.ACTIVE", False, SLOWFAST + "FAST.ACTIVE", False],
        "MODEL.BACKBONE.SLOWFAST.SLOW.ACTIVE: got False, as is MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE; expected at",
    ),
    "persons without a slow pathway": (
        [PERSONS + "ACTIVE", True, SLOWFAST + "SLOW.ACTIVE", False],
        "MODEL.ROI_PERSON_HEAD.ACTIVE: got True, but persons are found on the slow pathway's map; expected MODEL.",
    ),
    "persons of a head that is not there": (
        ["TEST.BOXES", "head"],
        'TEST.BOXES: got "head", but the network has no person head; expected MODEL.ROI_PERSON_HEAD.ACTIVE True',
    ),
    "frames": (["INPUT.FRAME_NUM", 60], "INPUT.FRAME_NUM: got 60, expected a multiple of INPUT.TAU (8)"),
    "alpha": (["INPUT.ALPHA", 3], "INPUT.TAU: got 8, expected a multiple of INPUT.ALPHA (3)"),
    "groups of four frames": (
        ["INPUT.FRAME_NUM", 48, SLOWFAST + "SLOW.CONV3_GROUP_NL", True],
        "MODEL.BACKBONE.SLOWFAST.SLOW.CONV3_GROUP_NL: got True, expected False: the pathway has 6 frames, no multiple",
    ),
    "shifted slow frames": (
        ["INPUT.SLOW_JITTER", True, "INPUT.SLOW_FRAMES", "spread"],
        "INPUT.SLOW_FRAMES: got 'spread', expected \"middle\" with INPUT.SLOW_JITTER True",
    ),
    "scale of a coarser map": (
        ["MODEL.BACKBONE.LAST_STRIDE", 2],
        "MODEL.ROI_ACTION_HEAD.POOLER_SCALE: got 0.0625, expected 0.03125 (1/32) with MODEL.BACKBONE.LAST_STRIDE 2",
    ),
    "persons on a coarser map": (
        [PERSONS + "ACTIVE", True, "MODEL.BACKBONE.LAST_STRIDE", 2, HEAD + "POOLER_SCALE", 1 / 32],
        "MODEL.BACKBONE.LAST_STRIDE: got 2, expected 1 with MODEL.ROI_PERSON_HEAD.ACTIVE True",
    ),
    "alpha over tau": (["INPUT.ALPHA", 16], "INPUT.TAU: got 8, expected a multiple of INPUT.ALPHA (16)"),
    "beta": (
        [SLOWFAST + "BETA", 0.3],
        "MODEL.BACKBONE.SLOWFAST.BETA: got 0.3, which makes the fast pathway 19.2 channels wide (64 of Slo",
    ),
    "training size": (
        ["INPUT.MIN_SIZE_TRAIN", 512],
        "INPUT.MIN_SIZE_TRAIN: got 512, expected at most INPUT.MAX_SIZE_TRAIN (464)",
    ),
    "testing size": (
        ["INPUT.MAX_SIZE_TEST", 128],
        "INPUT.MIN_SIZE_TEST: got 256, expected at most INPUT.MAX_SIZE_TEST (128)",
    ),
    "objects": (
        [IA + "ACTIVE", True],
        "MODEL.IA_STRUCTURE.MAX_OBJECT: got 0, but I_BLOCK_LIST has O blocks; expected 1 or",
    ),
    "persons": (
        [*INTERACTION, IA + "MAX_PERSON", 0],
        "MODEL.IA_STRUCTURE.MAX_PERSON: got 0, but I_BLOCK_LIST has P blocks",
    ),
    "fusion": (
        [*INTERACTION, IA + "FUSION", "add"],
        'MODEL.IA_STRUCTURE.DIM_OUT: got 512, expected DIM_IN (2304) with FUSION "add" (or FUSION "concat")',
    ),
    "width": (
        [*INTERACTION, SLOWFAST + "FAST.ACTIVE", False],
        "MODEL.IA_STRUCTURE.DIM_IN: got 2304, expected 2048, the feature width of the body's active pathways",
    ),
    "letter": (
        [*INTERACTION, IA + "I_BLOCK_LIST", ["P", "X"]],
        "MODEL.IA_STRUCTURE.I_BLOCK_LIST: got ['P', 'X'], expected one or more of 'P' (persons), 'O' (objects), 'M' (",
    ),
    "no block": (
        [*INTERACTION, IA + "I_BLOCK_LIST", []],
        "MODEL.IA_STRUCTURE.I_BLOCK_LIST: got [], expected one or more of",
    ),
    "nested": (
        [*INTERACTION, IA + "STRUCTURE", "dense", IA + "I_BLOCK_LIST", [["P"], ["M"]]],
        "MODEL.IA_STRUCTURE.I_BLOCK_LIST: got [['P'], ['M']], expected for STRUCTURE \"dense\" a flat list",
    ),
    "flat": (
        [*INTERACTION, IA + "STRUCTURE", "parallel"],
        "MODEL.IA_STRUCTURE.I_BLOCK_LIST: got ['P', 'O', 'M', 'P', 'O', 'M'], expected for",
    ),
    "half nested": (
        [*INTERACTION, IA + "STRUCTURE", "parallel", IA + "I_BLOCK_LIST", [["P"], "M"]],
        "MODEL.IA_STRUCTURE.I_BLOCK_LIST: got [['P'], 'M'], expected for STRUCTURE \"parallel\" a list",
    ),
    "growing layers": (
        [*INTERACTION, IA + "STRUCTURE", "parallel", IA + "I_BLOCK_LIST", [["P"], ["M", "O"]]],
        "MODEL.IA_STRUCTURE.I_BLOCK_LIST: got [['P'], ['M', 'O']], expected for STRUCTURE \"parallel\" a list",
    ),
    "empty layer": (
        [*INTERACTION, IA + "STRUCTURE", "parallel", IA + "I_BLOCK_LIST", [["P"], []]],
        "MODEL.IA_STRUCTURE.I_BLOCK_LIST: got [['P'], []], expected for STRUCTURE \"parallel\" a list",
    ),
}


@pytest.mark.parametrize(("opts", "line"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions(opts, line):
    message = faults(*opts)
    assert message.startswith(line) and "\n" not in message


def test_batches_are_shared_evenly():
    validate(get_cfg(), world_size=8)
    assert faults("SOLVER.VIDEOS_PER_BATCH", 2, world_size=4).splitlines() == [
        "SOLVER.VIDEOS_PER_BATCH: got 2, expected a multiple of 4, the number of processes"
    ]
    assert "TEST.VIDEOS_PER_BATCH: got 16, expected a multiple of 3" in faults(world_size=3)


def test_each_part_of_a_batch_has_a_clip():
    steps = ["SOLVER.VIDEOS_PER_BATCH", 12, "SOLVER.ACCUMULATION_STEPS", 4]
    cfg = get_cfg()
    cfg.merge_from_list(["TEST.VIDEOS_PER_BATCH", 12, *steps])
    for world_size in (1, 2, 3):
        validate(cfg, world_size=world_size)
    assert faults("TEST.VIDEOS_PER_BATCH", 12, *steps, world_size=6) == (
        "SOLVER.ACCUMULATION_STEPS: got 4, expected at most 2, the clips of a batch that each process has "
        "(SOLVER.VIDEOS_PER_BATCH 12, processes: 6)"
    )
    assert faults("SOLVER.VIDEOS_PER_BATCH", 1, "SOLVER.ACCUMULATION_STEPS", 2).startswith(
        "SOLVER.ACCUMULATION_STEPS: got 2, expected at most 1, the clip of a batch"
    )


def test_all_faults_are_told_at_once():
    lines = faults(
        *["SOLVER.BASE_LR", -1, "TEST.BOXES", "all", "INPUT.ALPHA", 3, IA + "ACTIVE", True, HEAD + "NUM_CLASSES", -3]
    ).splitlines()
    assert lines[0] == "5 faults"
    assert sorted(line.strip().partition(":")[0] for line in lines[1:]) == [
        "INPUT.TAU",
        "MODEL.IA_STRUCTURE.MAX_OBJECT",
        "MODEL.ROI_ACTION_HEAD.NUM_CLASSES",
        "SOLVER.BASE_LR",
        "TEST.BOXES",
    ]


def test_values_set_by_a_program_are_checked_for_their_type():
    cfg = get_cfg()
    cfg.SOLVER.WEIGHT_DECAY = "1e-7"  # past the merging, which would have read the number
    cfg.SOLVER.MAX_ITER = None
    cfg.INPUT.PIXEL_STD = (1, 2, 3)  # integers and a tuple will do
    cfg.INPUT.FRAME_NUMBER = 3
    del cfg.TEST["BOXES"]
    with pytest.raises(ConfigError) as caught:
        validate(cfg)
    assert [line.strip() for line in str(caught.value).splitlines()] == [
        "configuration: 4 faults",
        "INPUT.FRAME_NUMBER: unknown key; the nearest one is INPUT.FRAME_NUM",
        "SOLVER.MAX_ITER: got None, expected an integer",
        "SOLVER.WEIGHT_DECAY: got '1e-7' (text), expected a float",
        "TEST.BOXES: is missing, expected a value (default 'auto')",
    ]


def test_the_bodies_are_those_that_the_model_builds():
    slowfast = pytest.importorskip("alphaction.modeling.slowfast")
    assert {name: body.width for name, body in slowfast.BODIES.items()} == BODIES
