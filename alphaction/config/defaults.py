"""Every configuration key with its default, its meaning, its unit and the values it may have.

The keys and defaults of the original AlphAction are all here, so that its YAML files work unchanged; keys that are ours
say so. `validate` refuses values outside what is written here. A value in `[a, b]` may be a or b, in `(a, b)` not.
"""

from __future__ import annotations

from alphaction.config.merge import Config as CN
from alphaction.config.model_defaults import MODEL

_C = CN()

# The network; its keys stand in model_defaults.py.
_C.MODEL = MODEL

# ----------------------------------------------------------------------------------------------------------- input
_C.INPUT = CN()
# Clips are resized to this short side, in pixels, unless the long side then exceeds MAX_SIZE; MIN_SIZE <= MAX_SIZE.
_C.INPUT.MIN_SIZE_TRAIN = 256
_C.INPUT.MAX_SIZE_TRAIN = 464
_C.INPUT.MIN_SIZE_TEST = 256
_C.INPUT.MAX_SIZE_TEST = 464
# Mean and standard deviation that pixels are normalised with, per channel red, green, blue, on the scale 0 to 255.
_C.INPUT.PIXEL_MEAN = [122.7717, 115.9465, 102.9801]
_C.INPUT.PIXEL_STD = [57.375, 57.375, 57.375]
# True: channels in the order blue, green, red. Mean and standard deviation are applied in the order written above.
_C.INPUT.TO_BGR = False
# Frames of the window around a keyframe: FRAME_NUM frames, FRAME_SAMPLE_RATE apart; both at least 1.
_C.INPUT.FRAME_NUM = 32
_C.INPUT.FRAME_SAMPLE_RATE = 2
# Ours. Frames per second of time at which the window is laid, whatever the video's own rate; above 0.
# 0 = count the video's own frames by their index, as the original does.
_C.INPUT.FRAME_RATE = 25.0
# The slow pathway takes every TAU-th frame of the window; FRAME_NUM is a multiple of TAU.
_C.INPUT.TAU = 8
# The fast pathway takes ALPHA times as many, every TAU / ALPHA-th; TAU is a multiple of ALPHA.
_C.INPUT.ALPHA = 8
# Ours. Which of each TAU sampled frames is the slow one: "middle" (the original), "first" (mmaction2), or "spread":
# evenly from the first sampled frame to the last (PySlowFast, PyTorchVideo). With SLOW_JITTER "middle" only.
_C.INPUT.SLOW_FRAMES = "middle"
# Training: True shifts the slow pathway's frames at random within TAU.
_C.INPUT.SLOW_JITTER = False
# Training: True changes hue, saturation and brightness at random, one draw per clip.
_C.INPUT.COLOR_JITTER = False
# Range of the hue to each side, in degrees of the colour circle; in [0, 180].
_C.INPUT.HUE_JITTER = 20.0
# Range of saturation and brightness to each side, as a share of 255; in [0, 1].
_C.INPUT.SAT_JITTER = 0.1
_C.INPUT.VAL_JITTER = 0.1
# Ours. Who makes the network's pixels of decoded frames: "exact" (the readers, by 8-bit steps as the released weights
# were trained) or "device" (the readers only decode; resizing, colours and mirroring are computed where the model is).
_C.INPUT.TRANSFORM = "exact"

# ------------------------------------------------------------------------------------------------------------ data
_C.DATASETS = CN()
# Names from alphaction/config/paths_catalog.py, or "path/to/dataset.yaml:split". Several are trained as one.
_C.DATASETS.TRAIN = ()
# Each is tested on its own.
_C.DATASETS.TEST = ()
# Ours. A video that is missing, empty or cannot be decoded: "raise" stops with its name, "skip" leaves its clips out.
_C.DATASETS.ON_ERROR = "raise"

_C.DATALOADER = CN()
# Processes that read clips, for each training process; 0 = it reads them itself. Changes the speed, no result.
_C.DATALOADER.NUM_WORKERS = 4
# Height and width of a batch are padded to a multiple of this, in pixels; 0 = only to the largest clip.
_C.DATALOADER.SIZE_DIVISIBILITY = 16
# Training: True puts clips higher than wide into batches of their own, which saves padding.
_C.DATALOADER.ASPECT_RATIO_GROUPING = True
# Ours. Training clips with rare classes come several times per pass: a class that is in a share f of the clips repeats
# its clips root(REPEAT_THRESHOLD / f) times, a clip by its rarest class; at least once. In [0, 1]; 0 = every clip once.
_C.DATALOADER.REPEAT_THRESHOLD = 0.0

# -------------------------------------------------------------------------------------------------------- training
_C.SOLVER = CN()
# Iterations, one batch each; at least 1.
_C.SOLVER.MAX_ITER = 75000
# Learning rate after the warm-up, above 0. It suits VIDEOS_PER_BATCH: half the batch, half the rate.
_C.SOLVER.BASE_LR = 0.02
# Factor of the rate for biases (not those of batch norm); at least 0.
_C.SOLVER.BIAS_LR_FACTOR = 2
# Factor of the rate for the interaction structure; at least 0.
_C.SOLVER.IA_LR_FACTOR = 1.0
# In [0, 1).
_C.SOLVER.MOMENTUM = 0.9
# Weight decay of weights, of biases, and of batch norm; at least 0.
_C.SOLVER.WEIGHT_DECAY = 0.0001
_C.SOLVER.WEIGHT_DECAY_BIAS = 0.0
_C.SOLVER.WEIGHT_DECAY_BN = 0.0
# "warmup_multi_step" (times GAMMA at each of STEPS) or "half_period_cosine" (falls to 0 at MAX_ITER).
_C.SOLVER.SCHEDULER = "warmup_multi_step"
# Above 0.
_C.SOLVER.GAMMA = 0.1
# Iterations, ascending, above 0; () = a constant rate.
_C.SOLVER.STEPS = (33750, 67500)
# Whether the rate begins low, at BASE_LR * WARMUP_FACTOR (in [0, 1]), for WARMUP_ITERS iterations (at least 0).
_C.SOLVER.WARMUP_ON = True
_C.SOLVER.WARMUP_FACTOR = 1 / 3
_C.SOLVER.WARMUP_ITERS = 500
# "linear" (rises evenly) or "constant" (stays low, then jumps).
_C.SOLVER.WARMUP_METHOD = "linear"
# Iterations between checkpoints, between validations, and (ours) between lines of the log; at least 1.
_C.SOLVER.CHECKPOINT_PERIOD = 5000
_C.SOLVER.EVAL_PERIOD = 5000
_C.SOLVER.LOG_PERIOD = 20
# Clips per batch over all processes; a multiple of their number.
_C.SOLVER.VIDEOS_PER_BATCH = 32
# Ours. Batches larger than memory: each process computes its share of a batch in so many parts, one after the other.
# Losses and gradients are those of the whole batch (trainable batch norms see a part at a time); at least 1.
_C.SOLVER.ACCUMULATION_STEPS = 1
# Ours. True: the numbers of this section are meant for REFERENCE_BATCH clips. With another VIDEOS_PER_BATCH, k times as
# large, BASE_LR is multiplied by k, and MAX_ITER, STEPS, WARMUP_ITERS, CHECKPOINT_PERIOD and EVAL_PERIOD are divided
# by k (rounded, at least 1). What the command line gives stays as it is given. Old and new values are logged.
_C.SOLVER.AUTO_SCALE = False
# Ours. 0 = the VIDEOS_PER_BATCH of the configuration file (before the command line's).
_C.SOLVER.REFERENCE_BATCH = 0
# Ours. "sgd" (with MOMENTUM, as the original) or "adamw" (with ADAMW_BETAS; wants a BASE_LR about 100 times smaller).
_C.SOLVER.OPTIMIZER = "sgd"
# Ours. Decay of AdamW's running means of the gradients and of their squares; two numbers in [0, 1).
_C.SOLVER.ADAMW_BETAS = (0.9, 0.999)
# Ours. Arithmetic of the training pass: "float32", "bfloat16", or "float16" (with a loss scale that adapts; it works on
# processors, too, but slowly). Weights, losses and the memory stay float32, tests are made in float32.
_C.SOLVER.PRECISION = "float32"
# Ours. Longest allowed gradient (norm over all weights); longer ones are shortened to it; 0 = off.
_C.SOLVER.MAX_GRAD_NORM = 0.0
# Ours. A loss that is not finite: "raise" ends the run and names the clips, "skip" leaves the batch out and counts it;
# 100 in a row end the run. With MAX_GRAD_NORM so do gradients that are not finite.
_C.SOLVER.ON_NONFINITE = "raise"
# Ours. Validation and test use a running mean of the weights (exponential moving average), of which each iteration
# keeps this share, e.g. 0.999; in [0, 1); 0 = off.
_C.SOLVER.EMA_DECAY = 0.0
# Ours. Training ends after so many validations without a better mAP (mean over DATASETS.TEST); 0 = never.
_C.SOLVER.EARLY_STOP_PATIENCE = 0
# Ours. Periodic checkpoints that are kept, the latest ones; 0 = all.
_C.SOLVER.KEEP_CHECKPOINTS = 0
# Ours. True: the weights with the best validation (mean mAP over DATASETS.TEST) are kept as model_best.pth.
_C.SOLVER.KEEP_BEST = False

# ---------------------------------------------------------------------------------------------- several processes, ours
_C.DISTRIBUTED = CN()
# How the processes talk: "nccl" (GPUs), "gloo" (processors), "auto" = by MODEL.DEVICE.
_C.DISTRIBUTED.BACKEND = "auto"
# Seconds without progress after which a process that the others wait for (it hangs) ends the run; above 0.
_C.DISTRIBUTED.TIMEOUT = 1800.0
# Seconds after which a process that gives no sign of life does. One that is gone from the same machine does at once.
_C.DISTRIBUTED.DEAD_AFTER = 30.0

# --------------------------------------------------------------------------------------------------------- testing
_C.TEST = CN()
# Clips per batch over all processes; a multiple of their number.
_C.TEST.VIDEOS_PER_BATCH = 16
# Features are pooled from boxes made wider and higher by these shares, half on each side; two numbers, at least 0.
_C.TEST.EXTEND_SCALE = (0.1, 0.05)
# Ours. Arithmetic of the backbone in validations and tests: "float32", "bfloat16" (about twice as fast where the
# processor or GPU has it; scores differ by up to about 3e-3) or "float16" (GPUs only). Pooling, interaction and
# classifier stay float32, and so do the weights.
_C.TEST.PRECISION = "float32"
# Detected persons with a lower score are not classified; in [0, 1].
_C.TEST.BOX_THRESH = 0.8
# Action scores below this are left out of the results; in [0, 1].
_C.TEST.ACTION_THRESH = 0.05
# Ours. The persons: "detected" (the set's person box file), "head" (those that MODEL.ROI_PERSON_HEAD finds),
# "ground_truth" (the annotated ones; the mAP is then an upper bound), "both" (a test goes over the set twice, with the
# annotated ones and with those that "auto" means; the difference is the detector's share; validations during training
# take the latter only), "auto" (detected where the set has such a file, else head where it is active, else the
# annotated ones).
_C.TEST.BOXES = "auto"
# Ours. Overlap (intersection over union) at which a box counts as found; in (0, 1].
_C.TEST.IOU_THRESH = 0.5
# Ours. Further such overlaps, for which the mAP alone is told, and its mean over all of them; each in (0, 1]. COCO's:
# (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95). The mAP of TensorBoard and of the best checkpoint stays that
# at TEST.IOU_THRESH.
_C.TEST.IOU_THRESHOLDS = ()
# Ours. True: also COCO's AP, AP50, AP75 and AR by pycocotools, in the table and `metrics.json` of a test (validations
# during training leave them out); slow for large sets unless TEST.ACTION_THRESH leaves few rows, and left out above
# 2 million rows.
_C.TEST.COCO_METRICS = False
# Ours. True: a test also links the boxes of each class over keyframes into tubes and tells the video mAP at IoU 0.2,
# 0.5 and 0.5:0.95, for sets whose annotated persons have ids; docs/EVALUATION.md says how.
_C.TEST.VIDEO_MAP = False
# Ours. "alphaction" (all rows count, as the original) or "activitynet" (the 50 best rows per image; images without
# annotations are ignored).
_C.TEST.PROTOCOL = "alphaction"
# Ours. After a test at most so many keyframes spread over the set are drawn with predicted and true boxes, and in
# report.html as many false positives and as many misses; 0 = none.
_C.TEST.NUM_PICTURES = 12
# Ours. True: a training that starts at iteration 0 is validated once before, to see what chance gives.
_C.TEST.EVAL_AT_START = False
# Ours. Validations during training evaluate every N-th keyframe, as a quick look that is named so; 1 = all. A test, and
# that at the end of training, is always whole.
_C.TEST.EVERY_N = 1

# ------------------------------------------------------------------------ ours: what the original does, to compare with
_C.QUIRKS = CN()
# True: a clip whose short side fits already is resized to swapped height and width.
_C.QUIRKS.SWAP_CLIP_SIZE = False
# True: a mirrored clip keeps its object boxes where they were.
_C.QUIRKS.KEEP_OBJECTS_UNFLIPPED = False
# True: a person without a pose label is trained as the first pose. False: it does not count in the pose loss.
_C.QUIRKS.UNLABELLED_POSE_IS_FIRST_CLASS = False
# True: where a clip or a remembered moment has more persons than the interaction structure looks at, tests look at a
# random choice of them, as training does. False: tests look at the first ones.
_C.QUIRKS.RANDOM_CHOICE_IN_TEST = False
# True: of several processes each takes a connected share of a pass's order and cuts batches of its own from it. False:
# batches are cut first and then shared, so that the number of processes changes nothing.
_C.QUIRKS.SHARE_EACH_PASS = False

# Folder for checkpoints, logs and results; made if it is missing.
_C.OUTPUT_DIR = "."


def get_cfg() -> CN:
    """A fresh tree with every key at its default; changing it changes no other."""
    return _C.clone()
