"""What processes tell each other, with two real ones."""

import json

import process_kit

from alphaction.utils.distributed import ALONE

TOGETHER = """
import json, os, sys, torch
from alphaction.errors import DataError
from alphaction.utils.launch import connected, read_launch
from alphaction.utils.seed import seed_all, seed_rank

with connected(read_launch()) as connection:
    processes = connection.open_group(torch.device("cpu"), backend="gloo", timeout=60, dead_after=30)
    rank = processes.rank
    answers = {
        "sum": processes.sum([1, 10 * rank]),
        "gather": processes.gather({"rank": rank}),
        "to_main": processes.to_main(rank),
        "rows": processes.gather_rows(torch.full((3 * rank, 2), rank + 0.5)).tolist(),
        "bytes": processes.gather_rows(torch.full((2 - rank, 1), 7 * rank, dtype=torch.uint8)).tolist(),
        "nobody": list(processes.gather_rows(torch.zeros(0, 4)).shape),
        "from_main": processes.from_main(rank),
        "on_main": processes.on_main(lambda: rank + 5),
        "is_main": processes.is_main,
    }
    def fails():
        raise DataError("boxes.json: row 3")
    try:
        processes.on_main(fails)
    except DataError as error:
        answers["on_main fails"] = [str(error), error.told_elsewhere]
    for errors in ([None, None], [None, "b"], ["a", "b"]):
        try:
            processes.raise_first(errors[rank] and DataError(errors[rank]))
        except DataError as error:
            answers[f"raise_first {errors}"] = [str(error), error.told_elsewhere]
    class Local(Exception):
        def __reduce__(self):
            raise TypeError("stays here")
    try:
        processes.raise_first(Local("odd") if rank else None)
    except Exception as error:
        answers["odd error"] = f"{type(error).__name__}: {error}"
    seed_all(7)
    weights = torch.rand(3).tolist()
    seed_rank(7, rank)
    answers["weights"], answers["dropout"] = weights, torch.rand(3).tolist()
    processes.wait()
    sys.stdout.write(json.dumps(answers))
"""


def test_two_processes_tell_each_other_everything(tmp_path):
    with process_kit.start(TOGETHER, 2, tmp_path) as members:
        assert [member.ends() for member in members] == [0, 0], [member.text for member in members]
        first, second = (json.loads(member.text) for member in members)
    for answers in (first, second):
        assert answers["sum"] == [2, 10]
        assert answers["gather"] == [{"rank": 0}, {"rank": 1}]
        assert answers["rows"] == [[1.5, 1.5]] * 3  # process 0 had none
        assert answers["bytes"] == [[0], [0], [7]] and answers["nobody"] == [0, 4]
        assert answers["from_main"] == 0 and answers["on_main"] == 5
        assert "raise_first [None, None]" not in answers
    assert (first["to_main"], second["to_main"]) == ([0, 1], [])
    assert (first["is_main"], second["is_main"]) == (True, False)
    # The error of one is the error of all, and one of them tells it.
    assert first["on_main fails"] == ["boxes.json: row 3", False]
    assert second["on_main fails"] == ["boxes.json: row 3", True]
    assert (first["raise_first [None, 'b']"], second["raise_first [None, 'b']"]) == (["b", True], ["b", False])
    assert (first["raise_first ['a', 'b']"], second["raise_first ['a', 'b']"]) == (["a", False], ["a", True])
    assert (first["odd error"], second["odd error"]) == ("RuntimeError: Local: odd", "Local: odd")
    assert first["weights"] == second["weights"] and first["dropout"] != second["dropout"]


def test_one_process_needs_no_others():
    assert ALONE.sum([1, 2]) == [1, 2] and ALONE.gather("a") == ["a"] and ALONE.to_main("a") == ["a"]
    assert ALONE.on_main(lambda: 3) == 3 and ALONE.from_main(4) == 4 and ALONE.is_main
    ALONE.raise_first(None)
    ALONE.wait()
