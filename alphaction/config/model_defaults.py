"""The MODEL section of the configuration: every key with its default, its meaning, its unit and its values.

As `defaults`, of which it is the first part.
"""

from __future__ import annotations

from alphaction.config.merge import Config as CN

MODEL = CN()
# Weight file to start from (.pth): path relative to the working directory. "" = random initialisation.
MODEL.WEIGHT = ""
# Ours. Where to compute: auto (the GPU if there is one, else the processor), cpu, cuda, or cuda:1 for the second GPU.
MODEL.DEVICE = "auto"
# Ours. How convolutions are computed: "auto" (in the form that is fastest on the device, frozen batch norms folded in;
# docs/PERFORMANCE.md) or "plain" (one by one as written: to compare, to debug). The scores differ by less than 1e-6.
MODEL.CONVOLUTION = "auto"

# Head: pools one feature per person, classifies it, and the losses.
MODEL.ROI_ACTION_HEAD = CN()
# "MaxpoolFeatureExtractor" or "2MLPFeatureExtractor": two names of one extractor (max pool, two linear layers). The
# original has the first as its default but implements only the second. Ours: "PooledFeatureExtractor", the pooled
# feature straight to the classifier, as PySlowFast, PyTorchVideo and mmaction2 do.
MODEL.ROI_ACTION_HEAD.FEATURE_EXTRACTOR = "MaxpoolFeatureExtractor"
# How a box is pooled from the feature map: "align3d" (bilinear) or "pooling3d" (maximum of whole cells).
MODEL.ROI_ACTION_HEAD.POOLER_TYPE = "align3d"
# Bins per side of a pooled box; at least 1.
MODEL.ROI_ACTION_HEAD.POOLER_RESOLUTION = 7
# Size of the feature map over the size of the clip; in (0, 1]. 1/16 for every body here.
MODEL.ROI_ACTION_HEAD.POOLER_SCALE = 1 / 16
# Samples per side of a bin of "align3d"; 0 = as many as the bin has cells.
MODEL.ROI_ACTION_HEAD.POOLER_SAMPLING_RATIO = 0
# Ours. "align3d": True counts a cell's value at its middle (half a cell's shift) and lets boxes be smaller than a cell,
# as PySlowFast and mmaction2 do; False as the original and PyTorchVideo.
MODEL.ROI_ACTION_HEAD.POOLER_ALIGNED = False
# True: average over time, then pool (one pooling per box; all released models). False: pool each frame, then average.
MODEL.ROI_ACTION_HEAD.MEAN_BEFORE_POOLER = False
# Width of the two linear layers; at least 1.
MODEL.ROI_ACTION_HEAD.MLP_HEAD_DIM = 1024
# The classifier: "FCPredictor" (dropout and one linear layer) is the only one.
MODEL.ROI_ACTION_HEAD.PREDICTOR = "FCPredictor"
# Probability that a feature is dropped before the classifier in training; in [0, 1).
MODEL.ROI_ACTION_HEAD.DROPOUT_RATE = 0.0
# Number of action classes. Ours: 0 = as many as the data set's class list has.
MODEL.ROI_ACTION_HEAD.NUM_CLASSES = 80
# Ours. True: a new run that starts from weights whose file names its classes takes over the last layer's rows of the
# classes with the same name (upper and lower case alike); the others start as initialised. False: rows go by position.
MODEL.ROI_ACTION_HEAD.COPY_ROWS_BY_NAME = False
# Most persons of a clip that are trained on (a random choice of them); at least 1.
MODEL.ROI_ACTION_HEAD.PROPOSAL_PER_CLIP = 10
# Classes in the order of their ids: first the poses (exactly one holds: softmax loss), then actions with an object,
# then actions with another person (any number holds: sigmoid loss). The three add up to NUM_CLASSES; a group of 0 is
# left out. Only 14, 49, 17 may stay with another NUM_CLASSES: all classes then form one sigmoid group.
MODEL.ROI_ACTION_HEAD.NUM_PERSON_MOVEMENT_CLASSES = 14
MODEL.ROI_ACTION_HEAD.NUM_OBJECT_MANIPULATION_CLASSES = 49
MODEL.ROI_ACTION_HEAD.NUM_PERSON_INTERACTION_CLASSES = 17
# Factors of the three losses, at least 0. The losses are means over their classes, so the last two make them sums; they
# do not follow the numbers of classes above. The one sigmoid group of other class counts has the factor NUM_CLASSES.
MODEL.ROI_ACTION_HEAD.POSE_LOSS_WEIGHT = 1.2
MODEL.ROI_ACTION_HEAD.OBJECT_LOSS_WEIGHT = 49.0
MODEL.ROI_ACTION_HEAD.PERSON_LOSS_WEIGHT = 17.0

# Focal loss: an example whose true class has the probability p counts (1 - p) ** GAMMA.
MODEL.ROI_ACTION_HEAD.FOCAL_LOSS = CN()
# At least 0; 0 = plain cross entropy.
MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.GAMMA = 2.0
# Share of the positive examples in [0, 1], negative ones count 1 - ALPHA; -1 = no such weighting.
MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.ALPHA = -1.0

# Ours. Factor of each class's loss, in the order of the classes, at least 0; () = all 1. Among exclusive classes it is
# the factor of the persons who have the class.
MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS = ()
# Ours. Classes that are rare in the training set count more: by (1 / number of persons with the class) to this power,
# scaled so that the mean over the classes of a group is 1; classes without any person keep 1. 0 = off, 0.5 = root,
# 1 = fully; in [0, 1]. A factor on top of CLASS_WEIGHTS.
MODEL.ROI_ACTION_HEAD.CLASS_BALANCE = 0.0

# -------------------------------------------------------------------------------------------------- person head, ours
# Ours. Finds the persons itself, on the slow pathway's map at the keyframe, so that no file of boxes is needed.
MODEL.ROI_PERSON_HEAD = CN()
# Whether the head exists: it is trained on the annotated persons, and tests can take its boxes (TEST.BOXES).
MODEL.ROI_PERSON_HEAD.ACTIVE = False
# Channels that the map is reduced to, and width of the head's two linear layers; at least 1.
MODEL.ROI_PERSON_HEAD.CHANNELS = 256
MODEL.ROI_PERSON_HEAD.MLP_HEAD_DIM = 1024
# Sizes of the anchors, root of width times height, in pixels of the resized clip; numbers above 0, at least one.
MODEL.ROI_PERSON_HEAD.ANCHOR_SIZES = (32.0, 64.0, 128.0, 256.0)
# Shapes of the anchors, height over width; numbers above 0, at least one.
MODEL.ROI_PERSON_HEAD.ANCHOR_RATIOS = (0.5, 1.0, 2.0)
# Proposals per clip that the second stage looks at, and those of them that it is trained on; at least 1.
MODEL.ROI_PERSON_HEAD.PROPOSALS = 300
MODEL.ROI_PERSON_HEAD.SAMPLES = 128
# Of two found persons that overlap more than this (intersection over union) the better one stays; in [0, 1].
MODEL.ROI_PERSON_HEAD.NMS_THRESH = 0.5
# Most persons that are found in a clip, those of highest score; at least 1. The lowest score is TEST.BOX_THRESH.
MODEL.ROI_PERSON_HEAD.MAX_PERSONS = 20
# Factors of the four losses, at least 0: person or not at an anchor, where exactly; the same for a proposal.
MODEL.ROI_PERSON_HEAD.OBJECTNESS_LOSS_WEIGHT = 1.0
MODEL.ROI_PERSON_HEAD.RPN_BOX_LOSS_WEIGHT = 1.0
MODEL.ROI_PERSON_HEAD.PERSON_LOSS_WEIGHT = 1.0
MODEL.ROI_PERSON_HEAD.PERSON_BOX_LOSS_WEIGHT = 1.0

# -------------------------------------------------------------------------------------------------------- backbone
MODEL.BACKBONE = CN()
# "Slowfast-Resnet50", "Slowfast-Resnet101"; ours: "Slowfast-Tiny" (shallow and narrow, for small data and processors).
# The original's "I3D-Resnet50", "I3D-Resnet101", "I3D-Resnet50-Sparse", "I3D-Resnet101-Sparse" are not available yet.
MODEL.BACKBONE.CONV_BODY = "Slowfast-Resnet50"
# True: batch norm keeps the weight file's statistics and is not trained (fine-tuning). Needed with small batches.
MODEL.BACKBONE.FROZEN_BN = False
# Trainable batch norm: share of the new batch in the running statistics, in [0, 1].
MODEL.BACKBONE.BN_MOMENTUM = 0.1
# Added to the variance; above 0.
MODEL.BACKBONE.BN_EPSILON = 1e-05
# Initial scale of the last trainable batch norm of a residual branch; 0 = blocks start as the identity.
MODEL.BACKBONE.BN_INIT_GAMMA = 0.0
# Ours, and so the next three: where other projects' networks of these bodies differ; MODEL_ZOO.md. Cells around the map
# for the first max pool: 0 or 1 (all the others).
MODEL.BACKBONE.STEM_POOL_PADDING = 0
# Stride and dilation of the last stage in height and width, each 1 or 2: 1 and 2 (AVA networks of AlphAction,
# PySlowFast, PyTorchVideo), 1 and 1 (mmaction2), 2 and 1 (networks for whole clips; POOLER_SCALE is then 1/32).
MODEL.BACKBONE.LAST_STRIDE = 1
MODEL.BACKBONE.LAST_DILATION = 2
# How many blocks of the third stage, the first ones, see more than one frame; 0 = all. 6 in PySlowFast's "R101_50_50".
MODEL.BACKBONE.CONV4_TEMPORAL_BLOCKS = 0
# Ours. True: trainable batch norms see the clips of all processes at once (GPUs only).
MODEL.BACKBONE.SYNC_BN = False
# Ours. True: the activations within each residual block are computed again in the backward pass instead of kept: less
# memory, about a third more time, the same results.
MODEL.BACKBONE.ACTIVATION_CHECKPOINTING = False

# Non-local blocks of the I3D bodies, as for SlowFast below.
MODEL.BACKBONE.I3D = CN()
MODEL.BACKBONE.I3D.CONV3_NONLOCAL = True
MODEL.BACKBONE.I3D.CONV4_NONLOCAL = True
MODEL.BACKBONE.I3D.CONV3_GROUP_NL = False

MODEL.BACKBONE.SLOWFAST = CN()
# Width of the fast pathway over the slow one's, in (0, 1]; times the body's first width (64, Tiny 16) a whole number.
# All released weights have 1/8.
MODEL.BACKBONE.SLOWFAST.BETA = 1 / 8
# How fast features reach the slow pathway: "tconv" (convolution with a stride in time) is the only way.
MODEL.BACKBONE.SLOWFAST.LATERAL = "tconv"
# Ours, and so the next three. Frames that this convolution sees, an odd number: 5 or 7 in all public weights.
MODEL.BACKBONE.SLOWFAST.LATERAL_KERNEL = 5
# Whether it has a bias, and whether a batch norm and a ReLU follow: True, False, False with AlphAction; False, True,
# True with PySlowFast and PyTorchVideo; False, False, False with mmaction2.
MODEL.BACKBONE.SLOWFAST.LATERAL_BIAS = True
MODEL.BACKBONE.SLOWFAST.LATERAL_NORM = False
MODEL.BACKBONE.SLOWFAST.LATERAL_RELU = False

MODEL.BACKBONE.SLOWFAST.SLOW = CN()
# Whether the pathway exists. With one of them off there are no lateral connections; both off is an error.
MODEL.BACKBONE.SLOWFAST.SLOW.ACTIVE = True
# Non-local blocks in the second and third residual stage.
MODEL.BACKBONE.SLOWFAST.SLOW.CONV3_NONLOCAL = True
MODEL.BACKBONE.SLOWFAST.SLOW.CONV4_NONLOCAL = True
# True: the second stage's blocks look at groups of frames instead of the whole clip.
MODEL.BACKBONE.SLOWFAST.SLOW.CONV3_GROUP_NL = False

MODEL.BACKBONE.SLOWFAST.FAST = CN()
MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE = True
MODEL.BACKBONE.SLOWFAST.FAST.CONV3_NONLOCAL = False
MODEL.BACKBONE.SLOWFAST.FAST.CONV4_NONLOCAL = False
MODEL.BACKBONE.SLOWFAST.FAST.CONV3_GROUP_NL = False

# What the non-local blocks consist of.
MODEL.NONLOCAL = CN()
# Standard deviation of the initial weights; at least 0.
MODEL.NONLOCAL.CONV_INIT_STD = 0.01
# True: the output convolution starts at 0, so that the block starts as the identity.
MODEL.NONLOCAL.USE_ZERO_INIT_CONV = False
# True: convolutions without bias.
MODEL.NONLOCAL.NO_BIAS = False
# True: keys and values are halved in height and width by a max pool.
MODEL.NONLOCAL.USE_MAXPOOL = True
# Ours. Frames that this max pool makes one of, 1 (time stays as it is) or 2.
MODEL.NONLOCAL.POOL_FRAMES = 1
# True: attention weights by softmax; False: divided by the number of positions.
MODEL.NONLOCAL.USE_SOFTMAX = True
# True: dot products are divided by the root of their width.
MODEL.NONLOCAL.USE_SCALE = True
# True: batch norm at the end of the block; the four keys after it as for BACKBONE.
MODEL.NONLOCAL.USE_BN = True
MODEL.NONLOCAL.FROZEN_BN = False
MODEL.NONLOCAL.BN_MOMENTUM = 0.1
MODEL.NONLOCAL.BN_EPSILON = 1e-05
MODEL.NONLOCAL.BN_INIT_GAMMA = 0.0

# --------------------------------------------------------------------------------- interaction aggregation (the paper)
MODEL.IA_STRUCTURE = CN()
# Whether persons attend to other persons, objects and the memory of other seconds before they are classified.
MODEL.IA_STRUCTURE.ACTIVE = False
# How the blocks are connected: "serial", "dense" (each reads a weighted sum of those before) or "parallel" (columns).
MODEL.IA_STRUCTURE.STRUCTURE = "serial"
# Most persons of a neighbouring second that are remembered; at least 1.
MODEL.IA_STRUCTURE.MAX_PER_SEC = 5
# Most persons of a clip that a P block looks at; at least 0, at least 1 with a P block.
MODEL.IA_STRUCTURE.MAX_PERSON = 25
# Width of a person's pooled feature: 2304 with both pathways of a ResNet body, 2048 slow only, 256 fast only; with
# both of Slowfast-Tiny 576.
MODEL.IA_STRUCTURE.DIM_IN = 2304
# Width inside the blocks; at least 1.
MODEL.IA_STRUCTURE.DIM_INNER = 512
# Width of the result; equal to DIM_IN with FUSION "add".
MODEL.IA_STRUCTURE.DIM_OUT = 512
# Training: True weakens remembered features by how much the loss has changed since they were computed.
MODEL.IA_STRUCTURE.PENALTY = True
# Remembered moments before and after the clip; two integers, at least 0.
MODEL.IA_STRUCTURE.LENGTH = (30, 30)
# From one remembered moment to the next, in slots of MEMORY_STEP seconds; an integer, at least 1.
MODEL.IA_STRUCTURE.MEMORY_RATE = 1
# Ours. Seconds per slot of the memory, above 0: the time from one annotated keyframe to the next (AVA: 1). A keyframe
# belongs to the nearest slot; of several in a slot the one nearest to its middle is remembered.
MODEL.IA_STRUCTURE.MEMORY_STEP = 1.0
# Ours. Training: the form in which features are remembered, "float32" or "float16" (half the size). Testing: float32.
MODEL.IA_STRUCTURE.MEMORY_DTYPE = "float32"
# Ours. Most memory for remembered features, in MiB; 0 = no bound. In training the keyframes that were seen longest ago
# are forgotten when it is full; testing needs all of them and refuses to begin if they do not fit.
MODEL.IA_STRUCTURE.MEMORY_LIMIT_MB = 0
# How the result joins the person's own feature: "concat" or "add".
MODEL.IA_STRUCTURE.FUSION = "concat"
# Standard deviation of the initial weights; at least 0.
MODEL.IA_STRUCTURE.CONV_INIT_STD = 0.01
# Probability that a feature of a block's output is dropped in training; in [0, 1).
MODEL.IA_STRUCTURE.DROPOUT = 0.0
# True: convolutions without bias.
MODEL.IA_STRUCTURE.NO_BIAS = False
# The blocks in order: 'P' persons, 'O' objects, 'M' memory. For "parallel" a list of layers, each a list with the block
# of each column, no layer longer than the one before: [['P', 'O', 'M'], ['P', 'O', 'M']].
MODEL.IA_STRUCTURE.I_BLOCK_LIST = ["P", "O", "M", "P", "O", "M"]
# True: normalise what attention gives before the output convolution.
MODEL.IA_STRUCTURE.LAYER_NORM = False
# True: a learned vector per remembered second.
MODEL.IA_STRUCTURE.TEMPORAL_POSITION = True
# Kept for files of the original, which never read it. Has no effect.
MODEL.IA_STRUCTURE.ROI_DIM_REDUCE = True
# True: the output convolutions start at 0, so that the structure starts as the identity.
MODEL.IA_STRUCTURE.USE_ZERO_INIT_CONV = True
# Most objects of a clip, those of highest score; at least 0, at least 1 with an O block.
MODEL.IA_STRUCTURE.MAX_OBJECT = 0
# Ours. True: on a data set without a file of detected objects O blocks see no objects. False: that is an error.
MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS = False
