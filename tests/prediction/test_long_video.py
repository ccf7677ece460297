"""The length of a video does not matter to the memory that it takes."""

import gc
import os

import numpy as np
from prediction_kit import stand_in
from videos import write_video

from alphaction import Predictor
from alphaction.prediction.boxes.persons import Seen
from alphaction.structures import MemorySpan

MINUTES = 30
RATE = 1.0
CHANNELS = 2304
PERSONS = 5
BOXES = np.array([[x, 4, x + 8, 30] for x in range(PERSONS)], np.float32)


def resident_mib() -> float:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_half_an_hour_takes_no_more_memory_than_five_minutes(tmp_path):
    frames = np.repeat(np.arange(0, 240, 4, dtype=np.uint8), 32 * 48 * 3).reshape(60, 32, 48, 3)
    path = write_video(
        tmp_path / "long.mp4",
        np.tile(frames, (MINUTES * 60 * 2 // 60, 1, 1, 1)),
        fps=2,
        options={"preset": "ultrafast"},
    )
    network = stand_in(memory=MemorySpan(before=30, after=30, rate=1, persons=5), channels=CHANNELS, rate=2.0)
    boxes = Seen(BOXES, np.ones(PERSONS, np.float32))
    early = None
    count = 0
    with Predictor(network)(path, boxes=lambda time, image: boxes, detect_rate=RATE) as run:
        for moment in run:
            count += len(list(run.frames(moment.time)))
            network.model.windows.clear()
            network.model.times.clear()
            if early is None and moment.time >= 300:
                early = resident_mib()
        late = resident_mib()
        count += len(list(run.frames()))
    assert run.num_moments == MINUTES * 60 * RATE and run.num_persons == PERSONS
    assert count == MINUTES * 60 * 2
    # Features alone would be 66 MiB more, small frames 15, frames 45.
    assert late - early < 12, (early, late)
