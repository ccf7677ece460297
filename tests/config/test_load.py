import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yacs.config import CfgNode

from alphaction.config import changed_keys, get_cfg, load_config
from alphaction.config.merge import coerce, leaves
from alphaction.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(text, name="my.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def get(cfg, key):
    return dict(leaves(cfg))[key]


def same(value, expected):
    return type(value) is type(expected) and value == expected


# What a user writes in a file -> what the key then holds, in value and in type.
FROM_FILE = [
    ("SOLVER.STEPS", "(50000, 70000)", (50000, 70000)),
    ("SOLVER.STEPS", "[50000, 70000]", (50000, 70000)),
    ("SOLVER.STEPS", "'(50000, 70000)'", (50000, 70000)),
    ("SOLVER.STEPS", "(5e4, 7e4)", (50000, 70000)),
    ("SOLVER.STEPS", "(50000)", (50000,)),
    ("SOLVER.STEPS", "50000", (50000,)),
    ("SOLVER.STEPS", "()", ()),
    ("SOLVER.STEPS", "[]", ()),
    ("SOLVER.STEPS", "", ()),
    ("SOLVER.STEPS", "50000, 70000", (50000, 70000)),
    ("SOLVER.WEIGHT_DECAY", "1e-7", 1e-7),
    ("SOLVER.WEIGHT_DECAY", "0", 0.0),
    ("SOLVER.WEIGHT_DECAY", "'0.5'", 0.5),
    ("SOLVER.BASE_LR", "4e-4", 0.0004),
    ("SOLVER.BASE_LR", "1", 1.0),
    ("SOLVER.BASE_LR", ".inf", math.inf),
    ("SOLVER.BIAS_LR_FACTOR", "2", 2),
    ("SOLVER.BIAS_LR_FACTOR", "1.5", 1.5),
    ("SOLVER.MAX_ITER", "9e4", 90000),
    ("SOLVER.MAX_ITER", "90000.0", 90000),
    ("DATASETS.TRAIN", '("a",)', ("a",)),
    ("DATASETS.TRAIN", '("a", "b")', ("a", "b")),
    ("DATASETS.TRAIN", "[a, b]", ("a", "b")),
    ("DATASETS.TRAIN", '("a")', ("a",)),
    ("DATASETS.TRAIN", "path/to/dataset.yaml:train", ("path/to/dataset.yaml:train",)),
    ("DATASETS.TRAIN", "()", ()),
    ("DATASETS.TRAIN", "", ()),
    ("TEST.EXTEND_SCALE", "(0, 1e-1)", (0.0, 0.1)),
    ("TEST.EXTEND_SCALE", "[0, 1e-1]", (0.0, 0.1)),
    ("MODEL.IA_STRUCTURE.LENGTH", "[15, 15]", (15, 15)),
    ("MODEL.IA_STRUCTURE.I_BLOCK_LIST", "['P', 'M']", ["P", "M"]),
    ("MODEL.IA_STRUCTURE.I_BLOCK_LIST", "('P', 'M')", ["P", "M"]),
    ("MODEL.IA_STRUCTURE.I_BLOCK_LIST", "[[P, O], [M]]", [["P", "O"], ["M"]]),
    ("INPUT.PIXEL_STD", "[1, 2, 3]", [1.0, 2.0, 3.0]),
    ("INPUT.SLOW_JITTER", "true", True),
    ("INPUT.SLOW_JITTER", "yes", True),
    ("INPUT.SLOW_JITTER", "'True'", True),
    ("MODEL.WEIGHT", "a/b.pth", "a/b.pth"),
    ("MODEL.WEIGHT", "", ""),
    ("MODEL.IA_STRUCTURE.ROI_DIM_REDUCE", "False", False),
]


@pytest.mark.parametrize(("key", "written", "expected"), FROM_FILE)
def test_values_in_a_file(write, key, written, expected):
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
    value = get(load_config(write(f"{text}{'  ' * len(sections)}{name}: {written}\n")), key)
    assert same(value, expected)


FROM_COMMAND_LINE = [
    ("SOLVER.STEPS", "(560000, 720000)", (560000, 720000)),
    ("SOLVER.STEPS", "560000,720000", (560000, 720000)),
    ("SOLVER.BASE_LR", "0.000125", 0.000125),
    ("SOLVER.BASE_LR", "1", 1.0),
    ("SOLVER.MAX_ITER", "880000", 880000),
    ("DATASETS.TRAIN", "('a',)", ("a",)),
    ("DATASETS.TRAIN", "a", ("a",)),
    ("MODEL.IA_STRUCTURE.I_BLOCK_LIST", "['P','O']", ["P", "O"]),
    ("MODEL.WEIGHT", "data/model_final.pth", "data/model_final.pth"),
    ("MODEL.WEIGHT", "'quoted.pth'", "quoted.pth"),
    ("OUTPUT_DIR", "2024", "2024"),
    ("OUTPUT_DIR", "(odd) name", "(odd) name"),
    ("MODEL.DEVICE", "cuda:1", "cuda:1"),
    ("INPUT.SLOW_JITTER", "true", True),
    ("INPUT.SLOW_JITTER", "False", False),
    # Python values, as a program gives them
    ("MODEL.IA_STRUCTURE.LENGTH", [2, 3], (2, 3)),
    ("SOLVER.BASE_LR", 1, 1.0),
    ("QUIRKS.SWAP_CLIP_SIZE", True, True),
]


@pytest.mark.parametrize(("key", "given_value", "expected"), FROM_COMMAND_LINE)
def test_values_on_the_command_line(key, given_value, expected):
    assert same(get(load_config("", [key, given_value]), key), expected)


def test_overrides_come_after_the_file_and_the_last_one_wins(write):
    path = write("SOLVER:\n  STEPS: ()\n  MAX_ITER: 5\n")
    cfg = load_config(path, ["SOLVER.STEPS", "(1, 2)", "SOLVER.MAX_ITER", "6", "SOLVER.MAX_ITER", "7"])
    assert (cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER) == ((1, 2), 7)


def test_the_tree_is_not_frozen_and_its_own(write):
    path = write("INPUT:\n  PIXEL_MEAN: [1, 2, 3]\n")
    first, second = load_config(path), load_config(path)
    assert first == second and not first.is_frozen()
    first.INPUT.PIXEL_MEAN[0] = 9.0
    assert second.INPUT.PIXEL_MEAN == [1.0, 2.0, 3.0]
    assert isinstance(first, CfgNode)


def test_sections_may_be_empty_and_the_file_too(write):
    assert load_config(write("")) == load_config(write("SOLVER:\n  # MAX_ITER: 5\nMODEL:\n")) == get_cfg()
    assert load_config("") == get_cfg()


def test_dotted_keys_and_a_byte_order_mark(write):
    assert load_config(write("\ufeffSOLVER.MAX_ITER: 5\n")).SOLVER.MAX_ITER == 5


# text of the file -> what the message says
BAD_FILES = {
    "unknown key": (
        "SOLVER:\n  BASELR: 1\n",
        ["my.yaml: SOLVER.BASELR: unknown key; the nearest one is SOLVER.BASE_LR"],
    ),
    "wrong section": (
        "MODEL:\n  NUM_CLASSES: 3\n",
        ["MODEL.NUM_CLASSES: unknown key; the nearest one is MODEL.ROI_ACTION_HEAD.NUM_CLASSES"],
    ),
    "lower case": ("solver.base_lr: 1\n", ["solver.base_lr: unknown key; the nearest one is SOLVER.BASE_LR"]),
    "unknown section": ("SOLVERS:\n  MAX_ITER: 1\n", ["SOLVERS: unknown section; the nearest one is SOLVER"]),
    "section moved": ("BACKBONE:\n  A: 1\n", ["BACKBONE: unknown section; the nearest one is MODEL.BACKBONE"]),
    "several at once": (
        "SOLVER:\n  BASELR: 1\n  MAX_ITER: lots\nINPUT:\n  FRAMES_NUM: 3\nTEST: 7\n",
        [
            "config file ",
            "my.yaml:\n  SOLVER.BASELR: unknown key; the nearest one is SOLVER.BASE_LR\n",
            "  SOLVER.MAX_ITER: got 'lots' (text), expected an integer\n",
            "  INPUT.FRAMES_NUM: unknown key; the nearest one is INPUT.FRAME_NUM\n",
            "  TEST: is a section, not a key; got 7; its keys are TEST.VIDEOS_PER_BATCH, ",
        ],
    ),
    "number": ("SOLVER:\n  BASE_LR: fast\n", ["SOLVER.BASE_LR: got 'fast' (text), expected a number"]),
    "number is truth value": ("SOLVER: {BASE_LR: yes}", ["SOLVER.BASE_LR: got True (true/false), expected a number"]),
    "number is missing": ("SOLVER:\n  BASE_LR:\n", ["SOLVER.BASE_LR: got None, expected a number"]),
    "fraction": ("SOLVER: {MAX_ITER: 2.5}", ["SOLVER.MAX_ITER: got 2.5 (number), expected an integer"]),
    "truth value": ("INPUT: {SLOW_JITTER: 1}", ["INPUT.SLOW_JITTER: got 1 (integer), expected True or False"]),
    "text": ("OUTPUT_DIR: 2024\n", ["OUTPUT_DIR: got 2024 (integer), expected text (in a file: put it in quotes)"]),
    "tuple": ("SOLVER: {STEPS: [1, b]}", ["SOLVER.STEPS: got [1, 'b'] (list), expected integers, e.g. (50000, 70000)"]),
    "names": ("DATASETS:\n  TRAIN: (a, b)\n", ["DATASETS.TRAIN: got '(a, b)' (text), expected texts in quotes"]),
    "names are numbers": ("DATASETS: {TRAIN: [1]}", ["DATASETS.TRAIN: got [1] (list), expected texts, e.g. "]),
    "mapping": ("SOLVER:\n  STEPS: {a: 1}\n", ["SOLVER.STEPS: got {'a': 1} (several keys), expected integers"]),
    "twice": ("SOLVER:\n  MAX_ITER: 1\nSOLVER:\n  BASE_LR: 1\n", ["my.yaml, line 3: not valid YAML: the key 'SOLVER'"]),
    "list": ("- 1\n- 2\n", ["my.yaml: holds a list, expected keys with values"]),
    "text only": ("hello", ["my.yaml: holds a str, expected keys with values"]),
    "not YAML": ("SOLVER:\n  A: [1, 2\n", ["my.yaml, line 3: not valid YAML: "]),
    "tab": ("SOLVER:\n\tA: 1\n", ["my.yaml, line 2: not valid YAML: "]),
    "control character": ("SOLVER: \x00\n", ["my.yaml: not valid YAML: "]),
    "deep": ("[" * 2000, ["my.yaml: not valid YAML: nested too deeply"]),
    "list as key": ("? [1, 2]\n: 3\n", ["my.yaml, line 1: not valid YAML: "]),
    "bad date": ("OUTPUT_DIR: 2024-13-45\n", ["my.yaml: not valid YAML: month must be in 1..12"]),
}


@pytest.mark.parametrize(("text", "expected"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(write, text, expected):
    with pytest.raises(ConfigError) as caught:
        load_config(write(text))
    for part in expected:
        assert part in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"config file .*nope\.yaml: no such file \(looked for it from "):
        load_config(str(tmp_path / "nope.yaml"))
    with pytest.raises(ConfigError, match="this is a folder, expected a YAML file"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\x80\x81\xff")
    with pytest.raises(ConfigError, match="not a text file in UTF-8"):
        load_config(tmp_path / "binary.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("a\0b")


BAD_OPTS = {
    "odd": (
        ["SOLVER.MAX_ITER"],
        "command line: overrides come in pairs, KEY VALUE; got 1 item(s): 'SOLVER.MAX_ITER' has no",
    ),
    "equals sign": (["SOLVER.MAX_ITER=5"], "write KEY VALUE with a blank, not KEY=VALUE"),
    "flag behind": (
        ["SOLVER.MAX_ITER", "5", "--no-head"],
        "'--no-head' has no value (flags such as --no-head stand before the first KEY VALUE)",
    ),
    "flags behind": (
        ["SOLVER.MAX_ITER", "5", "--no-head", "--transfer"],
        "(flags such as --no-head stand before the first KEY VALUE)",
    ),
    "unknown": (["MODEL.WEIGHTS", "a"], "command line: MODEL.WEIGHTS: unknown key; the nearest one is MODEL.WEIGHT"),
    "below a key": (["SOLVER.MAX_ITER.X", "1"], "SOLVER.MAX_ITER.X: unknown key; the nearest one is "),
    "section": (
        ["SOLVER", "1"],
        "command line: SOLVER: is a section, not a key; got '1'; its keys are SOLVER.MAX_ITER",
    ),
    "type": (["SOLVER.MAX_ITER", "x"], "command line: SOLVER.MAX_ITER: got 'x' (text), expected an integer"),
    "unquoted": (["DATASETS.TRAIN", "(a,)"], 'texts in quotes, e.g. \'("a", "b")\''),
    "huge": (["SOLVER.BASE_LR", "1" + "0" * 400], "expected a number (this one is too large)"),
    "hostile": (["SOLVER.BASE_LR", "-" * 1000000 + "1"], "expected a number"),
    "hostile brackets": (["SOLVER.STEPS", "(" * 5000], "expected integers, e.g. (50000, 70000)"),
    "no literal": (["SOLVER.BASE_LR", "1or 2"], "SOLVER.BASE_LR: got '1or 2' (text), expected a number"),
}


@pytest.mark.parametrize(("opts", "expected"), BAD_OPTS.values(), ids=BAD_OPTS)
@pytest.mark.filterwarnings("error")
def test_bad_overrides(opts, expected):
    with pytest.raises(ConfigError) as caught:
        load_config("", opts)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    "text",
    [
        "OUTPUT_DIR: !!python/object/apply:os.system ['touch {marker}']\n",
        "!!python/object/new:subprocess.check_call [['touch', '{marker}']]\n",
        "OUTPUT_DIR: !!python/name:os.system\n",
        "SOLVER:\n  BASE_LR: \"__import__('os').system('touch {marker}')\"\n",
        "SOLVER:\n  STEPS: (__import__('os').system('touch {marker}'),)\n",
    ],
)
def test_a_file_cannot_run_code(write, tmp_path, text):
    marker = tmp_path / "marker"
    with pytest.raises(ConfigError):
        load_config(write(text.format(marker=marker)))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["my.py", "my.pyc", "my.yaml"])
def test_python_code_is_never_loaded(write, tmp_path, name):
    marker = tmp_path / "marker"
    path = write(f"open({str(marker)!r}, 'w')\ncfg = dict(OUTPUT_DIR='x')\n", name)
    with pytest.raises(ConfigError):
        load_config(path)
    cfg = get_cfg()
    with pytest.raises(ConfigError):
        cfg.merge_from_file(path)
    if name == "my.py":
        with open(path) as file, pytest.raises(ConfigError, match="is Python code, expected YAML"):
            cfg.load_cfg(file)
    assert not marker.exists() and "yacs.config.override" not in sys.modules


def test_repeated_references_cannot_blow_up_a_message(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    lines += ["SOLVER: {STEPS: *a8}"]
    with pytest.raises(ConfigError) as caught:
        load_config(write("\n".join(lines)))
    assert "a0: unknown key" in str(caught.value) and len(str(caught.value)) < 5000


def test_the_tree_merges_like_yacs_with_our_messages(write):
    cfg = get_cfg()
    cfg.merge_from_file(write("SOLVER:\n  STEPS: (1, 2)\n"))
    cfg.merge_from_list(["SOLVER.BASE_LR", "1e-3"])
    assert cfg.SOLVER.STEPS == (1, 2) and cfg.SOLVER.BASE_LR == 1e-3
    before = cfg.clone()
    with pytest.raises(ConfigError, match="nearest one is SOLVER.BASE_LR"):
        cfg.merge_from_list(["SOLVER.MAX_ITER", 3, "SOLVER.BASELR", 1])
    assert cfg == before  # all or nothing
    other = get_cfg()
    other.SOLVER.MAX_ITER = 11
    cfg.merge_from_other_cfg(other)
    assert cfg.SOLVER.MAX_ITER == 11
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.merge_from_list(["SOLVER.MAX_ITER", 3])


KEYS = dict(leaves(get_cfg()))


ONE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())


@given(st.sampled_from(sorted(KEYS)), st.one_of(ONE, st.lists(st.one_of(ONE, st.lists(ONE)))))
def test_whatever_is_written_becomes_the_keys_type_or_one_message(key, value):
    try:
        result = coerce(key, value, KEYS[key])
    except ConfigError as error:
        assert str(error).startswith(f"{key}: got ") and "expected" in str(error)
    else:
        assert type(result) is type(KEYS[key]) or (key == "SOLVER.BIAS_LR_FACTOR" and type(result) is float)
        repeated = coerce(key, result, KEYS[key])
        assert repeated == result or repr(repeated) == repr(result)  # nan


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
def test_text_of_a_number_is_the_number(integer, number):
    assert coerce("SOLVER.MAX_ITER", str(integer), 1) == integer
    assert coerce("SOLVER.BASE_LR", repr(number), 1.0) == number


def test_the_keys_that_differ_from_the_defaults(write):
    file = write("SOLVER: {MAX_ITER: 7, BASE_LR: 0.02}\nDATASETS: {TRAIN: [a]}\n")  # 0.02 is the default
    changed = changed_keys(load_config(file, ["INPUT.TAU", "4", "SOLVER.MAX_ITER", "9"]))
    assert list(changed.items()) == [("INPUT.TAU", 4), ("DATASETS.TRAIN", ("a",)), ("SOLVER.MAX_ITER", 9)]
    assert changed_keys(get_cfg()) == {}
