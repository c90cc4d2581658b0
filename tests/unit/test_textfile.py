"""Files that people write: the text, or what is wrong with the file, at its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from acns import textfile
from acns.errors import InputError


def wrong(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        textfile.read(path)
    return str(caught.value).removeprefix(f"{path}:")


def test_a_text_comes_with_the_ends_of_lines_of_this_system(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("one\r\ntwo\rdrei ä\n".encode())
    assert textfile.read(tmp_path / "a") == "one\ntwo\ndrei ä\n"


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"\xff\xfea\0", "1:1: octet 0xff is not UTF-8 (save the file as UTF-8)"),
        ("a: ä\nb: ää".encode() + b"\xe9", "2:6: octet 0xe9 is not UTF-8 (save the file as UTF-8)"),
    ],
)
def test_what_is_no_utf8_is_told_with_line_and_column(tmp_path: Path, octets: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(octets)
    assert wrong(tmp_path / "a") == said


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert wrong(tmp_path / "pipe") == "1:1: not a regular file"
    assert wrong(tmp_path) == "1:1: not a regular file"
    assert textfile.read(Path(__file__)).startswith('"""')
    (tmp_path / "dangling").symlink_to("nowhere")
    assert wrong(tmp_path / "dangling") == "1:1: cannot be read: No such file or directory"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(textfile.MAX_BYTES + 1)
    assert wrong(tmp_path / "a") == "1:1: is larger than 8 MiB"
