"""A small detector with random weights, and inputs for it and for its exported form."""

from __future__ import annotations

import torch
from memory_kit import window_of
from prediction_kit import IA, INTERACTION

from alphaction.config import load_config
from alphaction.export.network import OpenNetwork
from alphaction.modeling import action_groups, build_detection_model, build_postprocess
from alphaction.structures import Boxes, ClipBatch, ClipKey, MemorySpan

SPAN = MemorySpan(before=2, after=2, rate=1, persons=2)
CHANNELS = 576
POM = [*INTERACTION, IA + "STRUCTURE", "serial", IA + "I_BLOCK_LIST", ["P", "O", "M"]]


def detector(config, *opts):
    """(model, its exported form, scores of logits)."""
    tree = load_config(config, opts)
    torch.manual_seed(0)
    model = build_detection_model(tree).eval()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if "temporal_position" in name or name.endswith(("bias", "running_mean")):
            torch.nn.init.normal_(value, std=0.1)
        if name.endswith("running_var"):
            torch.nn.init.uniform_(value, 0.5, 1.5)
        if name.endswith("cls_score.weight"):
            value.data.mul_(100)
    return model, OpenNetwork(model, action_groups(tree)).eval(), build_postprocess(tree)


def inputs_of(opened, persons, objects, *, size=(32, 48), channels=CHANNELS):
    """(batch, window, the same as tensors); every second clip is smaller than the batch."""
    generator = torch.Generator().manual_seed(len(persons))
    height, width = size
    sizes = [(height - 3 * (i % 2), width - 5 * (i % 2)) for i in range(len(persons))]
    given = {
        name: torch.randint(0, 256, (len(persons), 3, frames, height, width), dtype=torch.uint8, generator=generator)
        for name, frames in (("slow", 2), ("fast", 8))
    }
    boxes = {"boxes": _boxes(persons, sizes, generator), "objects": _boxes(objects, sizes, generator)}
    values = torch.rand(len(persons), SPAN.moments, SPAN.persons, channels, generator=generator)
    values[torch.rand(values.shape[:3], generator=generator) < 0.3] = 0
    seen = values.clone()
    seen[:, SPAN.before] = 0
    batch = ClipBatch(
        **{name: clips if name in opened.input_names else None for name, clips in given.items()},
        sizes=sizes,
        persons=boxes["boxes"],
        regions=boxes["boxes"],
        labels=None,
        person_scores=None,
        objects=boxes["objects"] if "objects" in opened.input_names else None,
        keys=[ClipKey("m", float(i)) for i in range(len(persons))],
        indices=list(range(len(persons))),
    )
    given |= {name: rois(value) for name, value in boxes.items()}
    given |= {"sizes": torch.tensor(sizes), "memory": values}
    window = window_of(seen, SPAN) if "memory" in opened.input_names else None
    return batch, window, tuple(given[name] for name in opened.input_names)


@torch.no_grad()
def expected(model, postprocess, batch, window):
    """Scores and features as the network itself gives them."""
    output = model(batch, window)
    return postprocess(output.logits), output.features.person.flatten(1)


def rois(boxes):
    return torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b.xyxy], dim=1) for i, b in enumerate(boxes)])


def _boxes(counts, sizes, generator):
    out = []
    for count, (height, width) in zip(counts, sizes, strict=True):
        scale = torch.tensor([width / 2, height / 2])
        corner = torch.rand(count, 2, generator=generator) * scale
        extent = torch.rand(count, 2, generator=generator) * scale
        out.append(Boxes(torch.cat([corner, corner + extent], dim=1), (height, width)))
    return out
