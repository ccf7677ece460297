"""A checkpoint goes over a video: the scores are those of testing, whatever comes first or is missing is said."""

from dataclasses import replace

import numpy as np
import pytest
import run_kit
import torch
from prediction_kit import IA, INTERACTION, MEMORY, one_person, save_network, stand_in
from videos import numbered_frames, write_video

from alphaction import Predictor
from alphaction.config import load_config
from alphaction.dataset import build_datasets, build_loader
from alphaction.engine.predict import predict, predict_with_memory
from alphaction.engine.testing.build import build_memory
from alphaction.errors import CheckpointError, ConfigError, UserError
from alphaction.prediction.boxes.persons import Seen
from alphaction.preparation.detect_models import Detector
from alphaction.structures import Boxes, MemorySpan

TIMES = (0.5, 1.0, 1.5)
VIDEO = "yard"
OBJECTS = np.array([[5, 7, 24, 18], [30, 10, 50, 40], [0, 0, 10, 10]], np.float32)


@pytest.fixture(scope="module")
def video(config):
    return config.parent / "videos" / f"{VIDEO}.mp4"


# PyTorch takes seconds: who asks for it is told, and the process ends.
LIGHT = """
import sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            sys.exit("PyTorch is asked for")
sys.meta_path.insert(0, Finder)
import alphaction
print("imported")
alphaction.Predictor
"""


def test_the_package_is_light_until_the_predictor_is_asked_for():
    done = run_kit.run("-c", LIGHT)
    assert (done.stdout, done.stderr) == ("imported\n", "PyTorch is asked for\n")


@pytest.mark.parametrize("frame_rate", [25.0, 0.0])
@pytest.mark.parametrize("blocks", [[], MEMORY, [*INTERACTION, IA + "I_BLOCK_LIST", ["P", "O", "M"]]])
def test_scores_are_those_of_testing(config, video, tmp_path, blocks, frame_rate):
    opts = [*blocks, "INPUT.FRAME_RATE", frame_rate, IA + "ALLOW_NO_OBJECTS", True]
    checkpoint = save_network(tmp_path, config, *opts)
    predictor = Predictor.from_checkpoint(checkpoint)
    objects = OBJECTS if "O" in str(blocks) else OBJECTS[:0]
    [dataset] = build_datasets(load_config(config, opts), "test")
    rows = {time: dataset.persons(i)[0].xyxy.numpy() for i, time in enumerate(TIMES)}

    def boxes(time, image):
        found = rows[round(time, 3)]
        return Seen(found, np.ones(len(found), np.float32), None, objects, np.linspace(0.2, 0.9, len(objects)))

    with predictor(video, boxes=boxes, detect_rate=2.0, start=0.5, duration=1.0) as run:
        moments = list(run)
    expected = _tested(load_config(config, opts), dataset, predictor.network, objects)
    assert [moment.time for moment in moments] == list(TIMES)
    ours = np.stack([person.scores for moment in moments for person in moment.persons])
    assert np.ptp(expected.scores, axis=0).min() > 1e-3  # else anything would pass
    np.testing.assert_allclose(ours, expected.scores, atol=2e-6)
    np.testing.assert_allclose([p.box for m in moments for p in m.persons], np.concatenate(list(rows.values())))


def _tested(tree, dataset, network, objects):
    """As test_net.py predicts, with the objects put into its batches."""

    def batches():
        for batch in build_loader(tree, dataset, train=False):
            things = [Boxes(torch.from_numpy(objects), (48, 64)).resize(size) for size in batch.sizes]
            chosen = [boxes[boxes.top_k(2, torch.linspace(0.2, 0.9, len(boxes)))] for boxes in things]
            yield replace(batch, objects=chosen if len(objects) else None)

    memory = build_memory(tree, network.model, dataset, network.device)
    if memory is None:
        return predict(network.model, batches(), network.postprocess, "cpu", progress=False)
    return predict_with_memory(network.model, batches(), network.postprocess, "cpu", memory=memory, progress=False)


def test_memory_is_kept_only_as_long_as_it_is_shown(tmp_path):
    video = write_video(tmp_path / "long.mp4", numbered_frames(150), fps=5)
    network = stand_in(memory=MemorySpan(before=2, after=3, rate=2, persons=5), batch_size=3)
    with Predictor(network)(video, boxes=one_person(), detect_rate=1.0) as run:
        most = 0
        moments = []
        for moment in run:
            moments.append(moment)
            most = max(most, run._classifier.num_remembered)
    assert [moment.time for moment in moments] == list(range(30))
    assert most <= 2 * 2 + 3 * 2 + 1 + 2 * 3


def test_nobody_in_sight_gives_moments_without_persons(tmp_path):
    video = write_video(tmp_path / "empty.mp4", numbered_frames(10))
    network = stand_in(memory=MemorySpan(before=1, after=1, rate=1, persons=5))
    with Predictor(network)(video, boxes=one_person(score=0.3), detect_rate=5.0) as run:
        moments = list(run)
    assert [len(moment.persons) for moment in moments] == [0, 0]
    assert network.model.times == []  # nobody to look at: the network was not asked
    assert (run.num_moments, run.num_persons, run.num_frames) == (2, 0, 9)  # no clip needs the last


def test_boxes_outside_the_picture_are_left_out(tmp_path):
    video = write_video(tmp_path / "v.mp4", numbered_frames(5))
    boxes = np.array([[-20, -10, 30, 30], [200, 10, 240, 40], [10, 10, 500, 500]], np.float32)
    with Predictor(stand_in())(video, boxes=lambda time, image: (boxes, np.ones(3))) as run:
        [moment] = list(run)
    assert [person.box for person in moment.persons] == [(0, 0, 30, 30), (10, 10, 95, 47)]
    assert moment.size == (48, 96)


def test_frames_of_a_file_come_for_drawing_once_each(tmp_path):
    video = write_video(tmp_path / "v.mp4", numbered_frames(20))
    with Predictor(stand_in())(video, boxes=one_person(), detect_rate=5.0) as run:
        seen = [[frame.number for frame in run.frames(moment.time)] for moment in run]
        rest = [frame.number for frame in run.frames()]
    assert seen == [[0], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]
    assert rest == [16, 17, 18, 19]


def test_a_run_can_be_stopped(tmp_path):
    video = write_video(tmp_path / "v.mp4", numbered_frames(50))
    asked = iter([0] * 20 + [15] * 100)
    run = Predictor(stand_in())(video, boxes=one_person(), detect_rate=5.0, should_stop=lambda: next(asked))
    assert len(list(run)) == 4
    run.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"with_config": False}, "holds no configuration .* --config-file FILE.yaml"),
        ({"names": ()}, "does not name its 3 classes. Give their names .* --classes FILE"),
        ({"names": ("walk", "run")}, "its last layer is made for 3 classes, but its class names are 2"),
    ],
)
def test_what_a_checkpoint_lacks_is_said(config, tmp_path, change, message):
    checkpoint = save_network(tmp_path, config, **change)
    with pytest.raises(UserError, match=message):
        Predictor.from_checkpoint(checkpoint)


@pytest.mark.parametrize("text", ["SOLVER: [", "SOLVER: 2020-99-99", "SOLVER: !!int x"])
def test_a_checkpoint_with_a_spoiled_configuration_is_refused(tmp_path, text):
    checkpoint = tmp_path / "model.pth"
    torch.save({"model": {"weight": torch.zeros(1)}, "config": text}, checkpoint)
    with pytest.raises(UserError, match=r"its configuration cannot be read \(.+\)\. Give .* --config-file"):
        Predictor.from_checkpoint(checkpoint)


def test_what_a_checkpoint_lacks_can_be_given(config, video, tmp_path):
    checkpoint = save_network(tmp_path, config, names=(), with_config=False)
    names = tmp_path / "names.txt"
    names.write_text("jump\nsit\nlie\n")
    predictor = Predictor.from_checkpoint(checkpoint, config=config, classes=names)
    assert predictor.classes.names == ("jump", "sit", "lie")
    names.write_text("jump\nsit\n")
    with pytest.raises(ConfigError, match=r"made for 3 classes, but the class list \(--classes\) are 2"):
        Predictor.from_checkpoint(checkpoint, config=config, classes=names)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.ROI_ACTION_HEAD.NUM_CLASSES", 5], "has 3 classes, but the configuration says .*NUM_CLASSES 5"),
        (["MODEL.BACKBONE.CONV_BODY", "Slowfast-Resnet50"], "does not fit the configuration .*--config-file"),
        (["MODEL.ROI_ACTION_HEAD.MLP_HEAD_DIM", 8], "does not fit the configuration .*--config-file"),
        ([*MEMORY], "does not fit the configuration .*--config-file|lacks .* tensors"),
    ],
)
def test_a_configuration_that_does_not_fit_is_told(config, tmp_path, opts, message):
    checkpoint = save_network(tmp_path, config)
    with pytest.raises(UserError, match=message) as error:
        Predictor.from_checkpoint(checkpoint, config=config, options=opts)
    assert str(checkpoint) in str(error.value)


def test_the_configuration_leads_to_its_weights(config, tmp_path):
    save_network(tmp_path, config)
    assert (
        Predictor.from_checkpoint(None, config=config, options=["OUTPUT_DIR", str(tmp_path)]).classes.names[0] == "walk"
    )
    with pytest.raises(CheckpointError, match="there are no weights: MODEL.WEIGHT is empty"):
        Predictor.from_checkpoint(None, config=config, options=["OUTPUT_DIR", str(tmp_path / "other")])
    with pytest.raises(ConfigError, match="there is no network"):
        Predictor.from_checkpoint(None)


def test_the_backbone_computes_in_the_precision_of_testing(config, video, tmp_path, caplog):
    caplog.set_level("INFO", logger="alphaction")
    checkpoint = save_network(tmp_path, config)
    scores = []
    for precision in ("float32", "bfloat16"):
        predictor = Predictor.from_checkpoint(checkpoint, options=["TEST.PRECISION", precision])
        with predictor(video, boxes=one_person(), start=0.5, duration=1.0) as run:
            scores.append(np.stack([person.scores for moment in run for person in moment.persons]))
        line = "Predictions compute the backbone in bfloat16 (TEST.PRECISION)"
        assert (line in caplog.text) == (precision == "bfloat16")
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.02
    with pytest.raises(ConfigError, match="TEST.PRECISION: got float16, in which processors compute more slowly"):
        Predictor.from_checkpoint(checkpoint, device="cpu", options=["TEST.PRECISION", "float16"])


def test_wrong_choices_are_told(config, video, tmp_path):
    predictor = Predictor(stand_in(), detector_weights=str(tmp_path / "none.pth"))
    with pytest.raises(TypeError, match="video: got ndarray, expected a file, a URL, a camera's number or a `Source`"):
        predictor(np.zeros((9, 48, 64, 3), np.uint8))
    with pytest.raises(TypeError, match="boxes: got NoneType, expected head, detector, auto, a file or a function"):
        predictor(video, boxes=None)
    with pytest.raises(ConfigError, match="this network has no person head"):
        predictor(video, boxes="head")
    with pytest.raises(UserError, match=r"--detector-weights: .*none.pth does not exist.*--boxes FILE"):
        predictor(video, boxes="auto")
    with pytest.raises(UserError, match="which is no file; expected auto, head, detector or a file of boxes"):
        predictor(video, boxes="detectr")
    for wrong in ({"detect_rate": 0}, {"detect_rate": 1e9}, {"box_threshold": 1.5}, {"duration": 0}):
        with pytest.raises(ConfigError, match=f"--{next(iter(wrong)).replace('_', '-')}: got"):
            predictor(video, boxes=one_person(), **wrong)
    with pytest.raises(ConfigError, match="--batch-size: got -3, expected clips, 1 or more"):
        Predictor.from_checkpoint(tmp_path / "any.pth", batch_size=-3)
    with pytest.raises(UserError, match=r"asked for the time from 5 s on, but it runs from 0 to 1.88 s"):
        predictor(video, boxes=one_person(), start=5.0)


def test_the_person_head_finds_the_persons(config, video, tmp_path):
    """As a test with TEST.BOXES head, but for the score from which a person counts."""
    head = ["CHANNELS", 8, "MLP_HEAD_DIM", 8, "ANCHOR_SIZES", (16.0, 24.0), "MAX_PERSONS", 3]
    opts = ["MODEL.ROI_PERSON_HEAD.ACTIVE", True, "TEST.BOX_THRESH", 0.05]
    opts += [f"MODEL.ROI_PERSON_HEAD.{item}" if isinstance(item, str) else item for item in head]
    predictor = Predictor.from_checkpoint(save_network(tmp_path, config, *opts))
    assert predictor.has_person_head
    [dataset] = build_datasets(load_config(config, opts), "test")
    loader = build_loader(load_config(config, opts), dataset, train=False)
    model, network = predictor.network.model, predictor.network
    expected = predict(model, loader, network.postprocess, "cpu", finds_persons=True, progress=False)
    with predictor(video, detect_rate=2.0, start=0.5, duration=1.0) as run:
        moments = list(run)
    persons = [person for moment in moments for person in moment.persons]
    assert len(persons) == len(expected.scores) > 0
    np.testing.assert_allclose([person.scores for person in persons], expected.scores, atol=2e-6)
    scale = np.array([64, 48, 64, 48]) / expected.clip_size[:, [1, 0, 1, 0]]
    np.testing.assert_allclose([person.box for person in persons], expected.boxes * scale, atol=1e-3)
    best = max(person.box_score for person in persons)
    with predictor(video, detect_rate=2.0, start=0.5, duration=1.0, box_threshold=best) as run:
        assert 1 <= sum(len(moment.persons) for moment in run) < len(persons)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_network_that_looks_at_objects_is_told_when_there_are_none(video, caplog, allowed):
    network = replace(stand_in(), max_objects=2, allow_no_objects=allowed)
    Predictor(network)(video, boxes=one_person()).close()
    assert ("it sees no objects" in caplog.text) != allowed
    predictor = Predictor(network)
    predictor._detector = Detector(name="persons only", run=lambda pictures: [], objects=False)
    if allowed:
        predictor(video, boxes="detector").close()
    else:
        with pytest.raises(UserError, match="this detector knows persons only"):
            predictor(video, boxes="detector")
