import pytest

from alphaction.structures.groups import ActionGroup


def test_columns():
    assert ActionGroup(name="a", start=3, size=2, loss="sigmoid", weight=1.0).columns == slice(3, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "group a: got loss 'hinge', expected 'softmax' or 'sigmoid'"),
        ({"size": 0}, "group a: got start 0 and size 0"),
        ({"start": -1}, "group a: got start -1 and size 2"),
    ],
)
def test_impossible_groups(change, message):
    with pytest.raises(ValueError, match=message):
        ActionGroup(**({"name": "a", "start": 0, "size": 2, "loss": "softmax", "weight": 1.0} | change))
