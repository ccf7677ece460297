"""Labels and their text: places in the frame, no cover of each other, characters of any script, shortening."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.errors import UserError
from alphaction.prediction.annotated import fonts, labels
from alphaction.prediction.annotated.fonts import Font
from alphaction.prediction.annotated.labels import Painter, _around, _best, _common
from alphaction.prediction.annotated.timeline import Shown, Timeline
from alphaction.prediction.records import Moment, PersonRecord

NAMES = ["walk", "talk to (e.g., self, a person, a group)", "идти", "sit"]
side = st.integers(-300, 900)
box = st.tuples(side, side, side, side).map(
    lambda s: (min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]), max(s[1], s[3]))
)


def shown(track, xyxy, scores=(0.9, 0.8, 0.1, 0.2), opacity=1.0):
    return Shown(track, np.array(xyxy, float), opacity, np.array(scores, np.float32))


def painter(size=(360, 640), *, threshold=0.5, max_actions=3):
    return Painter(size=size, class_names=NAMES, threshold=threshold, max_actions=max_actions)


@settings(max_examples=200, deadline=None)
@given(st.lists(box, min_size=1, max_size=6), st.tuples(st.integers(5, 60), st.integers(5, 200)))
def test_labels_stay_in_the_frame_and_off_each_other(boxes, label):
    taken = []
    for one in boxes:
        places = _around(np.array(one, float), label, (360, 640))
        _, place = _best(places, taken, heads=[], last=None, frame=(360, 640))
        x, y, w, h = place
        assert (h, w) == label
        assert 0 <= x <= 640 - w
        assert 0 <= y <= 360 - h
        assert not _common(place, taken)  # six labels of this size always find room
        taken.append(place)


def test_a_label_stays_where_it_was_while_that_is_free():
    places = _around(np.array([200.0, 100.0, 300.0, 300.0]), (20, 50), (360, 640))
    first, _ = _best(places, [], heads=[], last=None, frame=(360, 640))
    assert first == 0
    other, place = _best(places, [places[0]], heads=[], last=0, frame=(360, 640))
    assert other not in (0, None)
    assert _best(places, [], heads=[], last=other, frame=(360, 640)) == (other, place)


def test_a_label_leaves_heads_in_sight_if_it_can():
    body = np.array([200.0, 0.0, 300.0, 359.0])  # nothing fits above
    _, (x, y, w, h) = _best(
        _around(body, (40, 80), (360, 640)), [], heads=[(200, 0, 101, 120)], last=None, frame=(360, 640)
    )
    assert not _common((x, y, w, h), [(200, 0, 101, 120)])


def test_the_best_actions_above_the_threshold_are_named():
    assert painter()._actions(shown(0, (0, 0, 9, 9))) == ["walk 0.90", f"{NAMES[1]} 0.80"]
    assert painter(max_actions=1)._actions(shown(0, (0, 0, 9, 9))) == ["walk 0.90"]
    assert painter(threshold=0.95)._actions(shown(0, (0, 0, 9, 9))) == []


def test_a_long_name_is_cut_but_its_score_is_not():
    lines = painter((200, 200))._actions(shown(0, (0, 0, 9, 9)))
    assert lines[0] == "walk 0.90"
    assert lines[1].endswith("... 0.80")
    assert painter((200, 200))._font.width(lines[1]) <= 120


@pytest.mark.parametrize("size", [(1, 1), (8, 640), (640, 8), (64, 64), (1080, 1920)])
@pytest.mark.parametrize("opacity", [1.0, 0.4])
def test_any_size_of_frame_can_be_painted(size, opacity):
    canvas = np.full((*size, 3), 128, np.uint8)
    boxes = [(-50, -50, 9000, 9000), (3, 3, 3, 3), (5000, 5000, 5001, 5001)]
    persons = [shown(i, xyxy, opacity=opacity) for i, xyxy in enumerate(boxes)]
    painter(size).paint(canvas, persons=persons, stamp="0:00.00")
    assert (canvas != 128).any()


def test_colours_belong_to_persons():
    rows = []
    for order in ((3, 7), (7, 3)):
        canvas = np.full((360, 640, 3), 128, np.uint8)
        boxes = {3: (50, 100, 150, 300), 7: (400, 100, 500, 300)}
        painter().paint(canvas, persons=[shown(track, boxes[track]) for track in order], stamp="")
        rows.append(canvas[250, [50, 400]].tolist())
    assert rows[0] == rows[1] == [list(labels._COLOURS[3]), list(labels._COLOURS[7])]


def test_drawn_labels_are_forgotten(monkeypatch):
    monkeypatch.setattr(labels, "_KEPT_LABELS", 5)
    some = painter()
    for i in range(20):
        some.paint(np.zeros((360, 640, 3), np.uint8), persons=[shown(i, (9, 9, 99, 99))], stamp=f"{i}")
    assert len(some._labels) == 5
    assert list(some._places) == [19]


def test_accents_and_other_scripts_are_drawn(caplog):
    font = Font(20)
    with caplog.at_level(logging.WARNING):
        for text in ("gehen über Straße", "идти", "περπατώ"):
            assert "?" not in "".join(part for part, _ in font._parts(text))
    assert caplog.text == ""


def test_line_ends_in_a_name_are_spaces():
    font = Font(20)
    assert "".join(part for part, _ in font._parts("a\nb\r\tc\u2029d\x85")) == "a b  c d "
    assert font.draw(np.zeros((30, 90, 3), np.uint8), lines=[(0, 0, "a\nb", (255, 255, 255))]).any()


def test_a_character_that_no_font_has_is_a_question_mark_and_told_once(caplog):
    font = Font(20)
    with caplog.at_level(logging.WARNING):
        assert "".join(part for part, _ in font._parts("a\ue123b\ue124")) == "a?b?"  # of nobody's script
    assert caplog.text.count("no font is found that has the character '\\ue123'") == 1


def test_a_font_file_can_be_named(tmp_path):
    path = fonts._matplotlib_font()
    if path is None:
        pytest.skip("needs a font file")
    assert Font(20, path=path).width("walk") == Font(20).width("walk")
    (tmp_path / "no.ttf").write_text("text")
    with pytest.raises(UserError, match="no.ttf: not a font"):
        Font(20, path=tmp_path / "no.ttf")


@settings(max_examples=100, deadline=None)
@given(st.text("ab WÄ(…)", max_size=40), st.integers(0, 300))
def test_shortened_text_fits(text, width):
    font = Font(16)
    short = font.shorten(text, width)
    assert font.width(short) <= max(width, 0)
    assert short == text or short == "" or short.endswith("...")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.integers(0, 3)), max_size=6), st.floats(0.1, 2))
def test_persons_are_shown_from_the_middle_before_to_the_middle_after(moments, step):
    timeline = Timeline(step=step)
    for i, tracks in enumerate(moments):
        at = (i, i, i + 10.0, i + 10.0)
        timeline.add(Moment(float(i), (9, 9), [PersonRecord(t, at, 1.0, np.zeros(1, np.float32)) for t in tracks]))
    for time in np.arange(0, max(len(moments) - 1, 0), 0.125):
        found = {person.track: person for person in timeline.at(float(time))}
        before, after = int(time), int(time) + (time % 1 > 0)
        assert set(found) <= moments[before] | moments[after]
        assert set(found) >= moments[before] & moments[after]
        for track, person in found.items():
            both = track in moments[before] & moments[after]
            assert person.opacity == 1 if both else 0 < person.opacity <= 1
            x = time if both else (before if track in moments[before] else after)
            np.testing.assert_allclose(person.box, [x, x, x + 10, x + 10])
