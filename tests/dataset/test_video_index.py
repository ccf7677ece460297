import pytest
from videos import write_video

from alphaction.dataset.video_index import VideoIndex, in_threads, list_seconds, open_source
from alphaction.dataset.video_io import SecondFiles, WholeVideo
from alphaction.errors import DataError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", 10, 10)


@pytest.fixture
def root(tmp_path, video):
    def add(name, content=None):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video.read_bytes() if content is None else content)
        return path

    (tmp_path / "videos").mkdir()
    add.path = tmp_path / "videos"
    return add


def find(root, movie):
    [found] = VideoIndex(root.path).find([movie])
    assert found.movie == movie
    return found


@pytest.mark.parametrize("name", ["m.mp4", "m.MKV", "m.webm"])
def test_whole_video(root, name):
    root(name)
    found = find(root, "m")
    assert found.path == str(root.path / name) and not found.problem
    assert (found.info.width, found.info.height, found.info.duration) == (96, 48, pytest.approx(1.0))


def test_movie_with_dots_and_with_its_extension(root):
    root("clip.v1.mp4")
    assert find(root, "clip.v1").path == find(root, "clip.v1.mp4").path == str(root.path / "clip.v1.mp4")


def test_clips(root):
    for name in ("7.mp4", "0007.mp4", "0012.MP4", "13.avi", "notes.txt", "cover.mp4", "3.jpg"):
        root(f"m/{name}")
    root("m/14.mp4", b"")
    found = find(root, "m")
    assert found.clips == {7: "7.mp4", 12: "0012.MP4", 13: "13.avi", 14: "14.mp4"} and found.empty == [14]
    assert list_seconds(found.path) == (found.clips, [14])
    assert not found.problem and not found.note and found.info is None
    assert find(root, "m.mp4").clips == found.clips


def test_folder_before_file(root):
    root("m/7.mp4")
    root("m.mp4")
    found = find(root, "m")
    assert found.clips == {7: "7.mp4"} and found.note == "m: the folder of clips is used, not m.mp4"


def test_folder_without_clips_does_not_hide_the_file(root):
    root("m/cover.jpg")
    root("m.mp4")
    assert find(root, "m").path == str(root.path / "m.mp4")


def test_two_files(root):
    root("m.avi")
    root("m.mp4")
    found = find(root, "m")
    assert found.path.endswith("m.mp4") and found.note == "m: m.mp4 is used, not m.avi"


@pytest.mark.parametrize(
    "name, content, movie, message",
    [
        ("other.mp4", None, "m", "not found; expected .*videos/m{.mp4,.mkv,.*} or the folder .*videos/m"),
        ("m.mp4", b"", "m", "m.mp4 is empty .0 bytes."),
        ("m.mp4", b"no video at all", "m", "m.mp4"),
        ("m/cover.jpg", None, "m", "m holds no clip named like 12.mp4 or 0012.mp4"),
        ("m/12.mp4", b"", "m", "all clips in .*m are empty"),
    ],
)
def test_problems(root, name, content, movie, message):
    root(name, content)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(find(root, movie).problem)


def test_many_movies_in_order_and_once(root, monkeypatch):
    movies = [f"m{i}" for i in range(70)]
    for movie in movies[::2]:
        root(f"{movie}.mp4")
    index = VideoIndex(root.path)
    found = index.find(movies)
    assert [entry.movie for entry in found] == movies
    assert [not entry.problem for entry in found] == [i % 2 == 0 for i in range(70)]
    monkeypatch.setattr(index, "_look_up", None)
    assert index.find(movies[:3]) == found[:3]


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match="none: the video folder does not exist"):
        VideoIndex(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: the video folder cannot be read"):
        VideoIndex(tmp_path / "file")


def test_sources(root):
    root("m/7.mp4")
    path = str(root("n.mp4"))
    assert open_source(path) == WholeVideo(path)
    assert open_source(str(root.path / "m")) == SecondFiles(str(root.path / "m"), {7: "7.mp4"})


def test_in_threads():
    assert in_threads(str, [], title="") == [] and in_threads(str, [1], title="") == ["1"]
    assert in_threads(str, list(range(100)), title="") == [str(i) for i in range(100)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda i: 1 // i, [1, 0], title="")
