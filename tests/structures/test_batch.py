"""A batch that is cut into parts."""

from dataclasses import replace

import pytest
import torch

from alphaction.structures import Boxes, ClipBatch, ClipKey
from alphaction.structures.planes import ClipPlanes

SIZES = [(8, 6), (7, 8), (8, 8), (5, 5), (8, 4)]
COUNTS = [2, 0, 3, 1, 2]


def batch_of(*, objects=True, labels=True, fast=True):
    total = sum(COUNTS)
    boxes = [Boxes(torch.full((n, 4), float(i)), size) for i, (n, size) in enumerate(zip(COUNTS, SIZES, strict=True))]
    return ClipBatch(
        slow=torch.arange(5).view(5, 1, 1, 1, 1).expand(5, 3, 2, 8, 8).to(torch.uint8),
        fast=torch.zeros(5, 3, 4, 8, 8, dtype=torch.uint8) if fast else None,
        sizes=SIZES,
        persons=boxes,
        regions=boxes,
        labels=torch.arange(total)[:, None].bool() if labels else None,
        person_scores=torch.arange(total).float(),
        objects=boxes if objects else None,
        keys=[ClipKey("park", float(i)) for i in range(5)],
        indices=range(10, 15),
    )


@pytest.mark.parametrize(("parts", "clips"), [(1, [5]), (2, [2, 3]), (3, [1, 2, 2]), (5, [1] * 5), (9, [1] * 5)])
def test_the_parts_are_the_batch(parts, clips):
    batch = batch_of()
    cut = batch.split(parts)
    assert [len(part) for part in cut] == clips
    assert sum((list(part.keys) for part in cut), []) == batch.keys
    assert sum((list(part.indices) for part in cut), []) == list(batch.indices)
    assert sum((list(part.sizes) for part in cut), []) == SIZES
    assert [part.num_persons for part in cut] == [len(part.labels) for part in cut]
    for name in ("slow", "fast", "labels", "person_scores"):
        assert torch.equal(torch.cat([getattr(part, name) for part in cut]), getattr(batch, name))
    for name in ("persons", "regions", "objects"):
        assert sum((list(getattr(part, name)) for part in cut), []) == getattr(batch, name)
    assert all(part.slow.shape[-2:] == (8, 8) for part in cut)  # padded as the whole batch is


def test_parts_of_a_batch_without_fast_pathway_labels_and_objects():
    first, second = batch_of(objects=False, labels=False, fast=False).split(2)
    assert first.fast is first.labels is second.objects is None
    assert second.person_scores.tolist() == [2, 3, 4, 5, 6, 7]


def test_no_parts():
    with pytest.raises(ValueError, match="parts: got 0, expected 1 or more"):
        batch_of().split(0)


def test_all_that_moves_to_a_gpu_is_pinned_and_dense(monkeypatch):
    """Or copies would wait for the GPU. One clip of a loader without workers is a view of both pathways' frames."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    frames = torch.zeros(3, 6, 8, 8, dtype=torch.uint8)
    batch = replace(batch_of(), slow=frames[:, :2].unsqueeze(0), fast=frames[:, 2:].unsqueeze(0))
    batch = replace(batch, annotated=batch.persons, planes=ClipPlanes(torch.zeros(0, dtype=torch.uint8), [], (8, 8)))
    kept = batch.pin_memory()
    assert len(pinned) == 4 + 4 * len(COUNTS)  # clips, planes, labels, and four kinds of boxes per clip
    assert all(x.is_contiguous() for x in pinned)
    assert torch.equal(kept.fast, batch.fast) and torch.equal(kept.labels, batch.labels)
    assert [boxes.size for boxes in kept.regions] == SIZES
    moved = kept.to("meta", non_blocking=True)
    tensors = [moved.slow, moved.fast, moved.labels, moved.planes.data]
    tensors += [boxes.xyxy for each in (moved.persons, moved.regions, moved.objects, moved.annotated) for boxes in each]
    assert len(tensors) == len(pinned) and {x.device.type for x in tensors} == {"meta"}
