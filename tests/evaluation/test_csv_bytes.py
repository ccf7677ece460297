"""Numbers read from bytes: exactly those of `int` and `float`, or an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.evaluation import csv_bytes


def chunk_of(tmp_path_factory, fields):
    """A chunk whose eighth column are the fields, and where they are."""
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_text("".join(f"m,1,0,0,1,1,1,{text}\n" for text in fields))
    (chunk,) = csv_bytes.chunks(path)
    return chunk, chunk.comma[:, 6] + 1, chunk.end


@given(st.lists(st.integers(0, 99_999_999).map(str) | st.sampled_from(["0", "007", "00000000"]), min_size=1))
@settings(max_examples=60, deadline=None)
def test_whole_numbers(tmp_path_factory, texts):
    np.testing.assert_array_equal(
        csv_bytes.whole_numbers(*chunk_of(tmp_path_factory, texts)), [int(text) for text in texts]
    )


@pytest.mark.parametrize("text", ["", "123456789", "1.5", "-1", "1 ", "x", "1:", "/1", "é1"])
def test_other_things_are_no_whole_numbers(tmp_path_factory, text):
    with pytest.raises(csv_bytes.UnusualError):
        csv_bytes.whole_numbers(*chunk_of(tmp_path_factory, ["12", text]))


@given(st.integers(0, 12), st.lists(st.floats(0, 1) | st.floats(0, 12_345_678), min_size=1), st.booleans())
@settings(max_examples=150, deadline=None)
def test_decimals_of_one_format(tmp_path_factory, places, numbers, small):
    texts = [f"{number % 1 if small else number:.{places}f}" for number in numbers]
    got = csv_bytes.decimals(*chunk_of(tmp_path_factory, texts))
    np.testing.assert_array_equal(got, [float(text) for text in texts])


OTHERS = ["0.5", "1", "1e-5", ".25", "5.", "-0.12345", "+1.00000", "1_1.12345", "0.123456789012345678"]


@pytest.mark.parametrize("text", OTHERS)
def test_another_format_in_between(tmp_path_factory, text):
    texts = ["0.12345", text, "1.00000"]
    got = csv_bytes.decimals(*chunk_of(tmp_path_factory, texts))
    np.testing.assert_array_equal(got, [float(text) for text in texts])


@pytest.mark.parametrize("text", ["", "0.1234x", "x.12345", "nan", "inf", "0.12:45", "1.2.34567"])
def test_what_is_no_number(tmp_path_factory, text):
    with pytest.raises(csv_bytes.UnusualError):
        csv_bytes.decimals(*chunk_of(tmp_path_factory, ["0.12345", text]))
