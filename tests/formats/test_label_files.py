import json

import pytest

from alphaction.errors import DataError
from alphaction.formats.label_files import read_classes

PBTXT_LABEL = """label {
  name: "bend/bow (at the waist)"
  label_id: 1
  label_type: PERSON_MOVEMENT
}
label { name: "say \\"hi\\"" label_id: 80 label_type: PERSON_INTERACTION }
"""
PBTXT_ITEM = "item {\n  id: 2\n  name: 'sit'\n}\nitem {\n  name: 'stand'\n  id: 5\n}\n"

FILES = [
    ("AVA label map", "map.pbtxt", PBTXT_LABEL, (1, 80), ("bend/bow (at the waist)", 'say "hi"')),
    ("TensorFlow label map", "map.pbtxt", PBTXT_ITEM, (2, 5), ("sit", "stand")),
    ("label map in a text file", "map.txt", PBTXT_ITEM, (2, 5), ("sit", "stand")),
    ("label map on one line", "map.pbtxt", "label{name:'stand' label_id:1} label{name:'sit' label_id:3}", (1, 3),
     ("stand", "sit")),
    ("label map with comments", "map.txt", '# two\nitem: { id: 3 name: "sit" } # first\nitem: { id: 1, name: "stand" }',
     (1, 3), ("stand", "sit")),
    ("braces and quotes", "map.pbtxt", 'item { name: "say \\"hi\\" {loud} # 1" id: 1 }', (1,),
     ('say "hi" {loud} # 1',)),
    ("numbered lines", "map.txt", "# ours\n1: walk\n2: run: fast\n\n", (1, 2), ("walk", "run: fast")),
    ("numbered from 0, unsorted", "map.txt", "1 run\n0 walk\n", (0, 1), ("walk", "run")),
    ("csv with a header", "map.csv", "label_id,label_name\n3,walk\n7,run\n", (3, 7), ("walk", "run")),
    ("a name per line", "map.txt", "\ufeffwalk slowly\nrun\n", (1, 2), ("walk slowly", "run")),
    ("quoted names", "map.csv", 'id,name\n1,"say ""hi"", wave"\n2,say "hi"\n3,\'run\'\n', (1, 2, 3),
     ('say "hi", wave', 'say "hi"', "run")),
    ("json list", "map.json", '["walk", "run"]', (1, 2), ("walk", "run")),
    ("json mapping", "map.json", '{"0": "walk", "4": "run"}', (0, 4), ("walk", "run")),
    ("json categories", "map.json", '{"categories": [{"id": 9, "name": "walk"}, {"id": 3, "name": "run"}]}', (3, 9),
     ("run", "walk")),
]  # fmt: skip


@pytest.mark.parametrize("name, text, ids, names", [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_files(tmp_path, name, text, ids, names):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    classes = read_classes(path)
    assert (classes.ids, classes.names) == (ids, names)
    assert read_classes(str(path)) == classes


def test_names_and_mappings():
    assert read_classes(["walk", "run"]).ids == (1, 2)
    classes = read_classes({"5": "run", 0: "walk"})
    assert (classes.ids, classes.names) == ((0, 5), ("walk", "run"))
    assert read_classes({"a": "run", "b": "walk"}).ids == ("a", "b")


FAULTS = [
    ("nothing", "map.txt", "\n", "no class names found"),
    ("broken json", "map.json", "[1,", "not valid JSON"),
    ("a number", "map.json", "3", "expected a list of class names"),
    ("repeated id", "map.txt", "1: a\n1: b\n", "the class id 1 occurs more than once"),
    ("repeated name", "map.txt", "1: a\n2: a\n", "the class name 'a' occurs more than once"),
    ("no id", "map.pbtxt", 'item { name: "a" }', "block in line 1 has no name or no label_id"),
    ("no id further down", "map.pbtxt", 'item {\n name: "a"\n id: 1\n}\nitem {\n name: "b"\n}\n', "block in line 5"),
    ("no id in json", "map.json", '[{"name": "a"}]', "class 1 has no id"),
    ("empty name", "map.json", '{"1": ""}', "class 1 has no name"),
    ("a fraction", "map.json", '[{"id": 1.5, "name": "a"}]', "got 1.5, expected a whole number"),
]


@pytest.mark.parametrize("name, text, message", [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_faults_name_the_file(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_classes(path)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="none.pbtxt: the file with the class names does not exist"):
        read_classes(tmp_path / "none.pbtxt")


def test_not_text(tmp_path):
    path = tmp_path / "map.txt"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="cannot be read"):
        read_classes(path)


def test_empty_list():
    with pytest.raises(DataError, match="no class names"):
        read_classes([])


def test_long_json_list_of_ids_is_kept_in_order(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps([{"id": i, "name": f"n{i}"} for i in range(80, 0, -1)]))
    assert read_classes(path).ids == tuple(range(1, 81))
