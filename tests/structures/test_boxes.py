"""Boxes: the recorded numbers, the edges, and what must hold for any box."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.structures.boxes import Boxes

SIZE = (48, 64)


def golden() -> tuple[dict, dict]:
    return goldens.load("boxes")


def recorded(arrays: dict, name: str) -> Boxes:
    width, height = golden()[0]["image_size_wh"]
    return Boxes(torch.from_numpy(arrays[name]), (height, width))


def test_recorded_geometry() -> None:
    """Every xyxy array of the kit; the name of an array says the operation and its arguments."""
    _, a = golden()
    report = goldens.parity.Report("boxes")
    boxes = recorded(a, "in/xyxy")
    height, width = boxes.size
    for name in (n for n in a if n.startswith("xyxy/out/")):
        what, _, argument = name.removeprefix("xyxy/out/").partition("_")
        if what == "to":
            got = boxes.xyxy if argument == "xyxy" else boxes.to_xywh()
        elif what == "round":
            got = Boxes.from_xywh(boxes.to_xywh(), boxes.size).xyxy
        elif what == "resize":
            wh = (width // 2, height // 2) if argument == "half" else tuple(map(int, argument.split("x")))
            got = boxes.resize((wh[1], wh[0])).xyxy
        elif what == "flip":
            got = (boxes.hflip() if argument == "lr" else boxes.vflip()).xyxy
        elif what == "extend":
            scale = [float(part) for part in argument.split("_")]
            got = boxes.extend((scale[0], scale[-1])).xyxy
        else:
            got = {"area": boxes.area}[what]()
        report.close(name, got, a[name])
    report.finish()


def test_recorded_xywh_input() -> None:
    """Boxes that arrive as x, y, w, h. Compared where our one convention says what the original's xywh mode says.

    Not compared: `resize` (its two branches scale w and h differently, QUIRKS 23) and boxes of width or height below 1
    elsewhere (a Boxes has no width 0: to_xywh of a one-pixel box is 1). The pipeline never used xywh mode for these.
    """
    _, a = golden()
    report = goldens.parity.Report("boxes")
    size = recorded(a, "in/xyxy").size
    boxes = Boxes.from_xywh(torch.from_numpy(a["in/xywh"]), size)
    report.close("to_xyxy", boxes.xyxy, a["xywh/out/to_xyxy"])
    report.close("round_trip", Boxes.from_xywh(boxes.to_xywh(), size).xyxy, a["xywh/out/round_trip"])
    proper = (a["in/xywh"][:, 2:] >= 1).all(1)
    report.close("to_xywh", boxes.to_xywh()[proper], a["xywh/out/to_xywh"][proper])
    report.close("flip_lr", boxes.hflip().to_xywh()[proper], a["xywh/out/flip_lr"][proper])
    report.close("flip_tb", boxes.vflip().to_xywh()[proper], a["xywh/out/flip_tb"][proper])
    report.close("area", boxes.area()[proper], a["xywh/out/area"][proper])
    report.finish()
    assert proper.sum() > len(proper) // 2


def test_recorded_clip_jitter_top_k() -> None:
    meta, a = golden()
    report = goldens.parity.Report("boxes")
    boxes = recorded(a, "in/xyxy")
    clipped = boxes.clip()
    report.close("clip", clipped.xyxy, a["clip/out/all_boxes"])
    keep = clipped.keep_mask()
    report.equal("kept rows", keep.nonzero().flatten().tolist(), a["clip/out/kept_index"].tolist())
    report.close("kept", clipped[keep].xyxy, a["clip/out/kept_boxes"])

    amounts = meta["jitter"].partition(" = ")[2].partition(")")[0].strip("(")
    x_out, x_in, y_out, y_in = map(float, amounts.split(","))
    moved = recorded(a, "jitter/in/xyxy").jitter(
        torch.from_numpy(a["jitter/in/uniforms"]), outwards=(x_out, y_out), inwards=(x_in, y_in)
    )
    report.close("jitter", moved.xyxy, a["jitter/out/xyxy"])

    scores = torch.from_numpy(a["in/scores"])
    rows = boxes.top_k(len(a["top3/out/scores"]), scores)
    report.close("top k", boxes[rows].xyxy, a["top3/out/boxes"])
    report.close("top k scores", scores[rows], a["top3/out/scores"])
    all_rows = boxes.top_k(len(boxes) + 5, scores)
    report.close("more than there are", scores[all_rows], a["top3_more_than_available/out/scores"])
    first = boxes.top_k(len(a["top3_no_scores/out/boxes"]))
    report.close("no scores", boxes[first].xyxy, a["top3_no_scores/out/boxes"])
    report.finish()


def test_recorded_enlarged_regions_do_not_change_the_input() -> None:
    boxes = Boxes(torch.tensor([[-5.0, 1.0, 70.0, 9.0]]), SIZE)
    before = boxes.xyxy.clone()
    for changed in (boxes.extend((0.1, 0.05)), boxes.clip(), boxes.hflip(), boxes.resize((24, 32))):
        assert changed.xyxy.data_ptr() != boxes.xyxy.data_ptr()
    assert torch.equal(boxes.xyxy, before)


@pytest.mark.parametrize("operation", ["clip", "hflip", "vflip", "area", "keep_mask", "to_xywh"])
def test_no_boxes(operation: str) -> None:
    assert len(getattr(Boxes(torch.zeros(0, 4), SIZE), operation)()) == 0


def test_no_boxes_with_arguments() -> None:
    none = Boxes(torch.zeros(0, 4), SIZE)
    assert len(none.resize((10, 10))) == len(none.extend((0.1, 0.1))) == len(none.top_k(3)) == 0
    assert len(none.top_k(3, torch.zeros(0))) == 0
    assert len(none.jitter(torch.zeros(0, 4), outwards=(0.2, 0.1), inwards=(0.1, 0.05))) == 0


def test_equal_scores_keep_their_order() -> None:
    boxes = Boxes(torch.zeros(5, 4), SIZE)
    assert boxes.top_k(3, torch.tensor([0.5, 0.5, 0.1, 0.5, 0.5])).tolist() == [1, 3, 4]


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got shape \(3,\), expected \[n, 4\]"):
        Boxes(torch.zeros(3), SIZE)
    boxes = Boxes(torch.zeros(2, 4), SIZE)
    with pytest.raises(ValueError, match=r"uniforms: got shape \(1, 4\), expected \(2, 4\)"):
        boxes.jitter(torch.zeros(1, 4), outwards=(0.2, 0.1), inwards=(0.1, 0.05))
    with pytest.raises(ValueError, match=r"scores: got shape \(3,\), expected \(2,\)"):
        boxes.top_k(1, torch.zeros(3))


coordinate = st.floats(-200, 400, width=32)
sizes = st.tuples(st.integers(2, 500), st.integers(2, 500))


@st.composite
def boxes_in_images(draw: st.DrawFn, inside: bool = False) -> Boxes:
    size = draw(sizes)
    rows = draw(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=6))
    xyxy = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    xyxy = torch.cat([torch.minimum(xyxy[:, :2], xyxy[:, 2:]), torch.maximum(xyxy[:, :2], xyxy[:, 2:])], dim=1)
    boxes = Boxes(xyxy, size)
    return boxes.clip() if inside else boxes


@settings(max_examples=60, deadline=None)
@given(boxes_in_images())
def test_flipping_twice_changes_nothing(boxes: Boxes) -> None:
    assert torch.allclose(boxes.hflip().hflip().xyxy, boxes.xyxy, atol=1e-3)
    assert torch.allclose(boxes.vflip().vflip().xyxy, boxes.xyxy, atol=1e-3)
    assert torch.allclose(boxes.hflip().area(), boxes.area(), rtol=1e-4, atol=0.1)


@settings(max_examples=60, deadline=None)
@given(boxes_in_images(), sizes)
def test_resizing_there_and_back_changes_nothing(boxes: Boxes, size: tuple[int, int]) -> None:
    back = boxes.resize(size).resize(boxes.size)
    assert back.size == boxes.size
    assert torch.allclose(back.xyxy, boxes.xyxy, rtol=1e-5, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(boxes_in_images())
def test_clipping_twice_is_clipping_once(boxes: Boxes) -> None:
    once = boxes.clip()
    assert torch.equal(once.clip().xyxy, once.xyxy)
    height, width = boxes.size
    assert (once.xyxy >= 0).all()
    assert (once.xyxy <= torch.tensor([width - 1, height - 1, width - 1, height - 1])).all()


@settings(max_examples=60, deadline=None)
@given(boxes_in_images(inside=True), st.integers(0, 2**31))
def test_jitter_stays_inside_and_one_pixel_wide(boxes: Boxes, seed: int) -> None:
    uniforms = torch.from_numpy(np.random.default_rng(seed).random((len(boxes), 4), dtype=np.float32))
    moved = boxes.jitter(uniforms, outwards=(0.2, 0.1), inwards=(0.1, 0.05))
    x1, y1, x2, y2 = moved.xyxy.unbind(-1)
    assert (x2 - x1 >= 1 - 1e-4).all()  # float32 at 500 pixels
    assert (y2 - y1 >= 1 - 1e-4).all()
    assert torch.equal(moved.clip().xyxy, moved.xyxy)
    w = boxes.xyxy[:, 2] - boxes.xyxy[:, 0] + 1
    assert ((x1 - boxes.xyxy[:, 0]).abs() <= 0.2 * w + 1.001).all()


@settings(max_examples=60, deadline=None)
@given(boxes_in_images(inside=True))
def test_enlarged_boxes_contain_the_boxes(boxes: Boxes) -> None:
    larger = boxes.extend((0.1, 0.05)).xyxy
    assert (larger[:, :2] <= boxes.xyxy[:, :2]).all()
    assert (larger[:, 2:] >= boxes.xyxy[:, 2:]).all()
