"""Every configuration key with its default, its meaning, its unit and the values it may have.

The keys and defaults of the original AlphAction are all here, so that its YAML files work unchanged; keys that are ours
say so. `validate` refuses values outside what is written here. A value in `[a, b]` may be a or b, in `(a, b)` not.
"""

from __future__ import annotations

from alphaction.config.merge import Config as CN

_C = CN()

# ----------------------------------------------------------------------------------------------------------- model
_C.MODEL = CN()
# Weight file to start from (.pth): path relative to the working directory. "" = random initialisation.
_C.MODEL.WEIGHT = ""
# Ours. Where to compute: auto (the GPU if there is one, else the processor), cpu, cuda, or cuda:1 for the second GPU.
_C.MODEL.DEVICE = "auto"

# Head: pools one feature per person, classifies it, and the losses.
_C.MODEL.ROI_ACTION_HEAD = CN()
# "MaxpoolFeatureExtractor" or "2MLPFeatureExtractor": two names of the one there is (max pool, two linear layers).
# The original has the first as its default but implements only the second.
_C.MODEL.ROI_ACTION_HEAD.FEATURE_EXTRACTOR = "MaxpoolFeatureExtractor"
# How a box is pooled from the feature map: "align3d" (bilinear) or "pooling3d" (maximum of whole cells).
_C.MODEL.ROI_ACTION_HEAD.POOLER_TYPE = "align3d"
# Bins per side of a pooled box; at least 1.
_C.MODEL.ROI_ACTION_HEAD.POOLER_RESOLUTION = 7
# Size of the feature map over the size of the clip; in (0, 1]. 1/16 for every body here.
_C.MODEL.ROI_ACTION_HEAD.POOLER_SCALE = 1 / 16
# Samples per side of a bin of "align3d"; 0 = as many as the bin has cells.
_C.MODEL.ROI_ACTION_HEAD.POOLER_SAMPLING_RATIO = 0
# True: average over time, then pool (one pooling per box; all released models). False: pool each frame, then average.
_C.MODEL.ROI_ACTION_HEAD.MEAN_BEFORE_POOLER = False
# Width of the two linear layers; at least 1.
_C.MODEL.ROI_ACTION_HEAD.MLP_HEAD_DIM = 1024
# The classifier: "FCPredictor" (dropout and one linear layer) is the only one.
_C.MODEL.ROI_ACTION_HEAD.PREDICTOR = "FCPredictor"
# Probability that a feature is dropped before the classifier in training; in [0, 1).
_C.MODEL.ROI_ACTION_HEAD.DROPOUT_RATE = 0.0
# Number of action classes. Ours: 0 = as many as the data set's class list has.
_C.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = 80
# Ours. True: a new run that starts from weights whose file names its classes takes over the last layer's rows of the
# classes with the same name (upper and lower case alike); the others start as initialised. False: rows go by position.
_C.MODEL.ROI_ACTION_HEAD.COPY_ROWS_BY_NAME = False
# Most persons of a clip that are trained on (a random choice of them); at least 1.
_C.MODEL.ROI_ACTION_HEAD.PROPOSAL_PER_CLIP = 10
# Classes in the order of their ids: first the poses (exactly one holds: softmax loss), then actions with an object,
# then actions with another person (any number holds: sigmoid loss). The three add up to NUM_CLASSES; a group of 0 is
# left out. Only 14, 49, 17 may stay with another NUM_CLASSES: all classes then form one sigmoid group.
_C.MODEL.ROI_ACTION_HEAD.NUM_PERSON_MOVEMENT_CLASSES = 14
_C.MODEL.ROI_ACTION_HEAD.NUM_OBJECT_MANIPULATION_CLASSES = 49
_C.MODEL.ROI_ACTION_HEAD.NUM_PERSON_INTERACTION_CLASSES = 17
# Factors of the three losses, at least 0. The losses are means over their classes, so the last two make them sums; they
# do not follow the numbers of classes above. The one sigmoid group of other class counts has the factor NUM_CLASSES.
_C.MODEL.ROI_ACTION_HEAD.POSE_LOSS_WEIGHT = 1.2
_C.MODEL.ROI_ACTION_HEAD.OBJECT_LOSS_WEIGHT = 49.0
_C.MODEL.ROI_ACTION_HEAD.PERSON_LOSS_WEIGHT = 17.0

# Focal loss: an example whose true class has the probability p counts (1 - p) ** GAMMA.
_C.MODEL.ROI_ACTION_HEAD.FOCAL_LOSS = CN()
# At least 0; 0 = plain cross entropy.
_C.MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.GAMMA = 2.0
# Share of the positive examples in [0, 1], negative ones count 1 - ALPHA; -1 = no such weighting.
_C.MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.ALPHA = -1.0

# Ours. Factor of each class's loss, in the order of the classes, at least 0; () = all 1. Among exclusive classes it is
# the factor of the persons who have the class.
_C.MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS = ()
# Ours. Classes that are rare in the training set count more: by (1 / number of persons with the class) to this power,
# scaled so that the mean over the classes of a group is 1; classes without any person keep 1. 0 = off, 0.5 = root,
# 1 = fully; in [0, 1]. A factor on top of CLASS_WEIGHTS.
_C.MODEL.ROI_ACTION_HEAD.CLASS_BALANCE = 0.0

# -------------------------------------------------------------------------------------------------------- backbone
_C.MODEL.BACKBONE = CN()
# "Slowfast-Resnet50", "Slowfast-Resnet101"; ours: "Slowfast-Tiny" (shallow and narrow, for small data and processors).
# The original's "I3D-Resnet50", "I3D-Resnet101", "I3D-Resnet50-Sparse", "I3D-Resnet101-Sparse" are not available yet.
_C.MODEL.BACKBONE.CONV_BODY = "Slowfast-Resnet50"
# True: batch norm keeps the weight file's statistics and is not trained (fine-tuning). Needed with small batches.
_C.MODEL.BACKBONE.FROZEN_BN = False
# Trainable batch norm: share of the new batch in the running statistics, in [0, 1].
_C.MODEL.BACKBONE.BN_MOMENTUM = 0.1
# Added to the variance; above 0.
_C.MODEL.BACKBONE.BN_EPSILON = 1e-05
# Initial scale of the last trainable batch norm of a residual branch; 0 = blocks start as the identity.
_C.MODEL.BACKBONE.BN_INIT_GAMMA = 0.0
# Ours. True: trainable batch norms see the clips of all processes at once (GPUs only).
_C.MODEL.BACKBONE.SYNC_BN = False
# Ours. True: the activations within each residual block are computed again in the backward pass instead of kept: less
# memory, about a third more time, the same results.
_C.MODEL.BACKBONE.ACTIVATION_CHECKPOINTING = False

# Non-local blocks of the I3D bodies, as for SlowFast below.
_C.MODEL.BACKBONE.I3D = CN()
_C.MODEL.BACKBONE.I3D.CONV3_NONLOCAL = True
_C.MODEL.BACKBONE.I3D.CONV4_NONLOCAL = True
_C.MODEL.BACKBONE.I3D.CONV3_GROUP_NL = False

_C.MODEL.BACKBONE.SLOWFAST = CN()
# Width of the fast pathway over the slow one's, in (0, 1]; times the body's first width (64, Tiny 16) a whole number.
# All released weights have 1/8.
_C.MODEL.BACKBONE.SLOWFAST.BETA = 1 / 8
# How fast features reach the slow pathway: "tconv" (convolution with a stride in time) is the only way.
_C.MODEL.BACKBONE.SLOWFAST.LATERAL = "tconv"

_C.MODEL.BACKBONE.SLOWFAST.SLOW = CN()
# Whether the pathway exists. With one of them off there are no lateral connections; both off is an error.
_C.MODEL.BACKBONE.SLOWFAST.SLOW.ACTIVE = True
# Non-local blocks in the second and third residual stage.
_C.MODEL.BACKBONE.SLOWFAST.SLOW.CONV3_NONLOCAL = True
_C.MODEL.BACKBONE.SLOWFAST.SLOW.CONV4_NONLOCAL = True
# True: the second stage's blocks look at groups of frames instead of the whole clip.
_C.MODEL.BACKBONE.SLOWFAST.SLOW.CONV3_GROUP_NL = False

_C.MODEL.BACKBONE.SLOWFAST.FAST = CN()
_C.MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE = True
_C.MODEL.BACKBONE.SLOWFAST.FAST.CONV3_NONLOCAL = False
_C.MODEL.BACKBONE.SLOWFAST.FAST.CONV4_NONLOCAL = False
_C.MODEL.BACKBONE.SLOWFAST.FAST.CONV3_GROUP_NL = False

# What the non-local blocks consist of.
_C.MODEL.NONLOCAL = CN()
# Standard deviation of the initial weights; at least 0.
_C.MODEL.NONLOCAL.CONV_INIT_STD = 0.01
# True: the output convolution starts at 0, so that the block starts as the identity.
_C.MODEL.NONLOCAL.USE_ZERO_INIT_CONV = False
# True: convolutions without bias.
_C.MODEL.NONLOCAL.NO_BIAS = False
# True: keys and values are halved in height and width by a max pool.
_C.MODEL.NONLOCAL.USE_MAXPOOL = True
# True: attention weights by softmax; False: divided by the number of positions.
_C.MODEL.NONLOCAL.USE_SOFTMAX = True
# True: dot products are divided by the root of their width.
_C.MODEL.NONLOCAL.USE_SCALE = True
# True: batch norm at the end of the block; the four keys after it as for BACKBONE.
_C.MODEL.NONLOCAL.USE_BN = True
_C.MODEL.NONLOCAL.FROZEN_BN = False
_C.MODEL.NONLOCAL.BN_MOMENTUM = 0.1
_C.MODEL.NONLOCAL.BN_EPSILON = 1e-05
_C.MODEL.NONLOCAL.BN_INIT_GAMMA = 0.0

# --------------------------------------------------------------------------------- interaction aggregation (the paper)
_C.MODEL.IA_STRUCTURE = CN()
# Whether persons attend to other persons, objects and the memory of other seconds before they are classified.
_C.MODEL.IA_STRUCTURE.ACTIVE = False
# How the blocks are connected: "serial", "dense" (each reads a weighted sum of those before) or "parallel" (columns).
_C.MODEL.IA_STRUCTURE.STRUCTURE = "serial"
# Most persons of a neighbouring second that are remembered; at least 1.
_C.MODEL.IA_STRUCTURE.MAX_PER_SEC = 5
# Most persons of a clip that a P block looks at; at least 0, at least 1 with a P block.
_C.MODEL.IA_STRUCTURE.MAX_PERSON = 25
# Width of a person's pooled feature: 2304 with both pathways of a ResNet body, 2048 slow only, 256 fast only; with
# both of Slowfast-Tiny 576.
_C.MODEL.IA_STRUCTURE.DIM_IN = 2304
# Width inside the blocks; at least 1.
_C.MODEL.IA_STRUCTURE.DIM_INNER = 512
# Width of the result; equal to DIM_IN with FUSION "add".
_C.MODEL.IA_STRUCTURE.DIM_OUT = 512
# Training: True weakens remembered features by how much the loss has changed since they were computed.
_C.MODEL.IA_STRUCTURE.PENALTY = True
# Remembered moments before and after the clip; two integers, at least 0.
_C.MODEL.IA_STRUCTURE.LENGTH = (30, 30)
# From one remembered moment to the next, in slots of MEMORY_STEP seconds; an integer, at least 1.
_C.MODEL.IA_STRUCTURE.MEMORY_RATE = 1
# Ours. Seconds per slot of the memory, above 0: the time from one annotated keyframe to the next (AVA: 1). A keyframe
# belongs to the nearest slot; of several in a slot the one nearest to its middle is remembered.
_C.MODEL.IA_STRUCTURE.MEMORY_STEP = 1.0
# Ours. Training: the form in which features are remembered, "float32" or "float16" (half the size). Testing: float32.
_C.MODEL.IA_STRUCTURE.MEMORY_DTYPE = "float32"
# Ours. Most memory for remembered features, in MiB; 0 = no bound. In training the keyframes that were seen longest ago
# are forgotten when it is full; testing needs all of them and refuses to begin if they do not fit.
_C.MODEL.IA_STRUCTURE.MEMORY_LIMIT_MB = 0
# How the result joins the person's own feature: "concat" or "add".
_C.MODEL.IA_STRUCTURE.FUSION = "concat"
# Standard deviation of the initial weights; at least 0.
_C.MODEL.IA_STRUCTURE.CONV_INIT_STD = 0.01
# Probability that a feature of a block's output is dropped in training; in [0, 1).
_C.MODEL.IA_STRUCTURE.DROPOUT = 0.0
# True: convolutions without bias.
_C.MODEL.IA_STRUCTURE.NO_BIAS = False
# The blocks in order: 'P' persons, 'O' objects, 'M' memory. For "parallel" a list of layers, each a list with the block
# of each column, no layer longer than the one before: [['P', 'O', 'M'], ['P', 'O', 'M']].
_C.MODEL.IA_STRUCTURE.I_BLOCK_LIST = ["P", "O", "M", "P", "O", "M"]
# True: normalise what attention gives before the output convolution.
_C.MODEL.IA_STRUCTURE.LAYER_NORM = False
# True: a learned vector per remembered second.
_C.MODEL.IA_STRUCTURE.TEMPORAL_POSITION = True
# Kept for files of the original, which never read it. Has no effect.
_C.MODEL.IA_STRUCTURE.ROI_DIM_REDUCE = True
# True: the output convolutions start at 0, so that the structure starts as the identity.
_C.MODEL.IA_STRUCTURE.USE_ZERO_INIT_CONV = True
# Most objects of a clip, those of highest score; at least 0, at least 1 with an O block.
_C.MODEL.IA_STRUCTURE.MAX_OBJECT = 0
# Ours. True: on a data set without a file of detected objects O blocks see no objects. False: that is an error.
_C.MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS = False

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
# Training: True shifts the slow pathway's frames at random within TAU.
_C.INPUT.SLOW_JITTER = False
# Training: True changes hue, saturation and brightness at random, one draw per clip.
_C.INPUT.COLOR_JITTER = False
# Range of the hue to each side, in degrees of the colour circle; in [0, 180].
_C.INPUT.HUE_JITTER = 20.0
# Range of saturation and brightness to each side, as a share of 255; in [0, 1].
_C.INPUT.SAT_JITTER = 0.1
_C.INPUT.VAL_JITTER = 0.1

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
# Detected persons with a lower score are not classified; in [0, 1].
_C.TEST.BOX_THRESH = 0.8
# Action scores below this are left out of the results; in [0, 1].
_C.TEST.ACTION_THRESH = 0.05
# Ours. The persons: "detected" (the set's person box file), "ground_truth" (the annotated ones; the mAP is then an
# upper bound), "both" (a test goes over the set twice; the difference is the detector's share; validations during
# training take the detected ones), "auto" (detected ones where the set has such a file).
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
