"""Training and testing with two real processes, as users start them and with faults in one of them."""

import functools
import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import process_kit
import pytest
import run_kit
import torch

from alphaction.config import load_config
from alphaction.engine.evaluate import load_predictions
from alphaction.engine.startup.agreement import check_agreement
from alphaction.errors import CheckpointError
from alphaction.modeling import build_detection_model
from alphaction.utils.distributed import Processes

IA = "MODEL.IA_STRUCTURE."
MEMORY = [
    *[IA + "ACTIVE", True, IA + "DIM_IN", 576, IA + "DIM_INNER", 16, IA + "DIM_OUT", 16, IA + "MAX_OBJECT", 0],
    *[IA + "LENGTH", "(2, 2)", IA + "MEMORY_STEP", 0.5, IA + "STRUCTURE", "serial", IA + "I_BLOCK_LIST", "['P', 'M']"],
    *[IA + "USE_ZERO_INIT_CONV", False, IA + "LAYER_NORM", True, IA + "MAX_PER_SEC", 2, IA + "MAX_PERSON", 3],
]
# A script of this repository in a process of the kit, after something was changed in it.
SCRIPT = """
{change}
from alphaction.engine.build import TrainFlags, test_from_config, train_from_config
from alphaction.engine.script import run_script
run_script(lambda: {call})
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return run_kit.write_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def config(dataset):
    """Tests on the two videos with six keyframes."""
    path = run_kit.write_config(dataset.parent / "tiny.yaml", dataset)
    path.write_text(path.read_text().replace(":val", ":train"))
    return path


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run_kit.train(config, folder, skip_final_test=True, skip_validation=True)
    return folder / "model_final.pth"


@pytest.fixture(scope="module", autouse=True)
def launched(config, weights, tmp_path_factory):
    """How a training with the guide's launcher and a test with torchrun ended, and their folders.

    They run one after the other beside the tests that need no launcher.
    """
    folders = {name: tmp_path_factory.mktemp("runs") / name for name in ("launch", "run")}
    given = ("--config-file", config, "OUTPUT_DIR")
    more = ("MODEL.WEIGHT", weights, "TEST.VIDEOS_PER_BATCH", 2)
    start = functools.partial(process_kit.launch, "train_net.py", *given, folders["launch"], launcher="launch")
    again = functools.partial(process_kit.launch, "test_net.py", *given, folders["run"], *more, launcher="run")
    with ThreadPoolExecutor(1) as beside:
        runs = {"launch": beside.submit(start), "run": beside.submit(again)}
        yield lambda name: (folders[name], runs[name].result())


def trained(config, folder, *opts, change=""):
    opts = [*map(str, opts), "OUTPUT_DIR", str(folder)]
    return SCRIPT.format(change=change, call=f"train_from_config({str(config)!r}, {opts}, TrainFlags())")


def checked(config, folder, *opts, change=""):
    opts = [*map(str, opts), "OUTPUT_DIR", str(folder)]
    return SCRIPT.format(change=change, call=f"test_from_config({str(config)!r}, {opts})")


def ended(members):
    return [member.ends() for member in members]


def predictions(folder):
    return load_predictions(folder / "inference/tiny_train/predictions.pth")


def test_a_batch_that_cannot_be_divided(config, tmp_path):
    code = trained(config, tmp_path, "SOLVER.VIDEOS_PER_BATCH", 3)
    with process_kit.start(code, 2, tmp_path) as members:
        assert ended(members) == [1, 1]
        words = "SOLVER.VIDEOS_PER_BATCH: got 3, expected a multiple of 2, the number of processes"
        assert words in members[0].text and members[0].text.count("error: ") == 1
        assert not members[1].text  # one message is enough


UNREADABLE = """
from alphaction.dataset import ActionDataset
read = ActionDataset.__getitems__
def one(self, item):
    {fault}
    return read(self, [item])[0]
ActionDataset.__getitems__ = lambda self, items: [one(self, item) for item in items]
"""


def test_an_unreadable_clip_shifts_no_other(config, weights, tmp_path):
    """Of the second process's share the first clip is lost."""
    change = UNREADABLE.format(fault="if item == 3: return None")
    for size, batch in ((1, 1), (2, 2)):
        code = checked(
            config, tmp_path / f"{size}", "MODEL.WEIGHT", weights, "TEST.VIDEOS_PER_BATCH", batch, change=change
        )
        with process_kit.start(code, size, tmp_path) as members:
            assert ended(members) == [0] * size, members[-1].text
        for member in members:
            member.output.unlink()
    one, two = predictions(tmp_path / "1"), predictions(tmp_path / "2")
    assert sorted(set(two.keyframe.tolist())) == [0, 1, 2, 4, 5]
    for name in ("keyframe", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name))


def test_an_unreadable_video_of_one_process_ends_all_with_one_message(config, weights, tmp_path):
    fault = "from alphaction.errors import VideoError\n    if item == 4: raise VideoError('street.mp4: broken')"
    code = checked(config, tmp_path / "run", "MODEL.WEIGHT", weights, change=UNREADABLE.format(fault=fault))
    with process_kit.start(code, 2, tmp_path) as members:
        assert ended(members) == [1, 1]
        texts = [member.text for member in members]
    assert "error: " not in texts[0] and texts[1].count("[process 1] error: street.mp4: broken") == 1
    assert "ERROR: street.mp4: broken" in (tmp_path / "run/test_log.txt").read_text()


def test_the_memory_of_a_test_is_that_of_all_processes(config, tmp_path):
    run_kit.train(config, tmp_path / "made", *MEMORY, "SOLVER.MAX_ITER", 1, skip_final_test=True)
    opts = (*MEMORY, "MODEL.WEIGHT", tmp_path / "made/model_final.pth")
    run_kit.test(config, tmp_path / "one", *opts)
    # Shares of one and five keyframes: the processes have unequal numbers of batches.
    for name, change in {"two": UNEVEN, "blind": UNEVEN + NOT_GATHERED}.items():
        with process_kit.start(checked(config, tmp_path / name, *opts, change=change), 2, tmp_path) as members:
            assert ended(members) == [0, 0], members[0].text + members[1].text
    one, two, blind = (predictions(tmp_path / name) for name in ("one", "two", "blind"))
    np.testing.assert_array_equal(two.keyframe, one.keyframe)
    np.testing.assert_allclose(two.scores, one.scores, rtol=0, atol=5e-7)
    assert np.abs(blind.scores - one.scores).max() > 5e-6  # the others' persons count


NOT_GATHERED = """
from alphaction.utils.distributed import Processes
Processes.gather_rows = lambda self, rows: rows
"""
UNEVEN = """
import numpy as np
from alphaction.dataset import samplers
init = samplers.TestBatchSampler.__init__
def uneven(self, length, *, batch_size, group_ids=None, rank=0, world_size=1):
    init(self, length, batch_size=batch_size, group_ids=group_ids)
    own = np.arange(0, 1) if rank == 0 else np.arange(1, length)
    self._batches = samplers.group_batches(own, batch_size=batch_size, group_ids=group_ids)
samplers.TestBatchSampler.__init__ = uneven
"""


def test_one_process_that_is_asked_to_stop_stops_all(config, weights, tmp_path):
    change = "import os\n" + UNREADABLE.format(fault="if os.environ['RANK'] == '1': os.kill(os.getpid(), 15)")
    options = ("MODEL.WEIGHT", weights, "TEST.VIDEOS_PER_BATCH", 2)
    with process_kit.start(checked(config, tmp_path / "run", *options, change=change), 2, tmp_path) as members:
        assert ended(members) == [143, 143], members[0].text + members[1].text
    assert not (tmp_path / "run/inference").exists()


def test_a_process_killed_in_training_is_named(config, tmp_path):
    options = ("SOLVER.MAX_ITER", 5000, "SOLVER.EVAL_PERIOD", 9999, "SOLVER.CHECKPOINT_PERIOD", 9999)
    with process_kit.start(trained(config, tmp_path / "run", *options), 2, tmp_path) as members:
        members[0].says("iteration 3/")
        members[1].kill()
        assert members[0].ends() == 1
        pid, text = members[1].process.pid, members[0].text
    assert re.search(rf"error: process 1 of 2 \(\S+, pid {pid}\) died \(it was at: .+\)", text)
    assert "Traceback" not in text
    assert "ERROR: process 1 of 2" in (tmp_path / "run/log.txt").read_text()


class Told(Processes):
    """The others start from scratch."""

    def gather(self, value):
        return [value if rank == self.rank else ("", 0) for rank in range(self.size)]


def test_machines_without_a_common_folder_are_noticed(tmp_path):
    file = tmp_path / "model_0000100.pth"
    with pytest.raises(CheckpointError) as raised:
        check_agreement(file, 100, Told(rank=0, size=3))
    told = f"process 0: {file}, iteration 100; processes 1, 2: from scratch, iteration 0"
    assert told in str(raised.value) and "every machine" in str(raised.value)
    assert not raised.value.told_elsewhere
    with pytest.raises(CheckpointError) as raised:
        check_agreement(file, 100, Told(rank=2, size=3))
    assert raised.value.told_elsewhere
    check_agreement(None, 0, Told(rank=1, size=3))


def test_batch_norm_over_all_processes_needs_gpus(config, tmp_path, capsys):
    told = run_kit.fail_train(capsys, config, tmp_path, "MODEL.BACKBONE.SYNC_BN", True)
    assert told.startswith("MODEL.BACKBONE.SYNC_BN is True, but the run is on the processor")


def test_nccl_needs_gpus(config, tmp_path):
    code = trained(config, tmp_path, "DISTRIBUTED.BACKEND", "nccl")
    with process_kit.start(code, 2, tmp_path) as members:
        assert ended(members) == [1, 1]
        assert "DISTRIBUTED.BACKEND is 'nccl', which needs a GPU for each process" in members[0].text


def test_synchronised_batch_norms_keep_the_names_of_the_weights(config):
    model = build_detection_model(load_config(config))
    before = {name: value.shape for name, value in model.state_dict().items()}
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in converted.modules())
    assert {name: value.shape for name, value in converted.state_dict().items()} == before


def test_a_run_of_two_processes_leaves_one_set_of_files(launched):
    folder, ended = launched("launch")
    assert ended.returncode == 0, ended.stderr
    names = {path.name for path in folder.iterdir()}
    assert {"log.txt", "log_rank1.txt", "config.yaml", "metrics.jsonl", "model_final.pth", "last_checkpoint"} <= names
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "loss_action" in line] == [1, 2, 3, 4]
    assert [line["iteration"] for line in lines if "tiny_train_mAP_0.5IOU" in line] == [2, 4]


def test_every_process_has_its_log(launched):
    folder, run = launched("launch")
    first, second = ((folder / name).read_text() for name in ("log.txt", "log_rank1.txt"))
    for log in (first, second):
        assert "iteration 4/4" in log and " ERROR: " not in log
    assert "Process 1 of 2, device cpu" in second
    assert "Saved " in first and "Saved " not in second
    # The terminal shows every line once, and no complaint about how the processes ended.
    assert run.stdout.count("iteration 4/4") == 1
    assert "destroy_process_group" not in run.stderr and "Traceback" not in run.stderr


def test_torchrun_tests_as_one_process_does(config, weights, launched, tmp_path):
    """Byte for byte, with as many clips per process and batch."""
    ours, run = launched("run")
    assert run.returncode == 0, run.stderr
    alone = tmp_path / "one"
    run_kit.test(config, alone, "MODEL.WEIGHT", weights, "TEST.VIDEOS_PER_BATCH", 1)
    results = alone / "inference/tiny_train"
    for path in results.rglob("*.*"):
        if path.name == "report.html":  # has the date
            continue
        assert (ours / "inference/tiny_train" / path.relative_to(results)).read_bytes() == path.read_bytes(), path.name
    assert (ours / "test_log.txt").exists() and (ours / "test_log_rank1.txt").exists()
