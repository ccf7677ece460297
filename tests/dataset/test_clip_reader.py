"""Clips of one video read together are those read one by one, from fewer decoded frames; memory stays bounded."""

from __future__ import annotations

import gc
import pathlib
import tracemalloc

import pytest
import torch
import videos

from alphaction.dataset import clip_reader
from alphaction.dataset.clip_reader import ClipJob, FinishedClip, read_clips
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import Augmentation, ClipTransform
from alphaction.dataset.video_cache import VideoCache
from alphaction.dataset.video_file import VideoFile
from alphaction.dataset.video_io import SecondFiles, VideoSource, WholeVideo
from alphaction.errors import VideoError

SAMPLING = ClipSampling(frame_num=16, sample_rate=1, tau=4, alpha=4)
TRANSFORM = ClipTransform(min_size=40, max_size=96)
DRAWN = Augmentation(color=(4, -9, 12), flip=True, slow_shift=1)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> VideoCache:
    own = VideoCache(open_files=2, kept_indices=3)
    monkeypatch.setattr(clip_reader, "shared_cache", lambda: own)
    return own


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Time stamps of all frames that come out of a decoder."""
    seen, frames = [], VideoFile._frames

    def counting(self: VideoFile, *args: object, **options: object):
        for frame in frames(self, *args, **options):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoFile, "_frames", counting)
    return seen


def sources(folder: pathlib.Path) -> dict[str, VideoSource]:
    whole = videos.write_video(folder / "v.mp4", 120, gop=60, b_frames=3)
    files = videos.write_second_files(folder / "seconds", dict.fromkeys(range(5), 25))
    return {"whole": WholeVideo(str(whole)), "seconds": SecondFiles(str(folder / "seconds"), files)}


def clips_of(jobs: list[ClipJob], *, on_device: bool = False) -> list[FinishedClip | Exception]:
    return read_clips(jobs, sampling=SAMPLING, transform=TRANSFORM, on_device=on_device)


def same(one: FinishedClip, other: FinishedClip) -> bool:
    if one.planes is not None:
        return one.planes.layouts == other.planes.layouts and torch.equal(one.planes.data, other.planes.data)
    return torch.equal(one.slow, other.slow) and torch.equal(one.fast, other.fast)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("kind", ["whole", "seconds"])
def test_together_as_one_by_one(tmp_path, cache, decoded, kind, on_device):
    source = sources(tmp_path)[kind]
    drawn = [Augmentation(), DRAWN, Augmentation(flip=True), Augmentation(), DRAWN]
    jobs = [ClipJob(source, time, draw) for time, draw in zip([2.0, 1.6, 2.0, 0.0, 4.0], drawn, strict=True)]
    together = clips_of(jobs, on_device=on_device)
    at_once = len(decoded)
    alone = [clips_of([job], on_device=on_device)[0] for job in jobs]
    assert all(map(same, together, alone))
    assert at_once < 0.75 * (len(decoded) - at_once)
    assert [clip.source_size for clip in together] == [(48, 96)] * 5


def test_far_apart_in_one_video_nothing_between_is_decoded(tmp_path, cache, decoded):
    source = WholeVideo(str(videos.write_video(tmp_path / "v.mp4", 400, gop=25)))
    clips_of([ClipJob(source, time, Augmentation()) for time in (1.0, 15.0)])
    assert len(decoded) < 100


@pytest.mark.parametrize("kind", ["whole", "seconds"])
def test_a_clip_that_cannot_be_read_spoils_no_other(tmp_path, cache, kind):
    source = sources(tmp_path)[kind]
    other = WholeVideo(str(tmp_path / "missing.mp4"))
    jobs = [ClipJob(source, 1.0, DRAWN), ClipJob(source, 60.0, DRAWN), ClipJob(other, 1.0, DRAWN)]
    good, late, missing = clips_of(jobs)
    assert same(good, clips_of(jobs[:1])[0])
    assert isinstance(late, VideoError)
    assert isinstance(missing, VideoError)
    assert "missing.mp4: cannot read the video" in str(missing)


def test_nothing_of_a_clip_is_kept(tmp_path, cache):
    """Open files and indices are bounded, and no frame outlives its clip."""
    source = sources(tmp_path)["whole"]
    paths = [videos.write_video(tmp_path / f"{i}.mp4", 20) for i in range(5)]
    jobs = [ClipJob(WholeVideo(str(path)), 0.4, DRAWN) for path in paths] + [ClipJob(source, 2.0, DRAWN)]
    clips_of(jobs)
    gc.collect()
    tracemalloc.start()  # knows of arrays, too
    try:
        clips_of(jobs)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            clips_of(jobs)
            assert len(cache) <= 2
            assert len(cache._indices) <= 3
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 40 * 96 * 3  # less than one frame
    finally:
        tracemalloc.stop()
    cache.close()
    assert len(cache) == 0
