from alphaction.utils.meters import Means


def test_means_are_those_since_the_last_ones():
    means = Means()
    means.add({"loss": 1.0, "time": 5.0})
    means.add({"loss": 2.0})
    assert means.take() == {"loss": 1.5, "time": 5.0}
    means.add({"loss": 7.0})
    assert means.take() == {"loss": 7.0}
    assert means.take() == {}


def test_means_keep_no_values():
    """QUIRKS 77: the original kept every value of the run."""
    means = Means()
    for value in range(1000):
        means.add({"loss": float(value)})
    assert means._sums == {"loss": (499500.0, 1000)}
