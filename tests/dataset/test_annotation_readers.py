"""The three forms of annotation files, their faults, and the class list."""

import json

import goldens
import numpy as np
import pytest

from alphaction.dataset.annotations import check_num_classes, read_annotations
from alphaction.errors import ConfigError, DataError
from alphaction.formats.label_files import read_classes

GOLDEN = goldens.load("dataset")
KEY = "MODEL.ROI_ACTION_HEAD.NUM_CLASSES"
CLASSES = read_classes(["walk", "run", "jump"])


def write(tmp_path, content, name="train.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def coco(annotations=None, images=None, categories=None):
    """A small file of the guide's form."""
    if images is None:
        images = [{"id": 0, "file_name": "vid/0001.jpg", "width": 64, "height": 48}]
    if annotations is None:
        annotations = [{"id": 7, "image_id": 0, "category_id": 1, "bbox": [1, 2, 10, 20]}]
    if categories is None:
        categories = [{"id": 1, "name": "walk"}, {"id": 2, "name": "run"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def persons(raw):
    """[(movie, time, box, labels, person id, entry)]"""
    return [
        (raw.movies[raw.movie[k]], raw.time[k], raw.boxes[i].tolist(), np.flatnonzero(raw.labels[i]).tolist(),
         int(raw.person_id[i]), raw.entry[i])
        for i, k in enumerate(raw.keyframe.tolist())
    ]  # fmt: skip


# --- AVA JSON


def test_ava_json(tmp_path):
    content = GOLDEN["annotation_file"]
    raw = read_annotations(write(tmp_path, content), None, 80)
    images = sorted(content["images"], key=lambda image: image["id"])
    assert [(raw.movies[m], t) for m, t in zip(raw.movie, raw.time, strict=True)] == [
        (image["movie"], image["timestamp"]) for image in images
    ]
    assert raw.size.tolist() == [[image["height"], image["width"]] for image in images]
    assert raw.entry == [a["id"] for a in sorted(content["annotations"], key=lambda a: a["image_id"])]
    by_id = {a["id"]: a for a in content["annotations"]}
    for movie, _, box, labels, person_id, entry in persons(raw):
        assert box == by_id[entry]["bbox"] and person_id == by_id[entry]["person_id"]
        assert [c + 1 for c in labels] == sorted(by_id[entry]["action_ids"])
        assert movie == images[[i["id"] for i in images].index(by_id[entry]["image_id"])]["movie"]
    assert len(raw.classes) == 80 and raw.classes.names[79] == "80"


@pytest.mark.parametrize("categories", [[], None, GOLDEN["csv_to_json"]["categories"], [{"id": 1, "name": "Person"}]])
def test_ava_json_person_category_is_no_class_list(tmp_path, categories):
    content = GOLDEN["annotation_file"] | {"categories": categories}
    assert len(read_annotations(write(tmp_path, content), None, 80).classes) == 80


def test_ava_json_categories_that_name_the_actions(tmp_path):
    content = GOLDEN["annotation_file"] | {"categories": [{"id": i, "name": f"action {i}"} for i in range(1, 81)]}
    assert read_annotations(write(tmp_path, content), None, 80).classes.names[1] == "action 2"


def test_ava_json_person_without_action_stays(tmp_path):
    content = coco([{"id": 1, "image_id": 0, "action_ids": [], "bbox": [0, 0, 5, 5]},
                    {"id": 2, "image_id": 0, "action_ids": ["2", 1], "bbox": [0, 0, 5, 5]}])  # fmt: skip
    assert [p[3] for p in persons(read_annotations(write(tmp_path, content)))] == [[], [0, 1]]


# --- COCO JSON of the guide


def test_coco_rows_with_the_same_box_are_one_person(tmp_path):
    annotations = [
        {"id": 1, "image_id": 0, "category_id": 2, "bbox": [1, 2, 10, 20]},
        {"id": 2, "image_id": 0, "category_id": 1, "bbox": [5, 2, 10, 20]},
        {"id": 3, "image_id": 0, "category_id": 1, "bbox": [1, 2, 10, 20.0]},
        {"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20]},
    ]
    images = [{"id": 1, "file_name": "vid/0002.jpg"}, {"id": 0, "file_name": "vid/0001.jpg"}]
    raw = read_annotations(write(tmp_path, coco(annotations, images)))
    assert persons(raw) == [
        ("vid", 1.0, [1, 2, 10, 20], [0, 1], -1, 1),
        ("vid", 1.0, [5, 2, 10, 20], [0], -1, 2),
        ("vid", 2.0, [1, 2, 10, 20], [0], -1, 4),
    ]
    assert raw.size.tolist() == [[0, 0], [0, 0]]
    assert raw.classes.names == ("walk", "run")


@pytest.mark.parametrize(
    "image, movie, time",
    [
        ({"file_name": "vid/0012.jpg"}, "vid", 12.0),
        ({"file_name": "vid/12.5.jpg"}, "vid", 12.5),
        ({"file_name": "vid/000012.250.png"}, "vid", 12.25),
        ({"file_name": "vid/12"}, "vid", 12.0),
        ({"file_name": "train/vid/0012.jpg"}, "vid", 12.0),
        ({"file_name": "a\\vid.v2\\0012.JPG"}, "vid.v2", 12.0),
        ({"movie": "m", "timestamp": "0902"}, "m", 902.0),
        ({"movie": 5, "timestamp": 1.5, "file_name": "whatever.jpg"}, "5", 1.5),
        ({"video_id": "v", "frame_id": 3}, "v", 3.0),
        ({"video_id": 17, "frame_id": 3, "file_name": "vid/0012.jpg"}, "vid", 12.0),
        ({"timestamp": 4, "file_name": "vid/frame_12.jpg", "video_id": "v"}, "v", 4.0),
    ],
)
def test_coco_where_an_image_is(tmp_path, image, movie, time):
    raw = read_annotations(write(tmp_path, coco(images=[{"id": 0, **image}])))
    assert (raw.movies[raw.movie[0]], raw.time[0]) == (movie, time)


@pytest.mark.parametrize(
    "image",
    [{}, {"file_name": "0012.jpg"}, {"file_name": "vid/frame_0012.jpg"}, {"movie": "m"}, {"movie": "", "timestamp": 1},
     {"movie": "m", "timestamp": -1}, {"movie": "m", "timestamp": "noon", "file_name": "m/1.jpg"},
     {"movie": ["m"], "timestamp": 1}],
)  # fmt: skip
def test_coco_image_without_place(tmp_path, image):
    with pytest.raises(DataError, match="image 0 does not say its movie and its time in seconds.*movie_id/0012.jpg"):
        read_annotations(write(tmp_path, coco(images=[{"id": 0, **image}])))


@pytest.mark.parametrize(
    "ids, used, columns",
    [
        ([0, 1, 2], [0, 2], [0, 2]),
        ([1, 2, 3], [1, 3], [0, 2]),
        ([10, 3, 7], [10, 3], [2, 0]),
        (["3", "10", "7"], [10, "3"], [2, 0]),
        (["w", "r", "j"], ["j", "w"], [2, 0]),
    ],
)
def test_coco_category_ids(tmp_path, ids, used, columns):
    categories = [{"id": i, "name": f"name {i}"} for i in ids]
    annotations = [
        {"id": n, "image_id": "0" if n else 0, "category_id": c, "bbox": [n, 0, 5, 5]} for n, c in enumerate(used)
    ]
    raw = read_annotations(write(tmp_path, coco(annotations, categories=categories)), None, 3)
    assert [p[3] for p in persons(raw)] == [[c] for c in columns]
    assert [raw.classes.names[c] for c in columns] == [f"name {c}" for c in used]


def test_coco_string_image_ids_keep_the_order_of_the_file(tmp_path):
    images = [{"id": "b", "file_name": "vid/2.jpg"}, {"id": "a", "file_name": "vid/1.jpg"}]
    raw = read_annotations(write(tmp_path, coco([{"id": 0, "image_id": "a", "category_id": 1, "bbox": [0, 0, 9, 9]}],
                                                images)))  # fmt: skip
    assert raw.time.tolist() == [2, 1] and raw.keyframe.tolist() == [1]


def test_coco_names_decide_when_the_set_has_its_own_class_list(tmp_path):
    categories = [{"id": 0, "name": "Run"}, {"id": 1, "name": "walk"}, {"id": 2, "name": "unused"}]
    raw = read_annotations(write(tmp_path, coco(categories=categories)), CLASSES, 3)
    assert persons(raw)[0][3] == [0] and raw.classes == CLASSES
    assert "matched with the class list by their names" in raw.notes[0]


def test_coco_names_decide_when_the_same_ids_stand_for_other_names(tmp_path):
    categories = [{"id": 1, "name": "run"}, {"id": 2, "name": "walk"}, {"id": 3, "name": CLASSES.names[2]}]
    raw = read_annotations(write(tmp_path, coco(categories=categories)), CLASSES, 3)
    assert persons(raw)[0][3] == [CLASSES.names.index("run")] and raw.classes == CLASSES


def test_coco_ids_decide_when_no_name_is_known(tmp_path):
    raw = read_annotations(write(tmp_path, coco(categories=[{"id": 1, "name": "x"}])), CLASSES, 3)
    assert persons(raw)[0][3] == [0]


def test_coco_without_categories_counts_from_one(tmp_path):
    assert len(read_annotations(write(tmp_path, coco(categories=[])), None, 4).classes) == 4
    assert len(read_annotations(write(tmp_path, coco(categories=[])), None, 0).classes) == 1


def test_images_of_the_same_moment_are_one_keyframe(tmp_path):
    images = [{"id": 0, "file_name": "vid/1.jpg"}, {"id": 1, "file_name": "vid/0001.png"}]
    raw = read_annotations(write(tmp_path, coco(images=images)))
    assert len(raw) == 1 and dict(raw.image_rows) == {0: 0, 1: 0}
    assert "1 images repeat the movie and time of another" in raw.notes[0]


def test_annotations_of_unlisted_images_are_counted(tmp_path):
    good = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 5, 5]}
    raw = read_annotations(write(tmp_path, coco([good, good | {"id": 2, "image_id": 9}])))
    assert raw.dropped == {"annotations of an image that is not listed": (1, ["annotation 2 (image_id 9)"])}
    with pytest.raises(DataError, match="no annotation belongs to a listed image, for example annotation 2"):
        read_annotations(write(tmp_path, coco([good | {"id": 2, "image_id": 9}])))


JSON_FAULTS = [
    ("not json", "{not json", "not valid JSON"),
    ("empty", "  \n", "the annotation file is empty"),
    ("a list", [1], "expected a JSON object with the lists 'images' and 'annotations', got a list"),
    ("no images", {"annotations": []}, "has no list 'images' .its keys: annotations"),
    ("empty images", {"images": [], "annotations": []}, "has no images"),
    ("no annotations", {"images": [{}], "info": 1}, "has no list 'annotations'"),
    ("image is text", {"images": ["a"], "annotations": []}, "entry 0 of 'images' is 'a', expected an object"),
    ("image without id", coco(images=[{"file_name": "v/1.jpg"}]), "an image has the id None"),
    ("repeated image id", coco(images=[{"id": 0, "file_name": f"v/{i}.jpg"} for i in (1, 2)]),
     "image id 0 occurs more than once"),
    ("width is text", coco(images=[{"id": 0, "file_name": "v/1.jpg", "width": "wide"}]),
     "image 0 has the width 'wide'"),
    ("no bbox", coco([{"id": 3, "image_id": 0, "category_id": 1}]), "annotation 3 has the bbox None, expected four"),
    ("three numbers", coco([{"id": 3, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3]}]),
     r"annotation 3 has the bbox \[1, 2, 3\], expected four numbers"),
    ("no category", coco([{"id": 3, "image_id": 0, "bbox": [1, 2, 3, 4]}]),
     "annotation 3 has the category_id None, expected the id of one action"),
    ("actions no list", coco([{"id": 3, "image_id": 0, "action_ids": 2, "bbox": [1, 2, 3, 4]}]),
     "annotation 3 has the action_ids 2, expected a list"),
    ("nested action", coco([{"id": 3, "image_id": 0, "action_ids": [[2]], "bbox": [1, 2, 3, 4]}]),
     r"annotation 3 has the action id \[2\], which is not in the class list"),
    ("unknown category", coco([{"id": i, "image_id": 0, "category_id": 5, "bbox": [1, 2, 3, i]} for i in (3, 4)]),
     r"annotation 3 has the action id 5, which is not in the class list: 2 classes, ids 1 to 2 .* 1 more"),
    ("category twice", coco(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
     "class id 1 occurs more than"),
]  # fmt: skip


@pytest.mark.parametrize("content, message", [case[1:] for case in JSON_FAULTS], ids=[case[0] for case in JSON_FAULTS])
def test_json_faults(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=message) as error:
        read_annotations(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(DataError, match="none.csv: the annotation file does not exist"):
        read_annotations(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_annotations(tmp_path)
    path = tmp_path / "train.csv"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(DataError, match="neither JSON nor a CSV text"):
        read_annotations(path)
    (tmp_path / "train.json").write_bytes(bytes(range(128, 256)))
    with pytest.raises(DataError, match="not valid JSON"):
        read_annotations(tmp_path / "train.json")


# --- CSV


ROWS = "v,0902,0.1,0.2,0.5,0.6,1,4\nv,902,0.1,0.2,0.5,0.6,3,4\nu,3.25,0.0,0.0,1.0,1.0,2,0\nv,1,0.2,0.2,0.5,0.6,2,4\n"


def test_csv(tmp_path):
    raw = read_annotations(write(tmp_path, ROWS, "train.csv"), CLASSES, 3)
    assert raw.normalised and raw.entry_name == "line"
    assert persons(raw) == [
        ("v", 1.0, [0.2, 0.2, 0.5, 0.6], [1], 4, 4),
        ("v", 902.0, [0.1, 0.2, 0.5, 0.6], [0, 2], 4, 1),
        ("u", 3.25, [0.0, 0.0, 1.0, 1.0], [1], 0, 3),
    ]
    assert raw.name_person(1) == "line 1, v at 902 s"


CSV_FORMS = [
    ("header in AVA's order", "video_id,timestamp,x1,y1,x2,y2,action_id,person_id\n" + ROWS),
    ("header in other words", "Film,Zeit,a,b,c,d,e,f\n" + ROWS),
    ("byte order mark, blank lines, comment", "\ufeff# ours\n\n" + ROWS.replace("\n", "\r\n")),
    ("spaces", ROWS.replace(",", ", ")),
]


@pytest.mark.parametrize("text", [case[1] for case in CSV_FORMS], ids=[case[0] for case in CSV_FORMS])
def test_csv_forms(tmp_path, text):
    want = [p[:5] for p in persons(read_annotations(write(tmp_path, ROWS, "a.csv"), CLASSES))]
    assert [p[:5] for p in persons(read_annotations(write(tmp_path, text, "b.csv"), CLASSES))] == want


def test_csv_header_names_the_columns_in_any_order(tmp_path):
    text = "action,xmin,ymin,xmax,ymax,movie,second\n2,0.1,0.2,0.5,0.6,v,7\n"
    assert persons(read_annotations(write(tmp_path, text, "a.csv"), CLASSES)) == [
        ("v", 7.0, [0.1, 0.2, 0.5, 0.6], [1], -1, 2)
    ]


def test_csv_without_person_id_and_empty_keyframes(tmp_path):
    text = "v,1,0.1,0.2,0.5,0.6,1\nv,2\nv,3,,,,,\nv,4,0.1,0.2,0.5,0.6,\n"
    raw = read_annotations(write(tmp_path, text, "a.csv"), CLASSES)
    assert raw.time.tolist() == [1, 2, 3, 4] and raw.keyframe.tolist() == [0] and raw.person_id.tolist() == [-1]
    assert raw.dropped == {"boxes without an action": (1, ["line 4"])}


def test_csv_persons_with_names_and_classes_by_name(tmp_path):
    text = "v,1,0.1,0.2,0.5,0.6,run,ann\nv,1,0.1,0.2,0.5,0.6,walk,bob\nv,2,0.1,0.2,0.5,0.6,walk,ann\n"
    raw = read_annotations(write(tmp_path, text, "a.csv"), CLASSES)
    assert raw.person_id.tolist() == [0, 1, 0]
    assert [p[3] for p in persons(raw)] == [[1], [0], [0]]


def test_csv_without_class_list_takes_the_largest_id(tmp_path):
    path = write(tmp_path, ROWS, "a.csv")
    assert read_annotations(path).classes.ids == (1, 2, 3)
    assert read_annotations(path, None, 5).classes.names == ("1", "2", "3", "4", "5")


CSV_FAULTS = [
    (
        "id 9",
        "v,1,0.1,0.2,0.5,0.6,1\nv,1,0.1,0.2,0.5,0.6,9\n",
        "line 2 has the action id '9', which is not in .* 3 classes",
    ),
    ("id 0", "v,1,0.1,0.2,0.5,0.6,0\n", "action id '0'.*Ids that begin at 0 need a class list that says so"),
    ("no number", "v,1,0.1,0.2,0.5,0.6,1\nv,1,0.1,left,0.5,0.6,1\n", "line 2 has the box '0.1,left,0.5,0.6'"),
    (
        "no time",
        "v,1,0.1,0.2,0.5,0.6,1\nv,later,0.1,0.1,0.5,0.6,1\n",
        "line 2 has the video 'v' and the timestamp 'later'",
    ),
    ("no video", "v,1,0.1,0.2,0.5,0.6,1\n,2,0.1,0.1,0.5,0.6,1\n", "line 2 has the video ''"),
    ("cut off", "v,1,0.1,0.2,0.5,0.6,1\nv,2,0.1,0.2,0.", "line 2 has 5 columns, expected video_id.* cut off"),
    ("six columns", "v,1,0.1,0.2,0.5,0.6\n", "the first row has 6 columns, expected 7 or 8"),
    ("no time in the first row", "v,later,0.1,0.2,0.5,0.6,1\n", "neither a row nor a header"),
    ("header only", "video_id,timestamp,x1,y1,x2,y2,action_id\n", "no usable rows"),
    ("half a header", "video_id,timestamp,left,top,right,bottom,action\nv,1,0,0,1,1,1\n", "missing: x1, y1, x2, y2"),
    ("semicolons", ROWS.replace(",", ";"), "the first line is neither a row nor a header"),
    ("pixels", "v,1,100,200,300,400,1\n", r"boxes look like pixels .line 1: \[100.0, 200.0, 300.0, 400.0\]"),
]


@pytest.mark.parametrize("text, message", [case[1:] for case in CSV_FAULTS], ids=[case[0] for case in CSV_FAULTS])
def test_csv_faults(tmp_path, text, message):
    path = write(tmp_path, text, "train.csv")
    with pytest.raises(DataError, match=message) as error:
        read_annotations(path, CLASSES, 3, classes_origin="labels.txt")
    assert str(path) in str(error.value)


def test_csv_without_any_action_and_class_list(tmp_path):
    with pytest.raises(DataError, match=f"number of classes cannot be told.*set {KEY}"):
        read_annotations(write(tmp_path, "v,1\n", "a.csv"))


# --- the number of classes


def test_num_classes_against_categories(tmp_path):
    path = write(tmp_path, coco())
    with pytest.raises(
        ConfigError, match=f"{KEY} is 80, but 'categories' of .*train.json defines 2 classes. Set .* to 2"
    ):
        read_annotations(path, None, 80)


def test_num_classes_against_the_class_list(tmp_path):
    with pytest.raises(ConfigError, match=f"{KEY} is 80, but labels.pbtxt defines 3 classes"):
        read_annotations(write(tmp_path, ROWS, "a.csv"), CLASSES, 80, classes_origin="labels.pbtxt")
    check_num_classes(0, 3, "x")
    check_num_classes(3, 3, "x")


def test_id_beyond_num_classes_names_the_key(tmp_path):
    content = GOLDEN["annotation_file"]
    wrong = next(a for a in content["annotations"] if max(a["action_ids"]) > 60)
    with pytest.raises(DataError, match=f"annotation {wrong['id']} has the action id .* 60 classes.*{KEY} is 60"):
        read_annotations(write(tmp_path, content), None, 60)
