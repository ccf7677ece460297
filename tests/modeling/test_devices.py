"""Nothing of a network on a GPU is left on the processor: checked without a GPU, on fake tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from alphaction.config import get_cfg
from alphaction.modeling import build_criterion, build_detection_model, build_postprocess
from alphaction.structures import Boxes, ClipBatch, ClipKey
from alphaction.structures.memory_window import MemorySpan, MemoryWindow

SIZE = (64, 80)


def can_pretend() -> bool:
    """Older PyTorch asks a driver even for copies between fake tensors."""
    with FakeTensorMode():
        try:
            torch.zeros(1, device="cuda").copy_(torch.zeros(1))
        except RuntimeError:
            return False
    return True


pytestmark = pytest.mark.skipif(not can_pretend(), reason="this PyTorch has fake GPU tensors only where a driver is")


def batch_of(persons, objects):
    clips = len(persons)
    return ClipBatch(
        slow=torch.zeros(clips, 3, 4, *SIZE, dtype=torch.uint8),
        fast=torch.zeros(clips, 3, 32, *SIZE, dtype=torch.uint8),
        sizes=[(60, 70)] * clips,
        persons=[Boxes(torch.rand(count, 4), SIZE) for count in persons],
        regions=[Boxes(torch.rand(count, 4), SIZE) for count in persons],
        labels=torch.zeros(sum(persons), 80, dtype=torch.bool),
        person_scores=None,
        objects=[Boxes(torch.rand(count, 4), SIZE) for count in objects],
        keys=[ClipKey("m", 1.0)] * clips,
        indices=list(range(clips)),
    )


@pytest.mark.parametrize("persons", [(3, 1), (0, 0)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("structure", [None, "serial", "dense", "parallel"])
def test_everything_is_on_the_gpu(structure, training, persons):
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.BACKBONE.CONV_BODY", "Slowfast-Tiny", "INPUT.FRAME_NUM", 64, "INPUT.TAU", 16])
    memory = None
    if structure is not None:
        node = cfg.MODEL.IA_STRUCTURE
        node.ACTIVE, node.STRUCTURE, node.DIM_IN, node.LENGTH = True, structure, 576, (2, 1)
        node.MAX_OBJECT, node.MAX_PERSON, node.MAX_PER_SEC, node.LAYER_NORM = 2, 2, 2, True
        node.I_BLOCK_LIST = [["P", "O", "M"]] * 2 if structure == "parallel" else ["P", "O", "M"]
    with FakeTensorMode():
        with torch.device("cuda"):
            model = build_detection_model(cfg).train(training)
            if structure is not None:
                memory = MemoryWindow(
                    rows=torch.zeros(2, 3, 576),
                    moments=torch.zeros(2, 3, dtype=torch.int64, device="cpu"),
                    span=MemorySpan(before=2, after=1, rate=1, persons=2),
                )
        batch = batch_of(persons, objects=(1, 3)).to("cuda")
        output = model(batch, memory)
        loss = build_criterion(cfg)(output.logits, batch.labels, num_boxes=float(batch.num_persons))
        scores = build_postprocess(cfg)(output.logits)
    assert output.logits.shape == scores.shape == (sum(persons), 80)
    assert {tensor.device.type for tensor in (scores, loss.total, output.features.person)} == {"cuda"}
