"""The page about the keys is made of what stands beside them."""

import pathlib

import pytest

from alphaction.config import get_cfg
from alphaction.config.__main__ import main
from alphaction.config.merge import leaves
from alphaction.config.reference import find_keys, key_texts, reference_page


def test_every_key_has_its_row():
    texts = key_texts()
    assert [text.key for text in texts] == [key for key, _ in leaves(get_cfg())]
    assert all(text.meaning for text in texts)
    page = reference_page()
    for text in texts:
        name = text.key.rpartition(".")[2]
        assert f"| `{name}` | `{text.default}` | " in page
    assert page.count("## MODEL.ROI_ACTION_HEAD\n") == 1


def test_meanings_stand_beside_the_right_keys():
    meaning = {text.key: text for text in key_texts()}
    assert meaning["MODEL.DEVICE"].meaning.startswith("Ours. Where to compute")
    assert meaning["OUTPUT_DIR"].meaning.startswith("Folder for checkpoints")
    assert meaning["SOLVER.WARMUP_FACTOR"].default == "1/3"
    # One comment for several keys, and a section that repeats another.
    assert meaning["INPUT.MAX_SIZE_TRAIN"].shares and "short side" in meaning["INPUT.MAX_SIZE_TRAIN"].meaning
    section = "MODEL.BACKBONE.SLOWFAST."
    for name in ("ACTIVE", "CONV3_NONLOCAL", "CONV4_NONLOCAL", "CONV3_GROUP_NL"):
        assert meaning[f"{section}FAST.{name}"].meaning == meaning[f"{section}SLOW.{name}"].meaning


def test_keys_are_found_by_words():
    assert "MODEL.IA_STRUCTURE.MEMORY_LIMIT_MB" in [text.key for text in find_keys(["MEMORY", "mib"])]
    assert find_keys(["no such word"]) == []


def test_command(capsys):
    main(["learning", "warm-up"])
    assert "SOLVER.BASE_LR = 0.02   (above 0)\n    Learning rate after the warm-up" in capsys.readouterr().out
    main(["--page"])
    assert capsys.readouterr().out == reference_page()
    with pytest.raises(SystemExit, match="no key has 'xyzzy' in its name or meaning"):
        main(["xyzzy"])
    with pytest.raises(SystemExit):
        main(["--page", "word"])
    assert "--page takes no words" in capsys.readouterr().err


def test_the_page_is_up_to_date():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "CONFIG.md"
    again = "python -m alphaction.config --page > docs/CONFIG.md"
    assert page.read_text(encoding="utf-8") == reference_page(), f"the keys have changed: {again}"
