from alphaction.utils.meters import Meter, Meters


def test_a_meter_forgets_all_but_its_window():
    """QUIRKS 77: the original kept every value of the run."""
    meter = Meter(window=3)
    assert (meter.recent, meter.mean) == (0.0, 0.0)
    for value in range(1000):
        meter.add(float(value))
    assert meter.recent == 998.0
    assert meter.mean == 499.5
    assert len(meter._recent) == 3


def test_meters_by_name():
    meters = Meters(window=2)
    meters.add({"loss": 1.0, "time": 5.0})
    meters.add({"loss": 2.0})
    meters.add({"loss": 4.0})
    assert meters.recent() == {"loss": 3.0, "time": 5.0}
    assert meters["loss"].mean == 7 / 3
