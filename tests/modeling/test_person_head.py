"""The person head: it learns boxes, stays within clips, looks at the keyframe, leaves the rest of the network alone."""

import pytest
import torch
from step_kit import COUNTS, OPTS, batch_of
from torchvision.ops import box_iou

from alphaction.config import load_config
from alphaction.modeling import build_detection_model, build_person_criterion
from alphaction.modeling.losses import PERSON_LOSSES, PersonCriterion
from alphaction.modeling.person_head import PersonHead, PersonHeadOptions
from alphaction.structures import Boxes

PERSONS = "MODEL.ROI_PERSON_HEAD."
HEAD = [PERSONS + "ACTIVE", True, PERSONS + "CHANNELS", 16, PERSONS + "MLP_HEAD_DIM", 16]
SMALL = PersonHeadOptions(channels=16, dim=32, anchor_sizes=(32, 64), samples=32, nms=0.3, score_threshold=0.5)
# Three clips of 96 x 128 pixels with padding; the second has nobody in it.
SIZES = [(96, 128), (80, 100), (70, 128)]
PEOPLE = [[[10, 12, 49, 80], [70, 20, 127, 95]], [], [[40, 0, 71, 69]]]


def boxes(rows, size):
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4), size)


def people():
    return [boxes(rows, size) for rows, size in zip(PEOPLE, SIZES, strict=True)]


def slow_map(frames=2):
    return torch.rand(3, 8, frames, 6, 8, generator=torch.Generator().manual_seed(1))


def detector(*opts):
    torch.manual_seed(5)
    return build_detection_model(load_config("", list(map(str, [*OPTS, *opts]))))


@pytest.fixture(scope="module")
def learned():
    """A head after some steps on one batch of maps."""
    torch.manual_seed(0)
    head, maps = PersonHead(8, SMALL).train(), slow_map()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.005)
    for _ in range(120):
        optimizer.zero_grad()
        sum(head.losses(maps, people()).values()).backward()
        optimizer.step()
    return head.eval()


def test_it_learns_the_boxes(learned):
    with torch.inference_mode():
        found = learned.find(slow_map(), SIZES)
    assert [len(clip.persons) > 0 for clip in found] == [True, False, True]
    for clip, true in zip(found, people(), strict=True):
        assert clip.persons.size == true.size and clip.scores.dtype == torch.float32
        assert (clip.scores >= 0.5).all() and clip.scores.tolist() == sorted(clip.scores.tolist(), reverse=True)
        if len(true):
            overlap = box_iou(clip.persons[: len(true)].to_edges(), true.to_edges())  # the best ones are right
            assert overlap.max(dim=0).values.min() > 0.7
            assert (clip.persons.xyxy == clip.persons.clip().xyxy).all()  # within the clip, not its padding


def test_limits_of_score_and_number(learned):
    with torch.inference_mode():
        learned.score_threshold = 0.0
        many = learned.find(slow_map(), SIZES)
        learned.score_threshold = 1.1
        none = learned.find(slow_map(), SIZES)
    learned.score_threshold = 0.5
    assert all(0 < len(clip.persons) <= learned.max_persons for clip in many)
    assert all(clip.persons.keep_mask().all() for clip in many)
    assert [len(clip.persons) for clip in none] == [0, 0, 0] and none[0].persons.xyxy.shape == (0, 4)


def test_it_looks_at_the_two_frames_around_the_keyframe(learned):
    maps, others = slow_map(4), slow_map(4)
    others[:, :, [0, 3]] = 9.0
    mirrored = maps.flip(2)
    moved = maps.clone()
    moved[:, :, 1] = 9.0
    with torch.inference_mode():
        scores = [torch.cat([clip.scores for clip in learned.find(m, SIZES)]) for m in (maps, others, mirrored, moved)]
    assert torch.equal(scores[0], scores[1]) and torch.equal(scores[0], scores[2])
    assert scores[0].shape != scores[3].shape or not torch.equal(scores[0], scores[3])


def test_one_slow_frame_is_the_keyframe(learned):
    maps = slow_map(1)
    with torch.inference_mode():
        alone = torch.cat([clip.scores for clip in learned.find(maps, SIZES)])
        twice = torch.cat([clip.scores for clip in learned.find(maps.repeat(1, 1, 2, 1, 1), SIZES)])
    assert torch.equal(alone, twice)


def test_losses_reach_every_parameter_and_are_float32_within_autocast():
    torch.manual_seed(0)
    head = PersonHead(8, SMALL).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = head.losses(slow_map().bfloat16(), people())
    assert tuple(losses) == PERSON_LOSSES
    assert all(loss.dtype == torch.float32 and loss.shape == () and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())


def test_a_batch_of_empty_clips_has_losses():
    head = PersonHead(8, SMALL).train()
    losses = head.losses(slow_map(), [boxes([], size) for size in SIZES])
    assert losses["loss_objectness"] > 0 and losses["loss_rpn_box"] == 0 == losses["loss_person_box"]


def test_finding_needs_evaluation_mode():
    with pytest.raises(ValueError, match="got training mode, expected evaluation mode"):
        PersonHead(8, SMALL).find(slow_map(), SIZES)
    with pytest.raises(ValueError, match="this model has no person head"):
        detector().find_persons(batch_of(0))


def test_the_other_parts_begin_as_without_it():
    plain, model = detector().state_dict(), detector(*HEAD).state_dict()
    assert [name for name in model if not name.startswith("person_head.")] == list(plain)
    assert all(torch.equal(model[name], value) for name, value in plain.items())
    assert list(model)[: len(plain)] == list(plain)  # the optimizer's groups come in this order


def test_persons_and_features_come_from_one_pass():
    model = detector(*HEAD, "TEST.BOX_THRESH", 0.3, "TEST.EXTEND_SCALE", (0.2, 0.1)).eval()
    batch, passes = batch_of(0), []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    with torch.inference_mode():
        found, features = model.find_persons(batch)
        assert len(passes) == 1
        again = model.extract(found)
        logits = model.classify(features)
    assert found.num_persons == len(found.person_scores) == len(logits) > 0
    assert found.labels is None and found.slow is batch.slow and found.keys == batch.keys
    assert torch.equal(features.person, again.person)
    assert features.person_counts == [len(one) for one in found.persons]
    for persons, regions in zip(found.persons, found.regions, strict=True):
        assert torch.equal(regions.xyxy, persons.extend((0.2, 0.1)).xyxy)


def test_all_annotated_persons_are_learned_from():
    """A clip with more persons than are classified must not teach that the others are background."""
    model = detector(*HEAD).train()
    batch, seen = batch_of(0), []
    model.person_head.losses = lambda slow, persons: seen.append(persons) or {}
    model(batch)
    everybody = [boxes([[0, 0, 9, 9]] * (count + 3), (32, 48)) for count in COUNTS]
    model(type(batch)(**{**vars(batch), "annotated": everybody}))
    assert [len(one) for one in seen[0]] == list(COUNTS)
    assert [len(one) for one in seen[1]] == [count + 3 for count in COUNTS]
    assert model.eval()(batch).person_losses is None and len(seen) == 2


def test_losses_are_weighed_and_add_up():
    weights = dict(zip(PERSON_LOSSES, (1.0, 2.0, 3.0, 4.0), strict=True))
    losses = {name: torch.tensor(1.0, requires_grad=True) for name in PERSON_LOSSES}
    criterion = PersonCriterion(weights)
    parts = [criterion(losses, share=share) for share in (0.25, 0.75)]
    assert sum(part.total for part in parts) == 10
    assert sum(part.losses["loss_person"] for part in parts) == 1
    with pytest.raises(ValueError, match="weights: got those of"):
        PersonCriterion({"loss_person": 1.0})


def test_weights_come_from_the_configuration():
    opts = [*HEAD, PERSONS + "OBJECTNESS_LOSS_WEIGHT", 2, PERSONS + "PERSON_BOX_LOSS_WEIGHT", 0]
    criterion = build_person_criterion(load_config("", list(map(str, opts))))
    assert list(criterion.weights.values()) == [2.0, 1.0, 1.0, 0.0]
    assert build_person_criterion(load_config("", [])) is None
