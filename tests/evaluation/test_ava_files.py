"""AVA's files: reading quickly and patiently, errors that name the line, writing as recorded."""

import csv
import io
import logging

import goldens
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.errors import DataError, UserError
from alphaction.evaluation import ImageIndex, csv_bytes, read_detections, read_exclusions, read_ground_truth, result_csv
from alphaction.evaluation import ava_csv as reader
from alphaction.evaluation.ava import ground_truth_of, result_rows, second_text
from alphaction.evaluation.result_csv import UNITS, write_rows
from alphaction.structures import Annotations, ClassList, PackedBoxes, Predictions

CLASSES = ClassList((1, 3, 12), ("stand", "walk", "talk"))


def read(folder, text, *, truth=False, classes=CLASSES):
    path = folder / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    images = ImageIndex()
    return images, (read_ground_truth if truth else read_detections)(path, images=images, classes=classes)


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (902, "0902"),
        (902.0, "0902"),
        ("902", "0902"),
        ("0902", "0902"),
        (0, "0000"),
        (12.5, "12.5"),
        ("12.50", "12.5"),
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.333333"),
        (12345, "12345"),
    ],
)
def test_seconds_have_one_spelling(second, text):
    assert second_text(second) == text


def test_reads_rows_and_leaves_out_other_classes(tmp_path):
    text = (
        "a,0902,0.1,0.2,0.3,0.4,1,0.5\na,902,0.1,0.2,0.3,0.4,12,0.25\na,902,0.1,0.2,0.3,0.4,7,1\nb,1.5,0,0,1,1,3,1e-3\n"
    )
    images, (detections, unknown) = read(tmp_path, text)
    assert images.keys == [("a", "0902"), ("b", "1.5")]
    assert unknown == {"7": 1}
    np.testing.assert_array_equal(detections.label, [0, 2, 1])
    np.testing.assert_array_equal(detections.score, [0.5, 0.25, 0.001])
    np.testing.assert_array_equal(detections.image[detections.box], [0, 0, 1])
    np.testing.assert_array_equal(
        detections.xyxy[detections.box], [[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a,1,0,0,1,1,3,0.5\r\na,2,0,0,1,1,3,0.5\r\n", id="CR LF"),
        pytest.param("a,1,0,0,1,1,3,0.5\na,2,0,0,1,1,3,0.5", id="no line end at the end"),
        pytest.param("\n a , 1, 0,0,1,1, 03 ,0.5\n\na,2,0,0,1,1,3,.5\n", id="blanks and empty lines"),
        pytest.param(b"\xef\xbb\xbfa,1,0,0,1,1,3,0.5\na,2,0,0,1,1,3,5e-1\n", id="byte order mark"),
        pytest.param('"a",1,0,0,1,1,3,0.5\na,"2",0,0,1,1,3,0.5\n', id="quotes"),
    ],
)
def test_spellings_of_the_same_rows(tmp_path, text):
    images, (detections, _) = read(tmp_path, text)
    assert images.keys == [("a", "0001"), ("a", "0002")]
    np.testing.assert_array_equal(detections.label, [1, 1])
    np.testing.assert_array_equal(detections.score, [0.5, 0.5])


def test_names_may_have_commas_and_any_letters(tmp_path):
    images, _ = read(tmp_path, '"a,b",1,0,0,1,1,3,0.5\nvidéo 映画,2,0,0,1,1,3,0.5\n')
    assert images.keys == [("a,b", "0001"), ("vidéo 映画", "0002")]


def test_rows_of_two_columns_are_images_without_boxes(tmp_path):
    images, (truth, _) = read(tmp_path, "a,1\nb,2,0,0,1,1,3\nc,3,,,,,\n", truth=True)
    np.testing.assert_array_equal(truth.image, [images("b", 2)])
    np.testing.assert_array_equal(truth.annotated(), [0, 1, 2])


def test_ground_truth_does_not_look_at_the_eighth_column(tmp_path):
    _, (truth, _) = read(tmp_path, "a,1,0,0,1,1,3,somebody\n", truth=True)
    assert len(truth.image) == 1


def test_text_class_ids(tmp_path):
    classes = ClassList(("run", "sit down"), ("run", "sit down"))
    _, (detections, unknown) = read(tmp_path, "a,1,0,0,1,1,sit down,1\na,1,0,0,1,1,fly,1\n", classes=classes)
    np.testing.assert_array_equal(detections.label, [1])
    assert unknown == {"fly": 1}


def test_missing_scores_are_counted_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, (detections, _) = read(tmp_path, "a,1,0,0,1,1,3\na,2,0,0,1,1,3\n")
    np.testing.assert_array_equal(detections.score, [1, 1])
    assert "2 rows have no score; they count with score 1" in caplog.text


def test_empty_file(tmp_path):
    _, (detections, unknown) = read(tmp_path, "")
    assert len(detections) == 0
    assert unknown == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1,0,0,1,1,3,0.5\na,1,0,0,1,1\n", "rows.csv, line 2: 6 columns, expected 7 or 8"),
        ("a,1,0,0,1,1,3,0.5,9\n", "line 1: 9 columns"),
        ("a,1,0,zero,1,1,3,0.5\n", "line 1: y1 is 'zero', expected a number"),
        ("a,1,0,0,1,1,3,0.5\n\na,1,0,0,1,1,3,high\n", "line 3: score is 'high', expected a number"),
        ("a,1,0,0,1,1,3,nan\n", "line 1: score is nan, expected a finite number"),
        ("a,1,0,0,inf,1,3,0.5\n", "line 1: x2 is inf, expected a finite number"),
        ("a,first,0,0,1,1,3,0.5\n", "line 1: the second column is 'first', expected a number of seconds"),
        ("a,1,10,20,300,400,3,0.5\n", "coordinates up to 400, expected 0..1"),
        (b"\xff\xfe\x00a,1", "not a CSV text file"),
    ],
)
def test_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(DataError) as error:
        read(tmp_path, text)
    assert message in str(error.value)


def test_inverted_ground_truth_names_the_line(tmp_path):
    with pytest.raises(DataError, match=r"line 2: box 0.5, 0, 0.4, 1 has x2 < x1 or y2 < y1"):
        read(tmp_path, "a,1,0,0,1,1,3\na,1,0.5,0,0.4,1,3\n", truth=True)
    _, (detections, _) = read(tmp_path, "a,1,0.5,0,0.4,1,3,1\n")
    assert len(detections) == 1  # of a detector: left out later, as the official evaluation does


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"gone.csv: cannot be read \(No such file"):
        read_ground_truth(tmp_path / "gone.csv", images=ImageIndex(), classes=CLASSES)


DIGITS = st.text("0123456789", min_size=1, max_size=18)
FIELD = st.one_of(
    st.floats(0, 1).map(repr),
    st.floats(0, 1).map(lambda x: f"{x:.5f}"),
    st.builds("{}.{}".format, st.sampled_from(["0", "1", "", "00"]), DIGITS),
    st.sampled_from(["0", "1", "1.", "1e-5", "-0.5", "+0.25", "0x1", "1_0", "..", "", " 0.5", "infinity"]),
)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["movie", "m"]),
            st.sampled_from(["902", "0902", "1.5", "7"]),
            *[st.sampled_from(["0.1", "0.10000", "1", "0.123456789"])] * 4,
            st.sampled_from(["1", "3", "12", "03", "5", "123456789", "x"]),
            FIELD,
        ),
        max_size=12,
    ),
    chunk=st.sampled_from([1, 64, 1 << 20]),
)
def test_the_quick_reader_agrees_with_the_patient_one(tmp_path_factory, rows, chunk):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    index = {"1": 0, "3": 1, "12": 2}

    def attempt(read_with, images):
        try:
            return read_with(path, images, index, True, True).table(), images.keys
        except DataError:
            return None, None

    patient, keys = attempt(reader._read_patiently, ImageIndex())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_bytes, "CHUNK_BYTES", chunk)
        try:
            quick, quick_keys = attempt(reader._read_quickly, ImageIndex())
        except csv_bytes.UnusualError:
            return
    assert quick_keys == keys
    for name in ("label", "score", "images"):
        np.testing.assert_array_equal(getattr(quick, name), getattr(patient, name))
    np.testing.assert_array_equal(quick.xyxy[quick.box], patient.xyxy[patient.box])
    np.testing.assert_array_equal(quick.image[quick.box], patient.image[patient.box])
    assert quick.unknown == patient.unknown


def test_a_header_may_name_the_columns(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("action_id,video_id,timestamp,x1,y1,x2,y2,person_id,score\n1,m,0902,0.1,0.2,0.3,0.4,7,0.5\n")
    classes = ClassList((1,), ("walk",))
    truth, _ = read_ground_truth(path, images=ImageIndex(), classes=classes)
    np.testing.assert_array_equal(truth.xyxy, [[0.1, 0.2, 0.3, 0.4]])
    found, _ = read_detections(path, images=ImageIndex(), classes=classes)
    np.testing.assert_array_equal(found.score, [0.5])
    path.write_text("video_id,timestamp,x1,y1,x2,y2,action_id\nm,0902,0.1,0.2\n")
    with pytest.raises(DataError, match="line 2: x2 is '', expected a number"):
        read_ground_truth(path, images=ImageIndex(), classes=classes)


def test_the_shortest_file_is_left_to_the_patient_reader(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(",,,,,,")
    with pytest.raises(csv_bytes.UnusualError):
        reader._read_quickly(path, ImageIndex(), {"1": 0}, True, True)


def test_files_as_programs_write_them_take_the_quick_way(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("".join(f"m,{i // 4:04d},0.1,0.2,0.{i // 2 + 3},1,{i % 2 * 2 + 1},0.{i:05d}\r\n" for i in range(8)))
    table = reader._read_quickly(path, ImageIndex(), {"1": 0, "3": 1}, True, True).table()
    assert len(table.xyxy) == 4  # equal neighbours are stored once
    np.testing.assert_array_equal(table.score, np.arange(8) / 1e5)


# --- Exclusions


def test_exclusions(tmp_path):
    path = tmp_path / "excluded.csv"
    path.write_text("a,0903\nb,7\n")
    images = ImageIndex()
    images("b", 7)
    np.testing.assert_array_equal(read_exclusions(path, images=images), [1, 0])
    path.write_text("a,0903,1\n")
    with pytest.raises(DataError, match="line 1: 3 columns, expected 2"):
        read_exclusions(path, images=images)


# --- Predictions as rows


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("rows_at_once", [1, 40, 1 << 17])
def test_rows_are_written_as_plain_text_would_be(dense, rows_at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(result_csv, "_CHUNK_ROWS", rows_at_once)
    rng = np.random.default_rng(0)
    images = [("movie", "0902"), ("a,b", "12.5"), ("é", "0001"), ("other", "0903")]
    class_ids = [1, 2, 10, "sit, down", 300, 4]
    image = np.sort(rng.integers(0, 4, 30))
    corners = rng.integers(0, UNITS + 1, (30, 4))
    box, label = np.repeat(np.arange(30), 6), np.tile(np.arange(6), 30)
    if not dense:
        keep = rng.random(len(box)) < 0.7
        box, label = box[keep], label[keep]
    score = rng.integers(0, UNITS + 1, len(box))
    write_rows(
        tmp_path / "r.csv",
        images=images, image=image, corners=corners, box=box, label=label, score=score, class_ids=class_ids,
    )  # fmt: skip
    texts = io.StringIO(newline="")
    writer = csv.writer(texts)
    for b, k, units in zip(box, label, score, strict=True):
        writer.writerow(
            [*images[image[b]], *(f"{c / UNITS:.5f}" for c in corners[b]), class_ids[k], f"{units / UNITS:.5f}"]
        )
    assert (tmp_path / "r.csv").read_bytes().decode() == texts.getvalue()


def annotations_of(movies, times, sizes, num_classes, boxes=None, labels=None, owner=()):
    boxes = np.zeros((0, 4), np.float32) if boxes is None else np.array(boxes, np.float32)
    return Annotations(
        classes=ClassList(tuple(range(1, num_classes + 1)), tuple(f"class {k}" for k in range(1, num_classes + 1))),
        movies=tuple(movies),
        movie=np.arange(len(movies), dtype=np.int32),
        time=np.array(times, np.float64),
        size=np.array(sizes, np.int32).reshape(-1, 2),
        boxes=PackedBoxes(np.searchsorted(owner, np.arange(len(movies) + 1)), boxes),
        labels=np.zeros((len(boxes), num_classes), bool) if labels is None else np.array(labels, bool),
        person_id=np.full(len(boxes), -1, np.int32),
    )


def test_result_csv_as_recorded(tmp_path):
    recorded = GOLDEN["prediction_to_csv"]
    inputs = recorded["inputs"]
    num_classes = max(len(scores) for clip in inputs for scores in clip["scores"])
    annotations = annotations_of(
        [clip["movie"] for clip in inputs],
        [clip["timestamp"] for clip in inputs],
        [clip["original_wh"][::-1] for clip in inputs],
        num_classes,
    )
    keyframe = np.repeat(np.arange(len(inputs)), [len(clip["boxes"]) for clip in inputs])
    predictions = Predictions(
        keyframe=keyframe,
        boxes=np.array([box for clip in inputs for box in clip["boxes"]], np.float32),
        clip_size=np.array([inputs[i]["size_wh"][::-1] for i in keyframe], np.int32),
        box_scores=np.ones(len(keyframe), np.float32),
        scores=np.array([scores for clip in inputs for scores in clip["scores"]], np.float32),
    )
    images, image = ImageIndex.of(annotations)
    rows = result_rows(predictions, annotations=annotations, image=image, action_threshold=recorded["score_threshold"])
    rows.write(tmp_path / "result.csv", images=images, class_ids=annotations.classes.ids)
    got = (tmp_path / "result.csv").read_bytes().decode().split("\r\n")
    want = recorded["csv"].split("\r\n")
    assert len(got) == len(want)
    for mine, theirs in zip(got[:-1], want[:-1], strict=True):
        mine, theirs = mine.split(","), theirs.split(",")
        assert [mine[i] for i in (0, 1, 6)] == [theirs[i] for i in (0, 1, 6)]
        for i in (2, 3, 4, 5, 7):
            assert len(mine[i]) == len(theirs[i])
            assert float(mine[i]) == pytest.approx(float(theirs[i]), abs=1.001e-5)


def test_the_evaluator_gets_the_numbers_of_the_file(tmp_path):
    rng = np.random.default_rng(0)
    annotations = annotations_of(["a", 'b"c,d', "é"], [902, 1.5, 3], [[100, 150]] * 3, 4)
    predictions = Predictions(
        keyframe=np.array([0, 0, 1, 2]),
        boxes=rng.uniform(0, 60, (4, 4)).astype(np.float32),
        clip_size=np.full((4, 2), 64, np.int32),
        box_scores=np.ones(4, np.float32),
        scores=rng.random((4, 4)).astype(np.float32),
    )
    images, image = ImageIndex.of(annotations)
    rows = result_rows(predictions, annotations=annotations, image=image)
    rows.write(tmp_path / "result.csv", images=images, class_ids=annotations.classes.ids)
    written, _ = read_detections(tmp_path / "result.csv", images=images, classes=annotations.classes)
    direct = rows.detections(np.arange(4))
    assert len(images) == 3
    np.testing.assert_array_equal(written.image[written.box], direct.image[direct.box])
    np.testing.assert_array_equal(written.xyxy[written.box], direct.xyxy[direct.box])
    np.testing.assert_array_equal(written.label, direct.label)
    np.testing.assert_allclose(written.score, direct.score, rtol=1e-7)


def test_scores_are_rounded_as_text_is(tmp_path):
    scores = np.random.default_rng(1).random(5000).astype(np.float32)
    scores[:6] = [0, 1, 0.5, 2**-17, 3 * 2**-6, 0.999995]
    box = np.zeros(len(scores), np.int32)
    predictions = Predictions(
        np.zeros(len(scores), np.int64),
        np.zeros((len(scores), 4), np.float32),
        np.full((len(scores), 2), 10, np.int32),
        np.ones(len(scores), np.float32),
        scores[:, None],
    )
    rows = result_rows(predictions, annotations=annotations_of(["a"], [1], [[10, 10]], 1), image=np.zeros(1, np.int64))
    assert [f"{units // UNITS}.{units % UNITS:05d}" for units in rows.score] == [f"{s:.5f}" for s in scores.tolist()]
    assert len(box) == len(rows)


def test_rows_are_written_beside_other_work(tmp_path):
    annotations = annotations_of(["a"], [1], [[10, 10]], 2)
    predictions = Predictions(
        np.array([0]),
        np.zeros((1, 4), np.float32),
        np.full((1, 2), 10, np.int32),
        np.ones(1, np.float32),
        np.array([[0.5, 0.25]], np.float32),
    )
    images, image = ImageIndex.of(annotations)
    rows = result_rows(predictions, annotations=annotations, image=image)
    options = {"images": images, "class_ids": [1, 2]}
    with rows.writing(tmp_path / "result.csv", **options):
        images("another", 5)
    assert (tmp_path / "result.csv").read_text().splitlines() == [
        "a,0001,0.00000,0.00000,0.10000,0.10000,1,0.50000",
        "a,0001,0.00000,0.00000,0.10000,0.10000,2,0.25000",
    ]
    with pytest.raises(UserError, match="cannot be written"), rows.writing(tmp_path / "result.csv" / "x", **options):
        pass
    with pytest.raises(KeyError), rows.writing(tmp_path / "again.csv", **options):
        raise KeyError
    assert (tmp_path / "again.csv").exists()  # the work's own error does not cut it off


def test_diverged_scores_are_one_clear_error():
    annotations = annotations_of(["a", "b"], [1, 2], [[10, 10]] * 2, 2)
    predictions = Predictions(
        np.array([0, 1]),
        np.zeros((2, 4), np.float32),
        np.full((2, 2), 10, np.int32),
        np.ones(2, np.float32),
        np.array([[0.5, 0.5], [0.5, np.nan]], np.float32),
    )
    with pytest.raises(UserError, match=r"scores of 1 of 2 persons are NaN.* video b at second 2.*BASE_LR"):
        result_rows(predictions, annotations=annotations, image=np.arange(2))


def test_own_annotations_as_ground_truth():
    annotations = annotations_of(
        ["a", "b", "c", "d"],
        [1, 2, 3, 4],
        [[50, 100]] * 4,
        3,
        [[10, 5, 49, 24], [0, 0, 99, 49], [0, 0, 1, 1]],
        [[1, 0, 1], [0, 1, 0], [1, 0, 0]],
        (0, 1, 3),
    )
    truth = ground_truth_of(annotations, image=np.arange(4), classes=ClassList((3, 2), ("c", "b")))
    np.testing.assert_array_equal(truth.image, [0, 1])
    np.testing.assert_array_equal(truth.label, [0, 1])
    np.testing.assert_array_equal(truth.annotated(), [0, 1, 3])  # the last has a box of another class, the third none
    np.testing.assert_allclose(truth.xyxy, [[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]])  # the far edge: one pixel more


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path):
    arrays = {"image": np.array([0]), "corners": np.array([[0, 0, 1, 1]]), "box": np.array([0]), "label": np.array([9])}
    with pytest.raises(IndexError):
        write_rows(tmp_path / "r.csv", images=[("a", "1")], score=np.array([5]), class_ids=[1], **arrays)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_rows(tmp_path / "file" / "r.csv", images=[("a", "1")], score=np.array([5]), class_ids=[1] * 10, **arrays)


GOLDEN = goldens.load("ava_eval")
