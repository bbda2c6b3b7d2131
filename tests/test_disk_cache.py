"""The cache of machine code: whose folders and files it takes, where it keeps what cannot be kept there, and that it
survives what disks and other processes do."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gpumlp import errors
from gpumlp.backends import disk_cache
from gpumlp.backends.disk_cache import DiskCache, sealed

ROOT = Path(__file__).parents[1]
NOBODY = 65534
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are those of POSIX")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture(autouse=True)
def spare(tmp_path, monkeypatch):
    """The folder that serves where the one asked for cannot; nothing has been said as yet."""
    monkeypatch.setattr(disk_cache, "spare_folder", lambda: tmp_path / "spare")
    monkeypatch.setattr(errors, "_said", set())
    return tmp_path / "spare"


@contextlib.contextmanager
def said(words):
    """Hold that there is one warning, with these words."""
    with pytest.warns(UserWarning, match=words) as found:
        yield
    assert len(found) == 1 and "Set GPUMLP_CACHE to a folder that only you can write." in str(found[0].message)


@contextlib.contextmanager
def another_user():
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public():
    """A folder of root's that every user can reach, which pytest's are not."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def planted(folder, mode=0o700):
    """Return the cache of a folder, of this mode, with an entry that is whole."""
    cache = DiskCache(folder)
    assert cache.put("key", b"planted")
    folder.chmod(mode)
    return cache


def refuses(cache, spare, words):
    """Hold that nothing is taken from the cache's folder, that the spare one serves, and that this is said once."""
    with said(rf"in {spare}: .*{words}"):
        assert cache.get("key") is None
        assert cache.put("key", b"made anew")
        assert cache.get("key") == DiskCache(cache.folder).get("key") == b"made anew"
    assert list(spare.iterdir()) and stat.S_IMODE(spare.stat().st_mode) == 0o700


# ---- whose folder ----------------------------------------------------------------------------------------------------


@posix
def test_folders_are_made_for_their_user_alone(tmp_path):
    before = os.umask(0)
    try:
        assert DiskCache(tmp_path / "a" / "b" / "cache").put("key", b"code")
    finally:
        os.umask(before)
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "cache"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (entry,) = (tmp_path / "a" / "b" / "cache").iterdir()
    assert not entry.stat().st_mode & 0o022


@posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702, 0o770])
def test_a_folder_that_others_can_write_is_refused(tmp_path, spare, mode):
    refuses(planted(tmp_path / "cache", mode), spare, f"can be written by others .*mode is {mode:o}")


@root
def test_a_folder_of_another_user_s_is_refused(tmp_path, spare):
    cache = planted(tmp_path / "cache")
    os.chown(cache.folder, NOBODY, -1)
    refuses(cache, spare, f"cache belongs to another user .number {NOBODY}")


@posix
def test_a_folder_that_others_can_replace_is_refused(public, spare):
    (public / "open").mkdir()
    cache = planted(public / "open" / "cache")
    for mode in (0o777, 0o775):
        (public / "open").chmod(mode)
        errors._said.clear()
        with said("open, above .*cache, can be written by others"):
            assert cache.get("key") is None
    (public / "open").chmod(0o1777)  # as /tmp: there nobody can rename what is another's
    assert cache.get("key") == b"planted"


@posix
def test_below_a_folder_that_lets_nobody_in_only_the_folder_itself_counts(public):
    (public / "home" / "open").mkdir(parents=True)
    cache = planted(public / "home" / "open" / "cache")
    (public / "home" / "open").chmod(0o777)
    (public / "home").chmod(0o700)
    assert cache.get("key") == b"planted"


@root
def test_a_folder_below_another_user_s_is_refused(public, spare):
    """As when root runs a program with the home of somebody else."""
    (public / "home").mkdir()
    os.chown(public / "home", NOBODY, -1)
    with said(f"home, above .*cache, belongs to another user .number {NOBODY}"):
        assert DiskCache(public / "home" / "cache").put("key", b"code")
    assert not list((public / "home").iterdir())


@root
def test_above_the_user_s_home_nothing_is_looked_at(public, monkeypatch):
    (public / "home").mkdir()
    cache = planted(public / "home" / "cache")
    public.chmod(0o777)
    with said("above .*cache, can be written by others"):
        assert cache.get("key") is None
    monkeypatch.setenv("HOME", str(public / "home"))
    assert cache.get("key") == b"planted"


@posix
def test_a_link_to_a_folder_is_followed_to_where_it_leads(tmp_path, spare):
    cache = planted(tmp_path / "cache")
    (tmp_path / "link").symlink_to(cache.folder)
    assert DiskCache(tmp_path / "link").get("key") == b"planted"
    cache.folder.chmod(0o777)
    refuses(DiskCache(tmp_path / "link"), spare, "can be written by others")


@root
def test_a_link_of_another_user_s_is_refused(tmp_path, spare):
    cache = planted(tmp_path / "cache")
    (tmp_path / "link").symlink_to(cache.folder)
    os.lchown(tmp_path / "link", NOBODY, -1)
    refuses(DiskCache(tmp_path / "link"), spare, "link belongs to another user")


@posix
def test_a_file_a_loop_and_a_folder_that_is_nowhere_are_no_folders(tmp_path, spare):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing/here")
    for name, words in (("file", "is no folder"), ("file/in", "cannot be looked at"), ("loop", "Too many levels")):
        errors._said.clear()
        refuses(DiskCache(tmp_path / name), spare, words)
        next(spare.iterdir()).unlink()
    assert DiskCache(tmp_path / "dangling").get("key") is None


@posix
def test_where_the_spare_folder_is_somebody_else_s_there_is_no_cache(tmp_path, spare):
    cache = planted(tmp_path / "cache", 0o777)
    planted(spare, 0o777)
    with said("nowhere, so that every process compiles anew: .*cache can be written by others"):
        assert cache.get("key") is None and not cache.put("key", b"code")
    assert cache.where().startswith("nowhere")


@root
def test_a_group_of_one_may_write(public, monkeypatch):
    """Many systems give each user such a group, and a umask by which it may write what they make."""
    import grp
    import pwd
    from types import SimpleNamespace

    cache = planted(public / "cache")
    cache.folder.chmod(0o775)
    for path in (public, cache.folder, *cache.folder.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    members = []
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("ann", "", uid, NOBODY, "", "", "")))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name="ann", gr_mem=members))
    with another_user():
        assert cache.get("key") == b"planted"
        members.append("bob")
        with said("can be written by others"):
            assert cache.get("key") is None


# ---- shared folders --------------------------------------------------------------------------------------------------


@root
def test_a_folder_that_root_has_filled_is_used_and_what_it_lacks_is_kept_in_one_s_own(public, spare, monkeypatch):
    cache = planted(public / "shared", 0o755)
    own = public / "own"
    own.mkdir()
    os.chown(own, NOBODY, -1)
    monkeypatch.setattr(disk_cache, "spare_folder", lambda: own / "spare")
    with another_user():
        assert cache.get("key") == b"planted" and cache.get("other") is None
        with said(rf"in {own / 'spare'}: {cache.folder} cannot be written .Permission denied"):
            assert cache.put("other", b"code") and cache.put("another", b"code")
        assert cache.get("other") == b"code"
    assert len(list((own / "spare").iterdir())) == 2


@root
def test_a_folder_of_root_s_that_cannot_be_read_is_none(public, monkeypatch):
    cache = planted(public / "shared", 0o700)
    own = public / "own"
    own.mkdir()
    os.chown(own, NOBODY, -1)
    monkeypatch.setattr(disk_cache, "spare_folder", lambda: own / "spare")
    with another_user(), said("cannot be written"):
        assert cache.get("key") is None
        assert cache.put("key", b"code") and cache.get("key") == b"code"


# ---- entries ---------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder", "socket", "device"])
def test_an_entry_that_is_no_file_is_not_opened_blindly(tmp_path, spare, monkeypatch, kind):
    """A time limit ends a wait for the other end of the FIFO."""
    cache = DiskCache(tmp_path / "cache")
    cache.folder.mkdir(0o700)
    path = cache.path("key")
    monkeypatch.chdir(cache.folder)
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(sealed("key", b"planted"))
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as at:
            at.bind(path.name)
    code = (
        "import sys; from pathlib import Path; from gpumlp.backends.disk_cache import DiskCache\n"
        "sys.exit(DiskCache(Path(sys.argv[1])).get('key') is not None)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code, cache.folder], cwd=ROOT, timeout=600, check=False).returncode == 0
    )
    with said("cannot be written") if kind == "folder" else contextlib.nullcontext():
        assert cache.put("key", b"code") and cache.get("key") == b"code"
    if kind == "link":
        assert (tmp_path / "elsewhere").read_bytes() == sealed("key", b"planted")
    assert not list(cache.folder.glob("*.tmp"))


@posix
@pytest.mark.parametrize("mode", [0o666, 0o602, 0o660])
def test_an_entry_that_others_can_write_is_made_anew(tmp_path, mode):
    cache = planted(tmp_path / "cache")
    cache.path("key").chmod(mode)
    assert cache.get("key") is None
    assert cache.put("key", b"code") and cache.get("key") == b"code"


@root
def test_an_entry_of_another_user_s_is_made_anew(tmp_path):
    cache = planted(tmp_path / "cache")
    os.chown(cache.path("key"), NOBODY, -1)
    assert cache.get("key") is None
    assert cache.put("key", b"code") and cache.get("key") == b"code"


def test_an_entry_under_another_s_name_is_not_taken(tmp_path):
    cache = DiskCache(tmp_path)
    cache.put("key", b"code")
    os.rename(cache.path("key"), cache.path("other"))
    assert cache.get("other") is None


@pytest.mark.parametrize("tear", [lambda b: b[:-1], lambda b: b"", lambda b: b[:10], lambda b: b[:60] + b"x" + b[61:]])
def test_a_torn_entry_is_made_anew(tmp_path, tear):
    cache = DiskCache(tmp_path)
    assert cache.put("key", bytes(range(100)))
    cache.path("key").write_bytes(tear(cache.path("key").read_bytes()))
    assert cache.get("key") is None
    assert cache.put("key", b"again") and cache.get("key") == b"again"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_file_of_absurd_size_is_not_read(tmp_path):
    cache = DiskCache(tmp_path)
    with open(cache.path("key"), "wb") as file:
        file.truncate(disk_cache.LARGEST * 1024)  # takes no room
    assert cache.get("key") is None


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_replaced_by_the_spare_one(tmp_path, spare, monkeypatch):
    cache, full, replace = DiskCache(tmp_path / "cache"), [tmp_path / "cache"], os.replace

    def fails(source, target):
        if Path(target).parent in full:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(disk_cache.os, "replace", fails)
    with said("cannot be written .No space left"):
        assert cache.put("key", b"code") and cache.get("key") == b"code"
        full.append(spare)
        assert not cache.put("other", b"code") and cache.get("other") is None
    assert len(list(spare.iterdir())) == 1 and not list(cache.folder.iterdir())


@posix
def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path):
    code = (
        "import resource, sys, warnings; from pathlib import Path; from gpumlp.backends import disk_cache\n"
        "warnings.simplefilter('ignore'); disk_cache.spare_folder = lambda: None\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "cache = disk_cache.DiskCache(Path(sys.argv[1]))\n"
        "assert cache.put('small', b'code') and not cache.put('key', bytes(100_000)) and cache.get('key') is None"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "cache"], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert len(list((tmp_path / "cache").iterdir())) == 1


@posix
def test_what_killed_writers_leave_is_removed_by_a_later_one(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from gpumlp.backends.disk_cache import DiskCache\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "DiskCache(Path(sys.argv[1])).put('key', b'code')"
    )
    cache = DiskCache(tmp_path / "cache")
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, cache.folder], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
    assert cache.get("key") is None
    old, new = cache.folder.iterdir()
    (cache.folder / "of somebody else.tmp").write_text("")
    for file in (old, cache.folder / "of somebody else.tmp"):
        os.utime(file, (0, 0))
    assert cache.put("key", b"code")
    assert {*cache.folder.iterdir()} == {new, cache.folder / "of somebody else.tmp", cache.path("key")}


def test_an_interrupt_while_it_writes_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(disk_cache.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        DiskCache(tmp_path / "cache").put("key", b"code")
    assert not list((tmp_path / "cache").iterdir())


def test_another_process_that_has_just_written_the_same_is_no_failure(tmp_path, monkeypatch):
    """As on Windows, where a file that somebody reads cannot be replaced."""
    cache = DiskCache(tmp_path / "cache")
    cache.put("key", b"code")

    def held(*paths):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(disk_cache.os, "replace", held)
    assert cache.put("key", b"code")


def test_processes_share_a_cache(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gpumlp.backends.disk_cache import DiskCache\n"
        "cache, content = DiskCache(Path(sys.argv[1])), bytes(200_000)\n"
        "for _ in range(40):\n"
        "    cache.put('key', content); got = cache.get('key'); assert got is None or got == content\n"
        "assert cache.get('key') == content"
    )
    arguments = [sys.executable, "-W", "error", "-c", code, tmp_path / "cache"]
    running = [subprocess.Popen(arguments, cwd=ROOT) for _ in range(3)]
    assert [p.wait() for p in running] == [0, 0, 0]
    assert len(list((tmp_path / "cache").iterdir())) == 1


# ---- which folder ----------------------------------------------------------------------------------------------------


@pytest.fixture
def variables(monkeypatch, tmp_path):
    """A function that sets variables; without it there are none, and the home is in the test's own folder."""
    for name in ("GPUMLP_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def test_the_folder_is_the_user_s_choice(variables, tmp_path):
    variables(XDG_CACHE_HOME=str(tmp_path))
    assert disk_cache.default_folder() == tmp_path / "gpumlp"
    variables(GPUMLP_CACHE=str(tmp_path))
    assert disk_cache.default_folder() == tmp_path


@posix
def test_a_tilde_is_the_home(variables, tmp_path):
    variables(GPUMLP_CACHE="~/x")
    assert disk_cache.default_folder() == tmp_path / "home" / "x"


def test_a_relative_folder_of_the_user_s_begins_where_the_process_is(variables, tmp_path, monkeypatch):
    variables(GPUMLP_CACHE="x")
    monkeypatch.chdir(tmp_path)
    assert disk_cache.default_folder() == tmp_path / "x"


@posix
@pytest.mark.parametrize("value", ["", "x", "./x", "~/x"])
def test_a_relative_folder_of_the_system_s_is_ignored(variables, tmp_path, value):
    variables(XDG_CACHE_HOME=value)
    assert disk_cache.default_folder() == tmp_path / "home" / ".cache" / "gpumlp"


@posix
@pytest.mark.parametrize("value", [{"GPUMLP_CACHE": "~nobody_of_this_name/x"}, {"HOME": "relative"}])
def test_where_no_folder_is_known_the_spare_one_serves(variables, spare, value):
    variables(**value)
    cache = DiskCache()
    assert cache.folder is None
    with pytest.raises(OSError, match="no folder"):
        cache.path("key")
    with said(f"in {spare}: no folder for caches is known"):
        assert cache.put("key", b"code") and cache.get("key") == b"code"


def test_a_user_without_a_home_has_the_spare_folder(variables, spare, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(disk_cache.Path, "home", homeless)
    with said(f"in {spare}: no folder for caches is known"):
        assert DiskCache().put("key", b"code")


@posix
def test_a_current_folder_that_is_gone_is_no_place(variables, tmp_path, monkeypatch):
    variables(GPUMLP_CACHE="x")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert disk_cache.default_folder() is None


@posix
def test_the_spare_folder_is_the_user_s_own_among_the_temporary_files(monkeypatch, tmp_path):
    import tempfile

    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert disk_cache.spare_folder() == tmp_path / f"gpumlp-{os.geteuid()}"

    def none():
        raise FileNotFoundError("No usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert disk_cache.spare_folder() is None


@posix
def test_info_says_where_and_why_without_a_warning(variables, tmp_path, spare, monkeypatch):
    from gpumlp import cli
    from gpumlp.backends import native

    planted(tmp_path / "cache", 0o777)
    variables(GPUMLP_CACHE=str(tmp_path / "cache"))
    monkeypatch.setattr(native.shipped, "library", lambda instructions: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = rf"kept in {spare}: {tmp_path / 'cache'} can be written by others"
        assert words in native.state() and words in cli.cpu_rows()["compiled"] and words in cli.smoke_compile()
