"""Tests of utils_cv.data.image_files: what is found in folders as people have them, and what is left out."""

import os

import pytest

from tests.conftest import touch
from utils_cv.data.image_files import expand_images, find_image_files, list_dirs, list_image_files


def test_image_files_are_found_by_extension_in_a_fixed_order_without_hidden_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("mimetypes.guess_type", lambda *args, **options: (None, None))  # the system is not asked
    touch(tmp_path, "b/2.JPG", "b/10.jpg", "a/x.Png", "A/y.heic", "z.webp", "notes.txt", "b/labels.csv", "c/plan.svg")
    touch(tmp_path, ".ipynb_checkpoints/1.jpg", "._1.jpg", "a/.hidden/1.jpg", ".jpg")  # left out
    names = [path.relative_to(tmp_path).as_posix() for path in list_image_files(tmp_path)]
    assert names == ["A/y.heic", "a/x.Png", "b/10.jpg", "b/2.JPG", "z.webp"]
    with pytest.raises(NotADirectoryError, match="missing"):
        list_image_files(tmp_path / "missing")


def test_a_linked_folder_is_followed_once(tmp_path):
    touch(tmp_path, "data/a/1.jpg", "elsewhere/2.jpg")
    try:
        (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "data/a/loop").symlink_to(tmp_path / "data", target_is_directory=True)
    except OSError:
        return  # Windows without the right to make links has no loops either
    assert [path.name for path in list_image_files(tmp_path / "data")] == ["1.jpg", "2.jpg"]


@pytest.mark.linux
def test_what_is_left_out_is_counted_by_reason(tmp_path):
    touch(tmp_path, "1.jpg", "2", "3.jpg?w=400", "4.jpg_large", "5.jpg~", "6.txt", "7.txt", "Thumbs.db", ".DS_Store")
    touch(tmp_path, "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._1.jpg", "lost+found/8.jpg", "$RECYCLE.BIN/9.jpg")
    touch(tmp_path, "@Recycle/10.jpg", "@tmp/11.jpg", "Network Trash Folder/12.jpg", "Temporary Items/13.jpg")
    touch(tmp_path, "@__thumb/14.jpg", "node_modules/a/15.png", "wandb/16.png")
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait forever
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "ring.jpg").symlink_to("ring.jpg")
    images, left_out = find_image_files(tmp_path)
    assert [path.name for path in images] == ["1.jpg", "broken.jpg", "ring.jpg"]
    assert left_out == {
        "no extension": 1, "extension .jpg?w=400": 1, "extension .jpg_large": 1, "extension .jpg~": 1,
        "extension .txt": 2, "not a file (a pipe, a socket or a device)": 1,
    }  # fmt: skip


def test_links_into_the_set_or_above_it_are_left_out(tmp_path):
    touch(tmp_path, "data/cat/1.jpg", "data/dog/2.jpg")
    for name, target in {"up": "..", "top": "../..", "sideways": "../dog", "self": "."}.items():
        (tmp_path / "data/cat" / name).symlink_to(target, target_is_directory=True)
    images, left_out = find_image_files(tmp_path / "data/cat", root=tmp_path / "data")
    assert [path.name for path in images] == ["1.jpg"]
    assert left_out == {"link to a folder of the set": 4}
    (tmp_path / "data/loop").symlink_to(".", target_is_directory=True)
    (tmp_path / "data/dog2").symlink_to("dog", target_is_directory=True)
    assert [path.name for path in list_dirs(tmp_path / "data")] == ["cat", "dog", "dog2"]


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_not_the_current_folder(empty):
    with pytest.raises(ValueError, match="empty path"):
        expand_images(empty)
