import json
import pickle
from dataclasses import replace

import goldens
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from videos import numbered_frames, read_numbers, write_second_files, write_video

from alphaction.dataset.action_dataset import ActionDataset, ClipOptions, check_same_classes
from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.box_files import read_boxes
from alphaction.dataset.report import DataReport
from alphaction.dataset.resolve import resolve, resolve_boxes
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import AugmentationPolicy, ClipTransform
from alphaction.dataset.video_index import MovieFiles, VideoIndex
from alphaction.dataset.video_io import VideoInfo
from alphaction.errors import DataError, VideoError
from alphaction.structures import Annotations, ClassList, PackedBoxes

GOLDEN = goldens.load("dataset")
SAMPLING = ClipSampling(frame_num=8, sample_rate=1, tau=4, alpha=4, frame_rate=10)
TESTING = ClipOptions(sampling=SAMPLING, transform=ClipTransform(min_size=48, max_size=96), extend_scale=(0.1, 0.05))
TRAINING = replace(TESTING, augmentation=AugmentationPolicy(color_jitter=True, slow_jitter=True, tau=4, max_persons=3))


def make(tmp_path, rows, options=TESTING, *, detections=None, num_classes=8, on_error="raise"):
    path = tmp_path / "set.csv"
    path.write_text(rows)
    raw = read_annotations(path, None, num_classes)
    resolved = resolve(raw, VideoIndex(tmp_path / "videos"), name="set", on_error=on_error)
    boxes = None
    if detections is not None:
        (tmp_path / "boxes.json").write_text(json.dumps(detections))
        boxes = resolve_boxes(read_boxes(tmp_path / "boxes.json", raw), resolved, what="person", clip=True)
    return ActionDataset(
        name="set",
        spec={"name": "set"},
        annotations=resolved.annotations,
        paths=resolved.paths,
        report=resolved.report,
        options=replace(options, skip_unreadable=on_error == "skip"),
        detections=boxes,
    )


@pytest.fixture
def video(tmp_path):
    """videos/m.mp4: 30 frames of 96 x 48 at 10 frames per second, each showing its number."""
    return write_video(tmp_path / "videos" / "m.mp4", 30, 10)


# --- recorded data set


@pytest.fixture(params=sorted(GOLDEN["cases"]))
def recorded(request, tmp_path):
    """(case, data set, object boxes or None)"""
    case = GOLDEN["cases"][request.param]
    arguments = case["arguments"]
    for name in ("annotation_file", "person_box_file", "object_box_file"):
        (tmp_path / f"{name}.json").write_text(json.dumps(GOLDEN[name]))
    sizes = {image["movie"]: (image["height"], image["width"]) for image in GOLDEN["annotation_file"]["images"]}

    class Videos:
        root = "videos"

        def find(self, movies):
            infos = [VideoInfo(width=sizes[m][1], height=sizes[m][0], fps=25, duration=1e4, frames=1) for m in movies]
            return [MovieFiles(m, f"{m}.mp4", info=info) for m, info in zip(movies, infos, strict=True)]

    raw = read_annotations(tmp_path / "annotation_file.json", None, 80)
    resolved = resolve(raw, Videos(), name="golden")
    detections = objects = None
    if arguments["box_file"]:
        boxes = read_boxes(tmp_path / "person_box_file.json", raw, min_score=arguments["box_thresh"])
        detections = resolve_boxes(boxes, resolved, what="person", clip=True)
    if arguments["object_file"]:
        objects = resolve_boxes(read_boxes(tmp_path / "object_box_file.json", raw), resolved, what="object", clip=False)
    most = max(len(row["after_test_transforms"]["objects"] or []) for row in case["rows"])
    options = TRAINING if arguments["remove_clips_without_annotations"] else TESTING
    dataset = ActionDataset(
        name="golden",
        spec={},
        annotations=resolved.annotations,
        paths=resolved.paths,
        report=resolved.report,
        options=replace(options, max_objects=most if objects is not None else 0),
        detections=detections,
        objects=objects,
    )
    return case, dataset, objects


def test_recorded_items(recorded):
    case, dataset, objects = recorded
    report = goldens.parity.Report("dataset", 1e-6)
    report.equal("length", len(dataset), case["length"])
    for row in case["rows"]:
        keyframe = int(dataset.keyframes[row["index"]])
        name = f"row {row['index']}"
        after = row["after_test_transforms"]
        size = tuple(after["size_wh"][::-1])
        report.equal(name, tuple(dataset.annotations.key(keyframe)), (row["movie"], row["timestamp"]))
        info = row["video_info"]
        report.equal(name, dataset.annotations.size[keyframe].tolist(), [info["height"], info["width"]])
        boxes, labels, scores = dataset.persons(keyframe)
        report.close(f"{name} boxes", boxes.xyxy, np.reshape(row["boxes_xyxy"], (-1, 4)))
        report.close(f"{name} resized boxes", boxes.resize(size).xyxy, np.reshape(after["boxes"], (-1, 4)))
        columns = None if labels is None else [torch.nonzero(one).flatten().tolist() for one in labels]
        report.equal(f"{name} labels", columns, row["labels"])
        report.equal(f"{name} scores", scores is None, labels is not None)
        if objects is None:
            report.equal(f"{name} objects", dataset.objects(keyframe), after["objects"])
            continue
        rows = objects.rows(keyframe)
        report.close(f"{name} objects", objects.xyxy[rows], np.reshape(row["objects_xyxy"], (-1, 4)))
        report.close(f"{name} object scores", objects.scores[rows], np.asarray(row["object_scores"] or []))
        best = dataset.objects(keyframe).resize(size).xyxy
        report.close(f"{name} best objects", best, np.reshape(after["objects"], (-1, 4)))
    report.finish()


# --- samples


def test_test_sample(tmp_path, video):
    dataset = make(tmp_path, "m,0\nm,1,0.25,0.25,0.75,0.75,2\nm,1,0.25,0.25,0.75,0.75,5\nm,1,0,0,0.5,0.5,1\n")
    assert len(dataset) == 1 and len(dataset.annotations) == 2 and not dataset.is_training
    sample = dataset[0]
    assert sample.index == 1 and sample.key == ("m", 1.0)
    assert sample.slow.shape == (3, 2, 48, 96) and sample.fast.shape == (3, 8, 48, 96)
    assert sample.slow.dtype == torch.uint8
    assert read_numbers(sample.fast.permute(1, 2, 3, 0).numpy()) == list(range(6, 14))
    assert sample.persons.xyxy.tolist() == [[24, 12, 71, 35], [0, 0, 47, 23]]
    assert sample.regions.xyxy[0] == pytest.approx([24 - 2.4, 12 - 0.6, 71 + 2.4, 35 + 0.6])
    assert sample.regions.xyxy[1] == pytest.approx([0, 0, 47 + 2.4, 23 + 0.6])
    assert [torch.nonzero(row).flatten().tolist() for row in sample.labels] == [[1, 4], [0]]
    assert sample.person_scores is None and sample.objects is None


def test_clips_of_one_second_give_the_same_frames(tmp_path):
    write_second_files(tmp_path / "videos" / "m", {5: 10, 6: 10, 7: 10}, fps=10)
    sample = make(tmp_path, "m,6,0.25,0.25,0.75,0.75,2\n")[0]
    assert read_numbers(sample.fast.permute(1, 2, 3, 0).numpy()) == list(range(6, 14))


def test_detected_persons(tmp_path, video):
    detections = [{"image_id": "m/1", "bbox": [5, 5, 20, 20], "score": 0.9},
                  {"image_id": "m/2", "bbox": [8, 8, 20, 20], "score": 0.85}]  # fmt: skip
    dataset = make(tmp_path, "m,0,0,0,1,1,1\nm,1,0,0,1,1,1\nm,2\n", detections=detections)
    assert dataset.uses_detections and dataset.keyframes.tolist() == [1, 2]
    sample = dataset[1]
    assert sample.labels is None and sample.person_scores.tolist() == pytest.approx([0.85])
    assert sample.persons.xyxy.tolist() == [[8, 8, 27, 27]] and sample.index == 2


def test_boxes_annotated_in_another_size(tmp_path, video):
    images = [{"id": 0, "file_name": "m/1.jpg", "width": 192, "height": 96}]
    annotations = [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [20, 20, 41, 21]}]
    (tmp_path / "set.csv").write_text(json.dumps({"images": images, "annotations": annotations}))
    dataset = make(tmp_path, (tmp_path / "set.csv").read_text())
    assert dataset[0].persons.xyxy.tolist() == [[10, 10, 30, 20]] and dataset[0].persons.size == (48, 96)


def test_training_draws_depend_on_seed_epoch_and_sample_only(tmp_path, video):
    rows = "".join(f"m,1,0.{i},0.2,0.{i + 3},0.9,{i}\n" for i in range(1, 7)) + "m,2,0.1,0.1,0.9,0.9,1\n"
    dataset = make(tmp_path, rows, TRAINING)

    def same(a, b):
        return all(torch.equal(x, y) for x, y in [(a.slow, b.slow), (a.fast, b.fast), (a.labels, b.labels),
                   (a.persons.xyxy, b.persons.xyxy), (a.regions.xyxy, b.regions.xyxy)])  # fmt: skip

    first = dataset[3, 0]
    assert dataset.is_training and len(first.persons) == 3 and first.labels.sum() == 3
    assert same(first, dataset[3, 0]) and same(first, pickle.loads(pickle.dumps(dataset))[3, 0])
    assert not same(first, dataset[4, 0]) and not same(first, dataset.with_seed(1)[3, 0])
    assert same(dataset[0], dataset[0, 0])
    assert same(first, dataset.with_seed(1).with_seed(0)[3, 0])
    assert dataset.with_seed(-3)[0, 0] is not None


def test_labels_stay_with_their_boxes(tmp_path, video):
    """Box i begins at a tenth of the width times i and has the class i."""
    dataset = make(tmp_path, "".join(f"m,1,0.{i},0.2,0.{i + 3},0.9,{i}\n" for i in range(1, 7)), TRAINING)
    flips = set()
    for epoch in range(12):
        sample = dataset[epoch, 0]
        left, right = sample.persons.xyxy[:, 0] / 9.6, (95 - sample.persons.xyxy[:, 2]) / 9.6
        classes = sample.labels.int().argmax(dim=1) + 1
        straight, flipped = (torch.allclose(x, classes.float(), atol=0.2) for x in (left, right))
        assert straight != flipped
        flips.add(flipped)
        assert not torch.equal(sample.regions.xyxy, sample.persons.xyxy)
    assert flips == {False, True}


def test_training_leaves_out_keyframes_without_persons(tmp_path, video):
    dataset = make(tmp_path, "m,0\nm,1,0,0,0.5,0.5,1\nm,2\n", TRAINING)
    assert len(dataset) == 1 and dataset[0, 0].index == 1


def test_keyframe_image(tmp_path, video):
    dataset = make(tmp_path, "m,0\nm,1,0,0,0.5,0.5,1\n")
    assert [read_numbers([dataset.keyframe_image(i)])[0] for i in (0, 1)] == [0, 10]


def test_aspect_groups(tmp_path, video):
    write_video(tmp_path / "videos" / "p.mp4", numbered_frames(30, height=96, width=48), 10)
    write_video(tmp_path / "videos" / "q.mp4", numbered_frames(30, height=64, width=64), 10)
    dataset = make(tmp_path, "m,0\nm,1,0,0,1,1,1\np,1,0,0,1,1,1\nq,1,0,0,1,1,1\n")
    assert dataset.aspect_groups().tolist() == [0, 1, 1]


def test_class_counts(tmp_path, video):
    rows = "m,0\nm,1,0,0,0.5,0.5,1\nm,1,0,0,0.5,0.5,3\nm,1,0.5,0,1,1,3\nm,2,0,0,0.5,0.5,8\n"
    dataset = make(tmp_path, rows, TRAINING)
    assert dataset.class_counts().tolist() == [1, 0, 2, 0, 0, 0, 0, 1]  # persons, not clips
    assert dataset.class_counts().dtype == np.int64
    assert [np.flatnonzero(row).tolist() for row in dataset.clip_labels()] == [[0, 2], [7]]  # clips, not persons


def test_clip_labels_of_a_test_set(tmp_path, video):
    """A keyframe with detections but no annotated person has no actions."""
    boxes = [{"image_id": f"m/{second}", "bbox": [1, 2, 30, 40], "score": 0.9} for second in (0, 1)]
    dataset = make(tmp_path, "m,0\nm,1,0,0,1,1,2\nm,2,0,0,1,1,3\n", detections=boxes)
    assert [np.flatnonzero(row).tolist() for row in dataset.clip_labels()] == [[], [1]]


def test_copies_of_a_clip_are_augmented_differently(tmp_path, video):
    dataset = make(tmp_path, "m,1,0,0,0.5,0.5,1\n", TRAINING)
    first, again, second, third = (dataset[item].fast for item in ((3, 0), (3, 0, 0), (3, 0, 1), (3, 0, 2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, second) and not torch.equal(second, third)
    assert torch.equal(second, dataset[3, 0, 1].fast)


def test_index_out_of_range(tmp_path, video):
    dataset = make(tmp_path, "m,1,0,0,1,1,1\n")
    for index in (1, -1, (0, 1)):
        with pytest.raises(IndexError, match="the data set set has 1 samples"):
            dataset[index]
    assert len(list(dataset)) == 1


# --- clips that cannot be read


@pytest.fixture
def vanishing(tmp_path, video):
    def build(on_error):
        write_video(tmp_path / "videos" / "n.mp4", 30, 10)
        dataset = make(tmp_path, "m,1,0,0,1,1,1\nn,1,0,0,1,1,1\nn,2,0,0,1,1,1\n", on_error=on_error)
        (tmp_path / "videos" / "n.mp4").unlink()
        return dataset

    return build


def test_unreadable_clip_raises(vanishing):
    dataset = vanishing("raise")
    assert dataset[0] is not None
    with pytest.raises(VideoError, match="data set set, keyframe n at 1 s: .*n.mp4.*DATASETS.ON_ERROR skip"):
        dataset[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_clips_are_skipped_and_counted(vanishing, workers, caplog):
    dataset = vanishing("skip")
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, sampler=[0, 1, 2, 1])
    assert [sample is None for sample in loader] == [False, True, True, True]
    assert dataset.unreadable == [1, 2]
    if not workers:
        assert len(caplog.records) == 2 and "n at 1 s cannot be read and is left out" in caplog.text


def test_workers_pass_the_error_on(vanishing):
    loader = DataLoader(vanishing("raise"), batch_size=None, num_workers=1, sampler=[1])
    with pytest.raises(VideoError) as error:
        list(loader)
    assert str(error.value).startswith("data set set, keyframe n at 1 s: ")


# --- as an object


def synthetic(num_keyframes, classes=("a", "b"), name="s"):
    """A data set without videos, two persons per keyframe."""
    boxes = PackedBoxes.pack(
        np.repeat(np.arange(num_keyframes), 2), np.ones((2 * num_keyframes, 4)) * [1, 2, 30, 40], num_keyframes
    )
    annotations = Annotations(
        classes=ClassList(tuple(range(1, len(classes) + 1)), classes),
        movies=("m", "n"),
        movie=(np.arange(num_keyframes) % 2).astype(np.int32),
        time=np.arange(num_keyframes, dtype=np.float64),
        size=np.full((num_keyframes, 2), [360, 640], np.int32),
        boxes=boxes,
        labels=np.zeros((2 * num_keyframes, len(classes)), bool),
        person_id=np.zeros(2 * num_keyframes, np.int32),
    )
    return ActionDataset(
        name=name,
        spec={},
        annotations=annotations,
        paths=("m.mp4", "n"),
        report=DataReport(name, f"{name}.csv", annotations.classes),
        options=TRAINING,
    )


def test_pickle_is_arrays_only():
    """No Python object per keyframe or box: time, size, movie, two boxes with labels and ids, index, flag."""
    small, large = (len(pickle.dumps(synthetic(n))) for n in (1000, 21000))
    per_keyframe = 8 + 8 + 4 + 8 + 2 * (16 + 2 + 4) + 8 + 1
    assert (large - small) / 20000 == pytest.approx(per_keyframe, abs=0.5)
    assert small - 1000 * per_keyframe < 10000


def test_concat():
    first, second = synthetic(3, name="s"), synthetic(2, name="t")
    assert ActionDataset.concat([first]) is first
    both = ActionDataset.concat([first, second])
    assert len(both) == 5 and both.name == "s+t" and both.is_training
    assert both._paths == ("m.mp4", "n") * 2 and both.annotations.movie.tolist() == [0, 1, 0, 2, 3]
    assert both.aspect_groups().tolist() == [0] * 5


def test_concat_of_real_sets(tmp_path):
    for name, first in (("a", 0), ("b", 100)):
        write_video(tmp_path / name / "videos" / "m.mp4", numbered_frames(30, first=first), 10)
    plain = replace(TRAINING, augmentation=AugmentationPolicy(False, False, tau=4, flip_prob=0))
    parts = [make(tmp_path / name, "m,1,0,0,1,1,1\n", plain) for name in ("a", "b")]
    both = ActionDataset.concat(parts)
    starts = [read_numbers(both[0, i].fast.permute(1, 2, 3, 0).numpy())[0] for i in (0, 1)]
    assert starts == [6, 106]


def test_other_classes():
    first = synthetic(1, name="s")
    with pytest.raises(
        DataError, match=r"data sets s and t have different classes .2 and 3.: id 3 is missing in s.csv"
    ):
        ActionDataset.concat([first, synthetic(1, ("a", "b", "c"), name="t")])
    with pytest.raises(DataError, match="id 2 is 'b' in s.csv and 'x' in t.csv. Give both the same class list"):
        check_same_classes([first, synthetic(1, ("a", "x"), name="t")])
    check_same_classes([first, synthetic(4)])


def test_constructor_checks():
    base = synthetic(3)
    good = {
        "name": "s", "spec": {}, "annotations": base.annotations, "paths": ["m", "n"], "report": base.report,
        "options": TESTING,
    }  # fmt: skip
    scored = PackedBoxes(base.annotations.boxes.first, base.annotations.boxes.xyxy, np.ones(6, np.float32))
    assert len(ActionDataset(**good, detections=scored)) == 3
    for change, message in [
        ({"paths": ["m"]}, "paths: got 1, expected one for each of 2 movies"),
        ({"detections": base.annotations.boxes}, "detections: expected boxes with scores for 3 keyframes"),
        ({"detections": scored, "options": TRAINING}, "training uses the annotated persons"),
        ({"options": replace(TESTING, max_objects=5)}, r"objects: got None, expected boxes .max_objects is 5"),
    ]:
        with pytest.raises(ValueError, match=message):
            ActionDataset(**(good | change))
