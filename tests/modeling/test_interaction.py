from dataclasses import replace

import pytest
import torch
from memory_kit import complete, window_of
from torch.nn import functional as F

from alphaction.config import get_cfg
from alphaction.errors import ConfigError
from alphaction.modeling.build import build_head
from alphaction.modeling.interaction import (
    STRUCTURES,
    BlockOptions,
    ClipRows,
    Context,
    ContextLimits,
    InteractionBlock,
    SerialInteraction,
)
from alphaction.structures import MemorySpan, RoiFeatures

C, D, E = 7, 6, 7
LIMITS = ContextLimits(persons=4, objects=3, per_second=2, seconds_before=2, seconds_after=1)
LAYERS = {
    "serial": [["P"], ["O"], ["M"], ["P"]],
    "dense": [["P"], ["O"], ["M"], ["P"]],
    "parallel": [["P", "O", "M"]] * 2,
}


def structure_of(name, layers=None, *, limits=LIMITS, position=True, **options):
    torch.manual_seed(0)
    structure = STRUCTURES[name](
        LAYERS[name] if layers is None else layers,
        dim_in=C,
        dim_out=E,
        limits=limits,
        options=BlockOptions(dim_inner=D, init_std=0.5, zero_init=False, layer_norm=True, **options),
        temporal_position=position,
    )
    for key, value in structure.named_parameters():
        if "temporal" in key or "bias" in key:
            torch.nn.init.normal_(value)
    return structure.eval()


def features_of(persons, objects):
    generator = torch.Generator().manual_seed(1)
    return RoiFeatures(
        person=torch.rand(sum(persons), C, 1, 1, 1, generator=generator),
        person_counts=persons,
        object=None if objects is None else torch.rand(sum(objects), C, 1, 1, 1, generator=generator),
        object_counts=objects,
    )


def span_of(limits=LIMITS):
    return MemorySpan(before=limits.seconds_before, after=limits.seconds_after, rate=1, persons=limits.per_second)


def values_of(clips, limits=LIMITS):
    """Memory [N, S, Q, C] with empty places; nobody in the clip's own second."""
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(clips, limits.seconds, limits.per_second, C, generator=generator)
    values[torch.rand(values.shape[:3], generator=generator) < 0.3] = 0
    values[:, limits.seconds_before] = 0
    return values


def memory_of(clips, limits=LIMITS):
    return window_of(values_of(clips, limits), span_of(limits))


@torch.no_grad()
def test_a_block_equals_attention_written_out_person_by_person():
    torch.manual_seed(0)
    block = InteractionBlock(E, options=BlockOptions(dim_inner=D, init_std=0.5, zero_init=False), seconds=3)
    for value in (block.temporal_position_k, block.temporal_position_v):
        torch.nn.init.normal_(value)
    persons, context = torch.rand(5, D), torch.rand(2, 6, D)  # 3 seconds of 2 slots
    context[0, [1, 2, 3]] = context[1, 5] = 0  # empty slots
    rows, moments = context.clone(), torch.tensor([0, 0, 1, 1, 2, 2]).repeat(2, 1)
    moments[0, 1:4] = moments[1, 5] = 3
    rows[moments == 3] = 7.0  # is not looked at
    slots = Context.of([rows[:, :2], rows[:, 2:]], moments, places=torch.tensor([2, 2, 2]))
    refined = block(persons, slots, ClipRows([2, 3]))
    for row, clip in enumerate([0, 0, 1, 1, 1]):
        query = block.query(persons[row])
        logits, values = [], []
        for slot in range(6):
            offset_k, offset_v = (
                p[slot // 2].flatten() for p in (block.temporal_position_k, block.temporal_position_v)
            )
            logits.append((block.key(context[clip, slot]) + offset_k) @ query / D**0.5)
            values.append(block.value(context[clip, slot]) + offset_v)
        gathered = sum(weight * value for weight, value in zip(torch.stack(logits).softmax(0), values, strict=True))
        expected = block.shortcut(persons[row]) + block.out(F.relu(gathered))
        torch.testing.assert_close(refined[row], expected)


@pytest.mark.parametrize("name", sorted(STRUCTURES))
@pytest.mark.parametrize(
    ("persons", "objects"),
    [([0, 0], [0, 0]), ([0, 2], [1, 0]), ([1], [0]), ([6, 2], [5, 1])],
    ids=["nobody", "one clip without persons", "one person alone", "more than the slots"],
)
def test_edges(name, persons, objects):
    structure = structure_of(name).train()
    features = features_of(persons, objects)
    features.person.requires_grad_()
    refined = structure(features, memory_of(len(persons)))
    assert refined.shape == (sum(persons), E) and torch.isfinite(refined).all()
    refined.sum().backward()
    assert torch.isfinite(features.person.grad).all()


@pytest.mark.parametrize("name", sorted(STRUCTURES))
@torch.no_grad()
def test_clips_do_not_see_each_other(name):
    structure = structure_of(name)
    features, memory = features_of([2, 3], [1, 2]), memory_of(2)
    together = structure(features, memory)
    second = RoiFeatures(person=features.person[2:], person_counts=[3], object=features.object[1:], object_counts=[2])
    torch.testing.assert_close(structure(second, window_of(values_of(2)[1:], span_of())), together[2:])


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_every_trainable_weight_gets_a_gradient(name):
    for layers in (LAYERS[name], [["M"], ["P"], ["O"]], [["M"]]):
        structure = structure_of(name, layers)
        structure(features_of([2, 2], [1, 2]), memory_of(2)).square().sum().backward()
        without = [key for key, value in structure.named_parameters() if value.requires_grad and value.grad is None]
        assert without == []


@torch.no_grad()
def test_empty_slots_take_part_in_the_attention():
    """As in the original: more padding makes the context count for less."""
    features = features_of([2], [1])
    wide = ContextLimits(persons=20, objects=20, per_second=2, seconds_before=2, seconds_after=1)
    narrow = structure_of("serial")(features, memory_of(1))
    assert not torch.allclose(narrow, structure_of("serial", limits=wide)(features, memory_of(1)))


@torch.no_grad()
def test_the_clips_own_persons_are_in_the_middle_of_its_memory():
    structure = structure_of("serial")
    features, given = features_of([1, 3], [0, 0]), values_of(2)
    middle = LIMITS.seconds_before
    seen = complete(structure, features, memory_of(2))
    assert torch.equal(seen[0, middle, 0], features.person[0].flatten()) and (seen[0, middle, 1] == 0).all()
    assert torch.equal(seen[1, middle], features.person[1:3].flatten(1))  # the first two of three
    others = [second for second in range(LIMITS.seconds) if second != middle]
    assert torch.equal(seen[:, others].sum(dim=2), given[:, others].sum(dim=2))
    alone = complete(structure, features, None)
    assert (alone[:, others] == 0).all() and torch.equal(alone[:, middle], seen[:, middle])


def test_memory_carries_no_gradient():
    structure = structure_of("serial", [["M"]])
    features, memory = features_of([2], None), memory_of(1)
    memory.rows.requires_grad_()
    features.person.requires_grad_()
    assert not any(part.requires_grad for part in structure.memory_rows(features, memory)[0])
    structure(features, memory).sum().backward()
    assert memory.rows.grad is None and features.person.grad is not None


def test_the_choice_among_too_many_is_random_in_training_only():
    structure = structure_of("serial")
    assert structure.choose(9, 4).tolist() == [0, 1, 2, 3]
    torch.manual_seed(0)
    chosen = {tuple(structure.train().choose(9, 4).tolist()) for _ in range(5)}
    assert len(chosen) > 1 and all(len(set(rows)) == 4 and max(rows) < 9 for rows in chosen)


@torch.no_grad()
def test_a_fresh_structure_with_add_fusion_changes_nothing_but_by_its_shortcut():
    torch.manual_seed(0)
    structure = SerialInteraction(
        [["P"], ["M"]],
        dim_in=C,
        dim_out=D,
        limits=LIMITS,
        options=BlockOptions(dim_inner=D, zero_init=True),
        temporal_position=True,
    )
    features = features_of([3], None)
    torch.testing.assert_close(structure(features), structure.person_dim_reduce(features.person.flatten(1)))


def test_no_bias():
    structure = structure_of("dense", bias=False)
    assert not [key for key in structure.state_dict() if key.endswith("bias")]
    assert structure(features_of([2], [1]), memory_of(1)).shape == (2, E)


def test_wrong_inputs():
    structure = structure_of("serial")
    with pytest.raises(ValueError, match="got no object features"):
        structure(features_of([2], None), memory_of(1))
    with pytest.raises(ValueError, match=r"memory: got shape \(2, 4, 2, 7\), expected \(1, 4, 2, 7\)"):
        structure(features_of([2], [0]), memory_of(2))


NODE = "MODEL.IA_STRUCTURE."


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["I_BLOCK_LIST", []], "I_BLOCK_LIST: interaction blocks: got an empty list"),
        (["I_BLOCK_LIST", ["P", "X"]], "got 'X', expected 'P', 'O' or 'M'"),
        (
            ["I_BLOCK_LIST", [["P"], ["M"]]],
            r"got \[\['P'\], \['M'\]\], expected a list of blocks with STRUCTURE 'serial'",
        ),
        (["STRUCTURE", "parallel"], "expected a list of layers, e.g. .* with STRUCTURE 'parallel'"),
        (
            ["STRUCTURE", "parallel", NODE + "I_BLOCK_LIST", [["P"], ["P", "M"]]],
            "got a layer of 2 columns after one of 1, expected at most as many",
        ),
        (["STRUCTURE", "tree"], "STRUCTURE: got 'tree', expected one of 'serial', 'dense', 'parallel'"),
        (["FUSION", "add"], "FUSION, DIM_OUT: fusion: got 512 refined channels, 'add' needs 48"),
        (["FUSION", "multiply"], "got 'multiply', expected 'add' or 'concat'"),
    ],
)
def test_what_cannot_be_built(opts, message):
    cfg = get_cfg()
    cfg.merge_from_list([NODE + "ACTIVE", True, NODE + opts[0], *opts[1:]])
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        build_head(cfg, dim_in=48)


def test_which_persons_fill_the_slots():
    structure = structure_of("serial")
    assert structure.choose(9, 3).tolist() == [0, 1, 2]
    torch.manual_seed(5)
    expected = torch.randperm(9)[:3]
    torch.manual_seed(5)
    assert torch.equal(structure.train().choose(9, 3), expected)
    torch.manual_seed(5)
    assert torch.equal(structure_of_random().choose(9, 3), expected)


def structure_of_random():
    """In testing, with QUIRKS.RANDOM_CHOICE_IN_TEST."""
    random_state = torch.get_rng_state()
    structure = structure_of("serial", limits=replace(LIMITS, random_in_test=True))
    torch.set_rng_state(random_state)
    return structure


class PlainBlock(torch.nn.Module):
    """A block that looks at every slot, empty or not, as the original does."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, persons, slots, counts):
        """Persons [R, D], slots [N, L, D]."""
        block, refined = self.block, []
        for rows, context in zip(persons.split(counts), slots, strict=True):
            key, value = block.key(context), block.value(context)
            if block.temporal_position_k is not None:
                times = len(context) // len(block.temporal_position_k)
                key = key + block.temporal_position_k.flatten(1).repeat_interleave(times, dim=0)
                value = value + block.temporal_position_v.flatten(1).repeat_interleave(times, dim=0)
            attention = (block.query(rows) @ key.T / D**0.5).softmax(dim=1)
            gathered = F.layer_norm(attention @ value, [D])
            refined.append(block.out(F.relu(gathered)) + block.shortcut(rows))
        return torch.cat(refined)


@pytest.mark.parametrize("per_second", [1, 9], ids=["reduced rows", "wide rows"])
@pytest.mark.parametrize("position", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_merged_empty_slots_equal_plain_ones(position, bias, per_second):
    """Values and all gradients, one block of each kind."""
    limits = replace(LIMITS, per_second=per_second)
    counts, objects = [3, 0, 2, 1], [3, 1, 0, 2]
    features = features_of(counts, objects)
    features = replace(features, person=features.person.double(), object=features.object.double())
    values = values_of(4, limits).double()
    values[1], values[0, 1:, 1:] = 0, 0  # a clip without memory, and one with little
    window = window_of(values, span_of(limits))
    for kind in "POM":
        structure = structure_of("serial", [[kind]], limits=limits, position=position, bias=bias).double().train()
        structure.choose = lambda count, slots: torch.arange(slots)
        features.person.requires_grad_().grad = None
        refined = structure(features, window)
        toward = torch.linspace(-1, 2, refined.numel(), dtype=torch.float64).view_as(refined)
        parameters = [value for value in structure.parameters() if value.requires_grad]
        grads = torch.autograd.grad((refined * toward).sum(), [*parameters, features.person], allow_unused=True)

        persons = features.person.flatten(1)
        if kind == "P":
            reduced, slots = structure.person_key_dim_reduce(persons).split(counts), limits.persons
            context = torch.stack([F.pad(rows, (0, 0, 0, slots - len(rows))) for rows in reduced])
        elif kind == "O":
            things, slots = features.object.flatten(1).split(objects), limits.objects
            context = torch.stack([F.pad(rows, (0, 0, 0, slots - len(rows))) for rows in things])
            context = structure.object_dim_reduce(context)
        else:
            assert (structure._memory(features, window).reduce is None) == (per_second == 1)
            context = structure.mem_dim_reduce(complete(structure, features, window).flatten(1, 2))
        plain = PlainBlock(structure.block(0, 0))(structure.person_dim_reduce(persons), context, counts)
        expected = torch.autograd.grad((plain * toward).sum(), [*parameters, features.person], allow_unused=True)
        torch.testing.assert_close(refined, plain, rtol=1e-10, atol=1e-10)
        for got, want in zip(grads, expected, strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
