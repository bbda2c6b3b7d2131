"""Machine code that travels: what is imported is whole and the user's own, and everything else is refused in words."""

import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest

from gpumlp import cli
from gpumlp.backends import cache_archive, compiler, disk_cache
from gpumlp.backends.disk_cache import DiskCache, digest, sealed

NOBODY = 65534
CODES = {"one key": b"\x7fELF one", "another": bytes(100_000)}
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are those of POSIX")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def archive(tmp_path):
    cache_archive.write(tmp_path / "cache.zip", "NVRTC 1.2, sm_90", CODES.items())
    return tmp_path / "cache.zip"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache, which is not there as yet."""
    monkeypatch.setenv("GPUMLP_CACHE", str(tmp_path / "cache"))
    return DiskCache()


def spoilt(archive, members, comment=None):
    """Write the archive anew with these members: pairs of a name, or what ZIP says of a member, and its content."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = (
            f"gpumlp machine code for a test: {len(members)} entries\n".encode() if comment is None else comment
        )
        for info, content in members:
            file.writestr(info, content)


def refused(archive, cache, capsys, words):
    """Hold that the import fails with these words and has written nothing."""
    assert cli.main(["cache", "import", str(archive)]) == 2
    said = capsys.readouterr().err
    assert words in said and str(archive) in said and "Nothing was imported. Make it with" in said
    assert not cache.folder.exists()


def test_what_is_imported_is_there_for_its_keys(archive, cache, capsys):
    assert cli.main(["cache", "import", str(archive)]) == 0
    assert "imported 2 entries for NVRTC 1.2, sm_90 (0.1 MB), kept in" in capsys.readouterr().out
    assert {key: cache.get(key) for key in CODES} == CODES and cache.get("a third") is None
    assert len(list(cache.folder.iterdir())) == 2
    assert cli.main(["cache", "import", str(archive)]) == 0, "again"


def test_code_for_another_compiler_is_taken_over_and_said_to_be_of_no_use_here(archive, cache, capsys, monkeypatch):
    for here, told in (("1.2", False), ("1.20", True), ("13.5", True)):
        monkeypatch.setattr(compiler, "version", lambda here=here: here)
        cache_archive.write(archive, "NVRTC 1.2.88, sm_90", CODES.items())
        assert cli.main(["cache", "import", str(archive)]) == 0
        assert (f"has NVRTC {here}, which will not use them" in capsys.readouterr().out) == told


def test_the_same_code_makes_the_same_archive(archive, tmp_path):
    cache_archive.write(tmp_path / "again.zip", "NVRTC 1.2, sm_90", reversed(CODES.items()))
    assert archive.read_bytes() == (tmp_path / "again.zip").read_bytes()


@pytest.mark.parametrize(
    "name",
    ["../" + "0" * 61, "/" + "0" * 63, "0" * 63 + "/", "a/b", "..", "0" * 65, "C:\\x", "A" * 64, "0" * 64 + "\n"],
)
def test_a_member_with_another_name_is_refused(archive, cache, capsys, name):
    spoilt(archive, [(digest("key").hex(), sealed("key", b"code")), (name, sealed("key", b"code"))])
    refused(archive, cache, capsys, "where 64 hexadecimal digits are expected")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFBLK])
def test_a_member_that_is_no_plain_file_is_refused(archive, cache, capsys, kind):
    info = zipfile.ZipInfo(digest("key").hex())
    info.external_attr, info.compress_type = (kind | 0o777) << 16, zipfile.ZIP_DEFLATED
    spoilt(archive, [(info, b"/etc/passwd")])
    refused(archive, cache, capsys, "is not a plain compressed file")


def test_members_that_say_to_be_too_large_are_refused_unread(archive, cache, capsys, monkeypatch):
    monkeypatch.setattr(cache_archive, "LARGEST", 100_000)
    refused(archive, cache, capsys, "bytes together, where at most 100,000 are expected")


def test_a_member_that_is_larger_than_it_says_is_refused(archive, cache, capsys):
    """No more of it is unpacked than it said."""
    entry = sealed("key", b"code")
    spoilt(archive, [(digest("key").hex(), entry + bytes(1 << 20))])
    size = (len(entry) + (1 << 20)).to_bytes(4, "little")
    data = archive.read_bytes()
    assert data.count(size) == 2  # before the member and in the directory
    archive.write_bytes(data.replace(size, len(entry).to_bytes(4, "little")))
    refused(archive, cache, capsys, "is no whole archive")


@pytest.mark.parametrize("name", ["key", "another"])
@pytest.mark.parametrize("content", [b"", b"code", sealed("key", b"code")[:-1], sealed("key", b"code") + b"x"])
def test_a_member_that_is_not_the_entry_of_its_name_is_refused(archive, cache, capsys, name, content):
    good = sealed("first", b"code")
    spoilt(archive, [(digest("first").hex(), good), (digest(name).hex(), content)])
    refused(archive, cache, capsys, "is not what was sealed under that digest")


@pytest.mark.parametrize("comment", [b"", b"\xff\xff", b"somebody else's"])
def test_another_s_file_is_refused(archive, cache, capsys, comment):
    spoilt(archive, [(digest("key").hex(), sealed("key", b"code"))], comment)
    refused(archive, cache, capsys, "where 'gpumlp machine code for ")


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, -1])
def test_a_truncated_archive_is_refused(archive, cache, capsys, keep):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(archive, cache, capsys, "is no whole archive of gpumlp's machine code")


def test_no_single_flipped_byte_gets_through(archive, tmp_path):
    cache_archive.write(archive, "a test", [("key", b"some code")])
    whole, data = cache_archive.read(archive), archive.read_bytes()
    for i in range(len(data)):
        archive.write_bytes(data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :])
        try:
            assert cache_archive.read(archive)[1] == whole[1], "the comment, a time, an unused flag"
        except ValueError as error:
            assert "Nothing was imported" in str(error)


def test_what_is_not_there_and_what_is_no_archive_are_refused(archive, cache, capsys, tmp_path):
    archive.unlink()
    refused(archive, cache, capsys, "there is no such file")
    archive.write_text("hello")
    refused(archive, cache, capsys, "not a zip file")
    refused(tmp_path, cache, capsys, "there is no such file")


@posix
def test_where_nothing_can_be_kept_the_import_fails(archive, cache, capsys, monkeypatch):
    (cache.folder).write_text("a file")
    monkeypatch.setattr(disk_cache, "spare_folder", lambda: None)
    with pytest.warns(UserWarning, match="every process compiles anew"):
        assert cli.main(["cache", "import", str(archive)]) == 1
    assert "took 0 of 2 entries" in capsys.readouterr().err


@posix
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
@pytest.mark.parametrize("user", [0, pytest.param(NOBODY, marks=root)])
def test_what_is_imported_is_the_user_s_own_and_nobody_else_can_write_it(archive, monkeypatch, umask, user):
    user = user or os.geteuid()
    with tempfile.TemporaryDirectory() as home:  # pytest's folders cannot be reached by other users
        mine = Path(shutil.copy(archive, home))
        mine.chmod(0o644)
        os.chown(home, user, -1)
        monkeypatch.setenv("GPUMLP_CACHE", f"{home}/a/cache")
        cache_archive.read(mine)  # Python's own modules, which another user may not be able to read, are loaded
        me, before = os.geteuid(), os.umask(umask)
        os.seteuid(user)
        try:
            assert cli.main(["cache", "import", str(mine)]) == 0
            assert DiskCache().get("one key") == CODES["one key"]
        finally:
            os.seteuid(me)
            os.umask(before)
        found = list(Path(home, "a", "cache").iterdir())
        assert len(found) == 2 and stat.S_IMODE(found[0].parent.stat().st_mode) == 0o700
        for path in found:
            assert path.stat().st_uid == user and stat.S_IMODE(path.stat().st_mode) == 0o644 & ~umask


def test_an_archive_that_lost_entries_has_none_or_says_more_than_it_is_is_refused(archive, cache, capsys):
    whole = [(digest(key).hex(), sealed(key, content)) for key, content in CODES.items()]
    for members, told in ((whole[:1], 2), ([], 0), (whole, 3)):
        spoilt(archive, members, f"gpumlp machine code for a test: {told} entries\n".encode())
        refused(archive, cache, capsys, f"it has {len(members)} entries, where {told} are expected")
    for made_for in ("a \x1b[31mtest", "a\rtest", "x" * 201, "\u202etest"):
        spoilt(archive, whole, f"gpumlp machine code for {made_for}: 2 entries\n".encode())
        refused(archive, cache, capsys, "is expected")


def test_a_device_is_no_archive(cache, capsys):
    refused(Path("/dev/zero"), cache, capsys, "there is no such file")
