"""Files are written whole or not at all, and what is no regular file stays what it is."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kktalloc._durable import write_durably

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="device nodes, FIFOs and modes of POSIX")


@pytest.mark.parametrize("content", [b"", b"\0\xff" * 70_000, "ä\n", ""])
def test_new_and_replaced(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / ("n" * 200 + ".json")  # a long name leaves little room for a temporary one
    for _ in range(2):
        write_durably(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_new_file_gets_usual_permissions_and_a_replaced_one_keeps_its_own(tmp_path: Path) -> None:
    plain, new = tmp_path / "plain", tmp_path / "new"
    plain.touch()
    write_durably(new, "x")
    assert new.stat().st_mode == plain.stat().st_mode
    new.chmod(0o640)
    write_durably(new, "y")
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


@posix
@pytest.mark.parametrize("kind", ["file", "nothing", "link to a file", "link elsewhere"])
def test_links_are_followed_and_stay(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    target, link = tmp_path / "b" / "target", tmp_path / "a" / "link"
    if kind != "nothing":
        target.write_text("old")
    if kind == "link to a file":
        (tmp_path / "b" / "middle").symlink_to("target")
        link.symlink_to("../b/middle")
    else:
        link.symlink_to("../b/target" if kind != "link elsewhere" else target)
    write_durably(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert not target.is_symlink()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["link"]


@posix
def test_a_fifo_is_written_into(tmp_path: Path) -> None:
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    content = bytes(range(256)) * 2000  # more than a pipe holds
    write_durably(fifo, content)
    reader.join()
    assert got == [content]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@posix
@pytest.mark.skipif(not Path("/dev/full").exists() or os.name != "posix", reason="no /dev/full")
def test_devices_are_written_into(tmp_path: Path) -> None:
    """Through links, as nobody may risk the machine's own nodes."""
    for name in ("null", "full"):
        (tmp_path / name).symlink_to(f"/dev/{name}")
    write_durably(tmp_path / "null", "gone")
    with pytest.raises(OSError, match="No space left") as caught:
        write_durably(tmp_path / "full", "too much")
    assert caught.value.filename == str(tmp_path / "full")
    assert all(stat.S_ISCHR(Path(f"/dev/{name}").stat().st_mode) for name in ("null", "full"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "null"]


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "link"])
def test_an_open_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    """`--out /dev/stdout >> log` must not cost the log."""
    log = tmp_path / "log"
    log.write_text("before\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = f"from kktalloc._durable import write_durably; write_durably({name!r}, 'new\\n')"
    with log.open("a") as stream:
        subprocess.run([sys.executable, "-c", code], stdout=stream, check=True, cwd=tmp_path)
    assert log.read_text() == "before\nnew\n"


@posix
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder", "Is a directory"),
        ("no/such/file", "No such file or directory"),
        ("file/below", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("n" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=says) as caught:
        write_durably(tmp_path / name, "x")
    assert caught.value.filename == str(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "loop"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_write_protected_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text("kept")
    monkeypatch.setattr(os, "access", lambda *_: False)  # for root every file is writable
    with pytest.raises(PermissionError):
        write_durably(path, "x")
    assert path.read_text() == "kept"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("raised", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_on_the_way_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, raised: BaseException
) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(raised)):
        write_durably(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_the_order_is_content_disk_name_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that reaches the disk before its content would be an empty file after a power cut."""
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        found = os.fstat(handle)
        seen.append("folder" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} bytes")
        fsync(handle)

    def replaced(self: Path, target: Path) -> Path:
        seen.append(f"name {Path(target).name}")
        assert self.parent == Path(target).parent
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_durably(tmp_path / "f", "12345")
    assert seen == ["5 bytes", "name f", "folder"]


def test_writers_at_once_leave_one_of_their_contents(tmp_path: Path) -> None:
    path, contents = tmp_path / "f", [bytes([65 + i]) * 300_000 for i in range(4)]
    threads = [threading.Thread(target=write_durably, args=(path, c)) for c in contents for _ in range(5)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_else_in_the_packages_writes_files() -> None:
    """One way to write a file: a second one would be written, tried and mended apart."""
    own = re.compile(r"\.write_(text|bytes)\(|mkstemp|NamedTemporaryFile|\.open\(\s*['\"][wax]|np\.savez?\(|to_csv\(")
    found: list[str] = []
    for package in ("kktalloc", "fltrain", "validation", "paper"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "_durable.py" and (odd := own.search(path.read_text(encoding="utf-8"))):
                found.append(f"{path.relative_to(ROOT)}: {odd[0]}")
    assert found == []
