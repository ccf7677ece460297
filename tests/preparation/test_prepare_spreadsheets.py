"""Tables, names and folders as spreadsheets, a Mac and a server's rights leave them."""

from __future__ import annotations

import os
import shutil
import unicodedata

import pytest
from source_kit import VIDEOS, make_videos, plain_csv, run, written

from alphaction.errors import DataError
from alphaction.preparation import prepare_videos, sources
from alphaction.preparation.prepare_collect import DataOptions, read_source
from alphaction.preparation.prepare_videos import ProbeCache, VideoFolder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"))


def _semicolons(path):
    """The table as a spreadsheet with decimal commas saves it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = [
        [cell if column == 0 else cell.replace(".", ",") for column, cell in enumerate(line.split(","))]
        for line in lines
    ]
    path.write_text("\n".join(";".join(row) for row in cells), encoding="utf-8")


def test_decimal_commas_are_numbers_and_told(videos, tmp_path):
    path = plain_csv(tmp_path)
    run(tmp_path, videos, path)
    plain = written(tmp_path / "out")
    _semicolons(path)
    assert "," in path.read_text(encoding="utf-8")
    report = run(tmp_path, videos, path, force=True)
    assert written(tmp_path / "out") == plain
    assert report.count("numbers with a decimal comma are read as such (first in line ") == 1


def test_decimal_commas_without_a_header_and_commas_in_actions(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("nest;0,5;0,1;0,2;0,5;0,9;1,2;7\nnest;1;0;0;1;1;sit;7\n")
    first, second = read_source(path, DataOptions(videos="", annotations=())).records
    assert (first.time, first.box, first.actions) == (0.5, (0.1, 0.2, 0.5, 0.9), ("1,2",))
    assert (second.time, second.box, second.actions) == (1.0, (0.0, 0.0, 1.0, 1.0), ("sit",))


def test_a_table_that_is_not_utf8_says_what_to_do(videos, tmp_path):
    path = plain_csv(tmp_path)
    path.write_bytes(path.read_bytes() + "k\u00fcche,1,1,1,20,20,run\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"nor a CSV text in UTF-8 \(.*Save it as UTF-8 \(Excel: 'CSV UTF-8'\)"):
        run(tmp_path, videos, path)


def test_rows_that_are_all_faulty_are_named(videos, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video,time,x1,y1,x2,y2,action\na1,00:01,1,1,20,20,run\n")
    with pytest.raises(DataError, match="there is no box with an action\n.*line 2: video 'a1', time '00:01'"):
        run(tmp_path, videos, path)


def test_rows_with_more_cells_than_columns_are_refused(videos, tmp_path):
    path = tmp_path / "a.csv"
    header = "video,time,x1,y1,x2,y2,action\n"
    path.write_text(header + "a1,1,1,1,20,20,run,,\nb2,0,5,1,1,20,20,run\nc3,1,1,1,20,20,run\n")
    with pytest.raises(DataError, match=r"more than the 7 cells of the columns: 1 \(.*line 3: b2,0,5,1,1,20,20,run\)"):
        run(tmp_path, videos, path)


def test_one_row_repeats_another(videos, tmp_path):
    path = plain_csv(tmp_path)
    row = path.read_text(encoding="utf-8").splitlines()[-1]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + row + "\n")
    assert "1 row repeats another one and counts once" in run(tmp_path, videos, path)


@pytest.mark.parametrize("on_disk, written_as", [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_of_a_mac(on_disk, written_as, videos, tmp_path):
    name = unicodedata.normalize(on_disk, "K\u00fcche 1.MP4")
    shutil.copy(videos / f"{VIDEOS[0]}.mp4", tmp_path / name)
    folder = VideoFolder(tmp_path)
    for other in ("K\u00fcche 1.MP4", "k\u00fcche 1.mp4", "K\u00fcche 1"):
        assert folder.find(unicodedata.normalize(written_as, other)) == [tmp_path / name]


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    (tmp_path / "videos" / "closed").mkdir(parents=True)
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(sources.os, "scandir", closed)
    with pytest.raises(DataError, match=r"videos/closed: the folder cannot be read \(Permission denied\)"):
        VideoFolder(tmp_path / "videos")


def test_an_output_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr(prepare_videos, "write_text", refuse)
    with pytest.raises(DataError, match=r"^--output: .*data: cannot be written to \(Permission denied\)$"):
        ProbeCache(tmp_path / "data" / ".my.probe.json").save()
