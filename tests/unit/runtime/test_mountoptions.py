from __future__ import annotations

import pytest

from pycontain.runtime.mountoptions import parse
from pycontain.syscalls import constants as c


def test_what_is_no_option_is_data() -> None:
    options = parse(["nosuid", "mode=755", "size=1k", "ro"])
    assert options.data == "mode=755,size=1k"
    assert options.flags == c.MS_NOSUID | c.MS_RDONLY


def test_the_later_word_wins() -> None:
    options = parse(["ro", "rw"])
    assert options.flags == 0
    assert (options.set, options.clear) == (0, c.MOUNT_ATTR_RDONLY)
    options = parse(["rw", "ro"])
    assert (options.set, options.clear) == (c.MOUNT_ATTR_RDONLY, 0)


def test_recursive_words_leave_the_mount_itself_to_the_others() -> None:
    options = parse(["rbind", "rro", "rnosuid", "exec"])
    assert options.rec_set == c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID
    assert options.set == 0
    assert options.clear == c.MOUNT_ATTR_NOEXEC
    assert options.bind
    assert options.recursive


def test_an_access_time_mode_replaces_the_whole_field() -> None:
    options = parse(["noatime"])
    assert options.set == c.MOUNT_ATTR_NOATIME
    assert options.clear == c.MOUNT_ATTR_ATIME | c.MOUNT_ATTR_NODIRATIME
    options = parse(["noatime", "strictatime"])
    assert options.set == c.MOUNT_ATTR_STRICTATIME


@pytest.mark.parametrize("word", ["atime", "diratime", "norelatime", "nostrictatime"])
def test_an_access_time_mode_switched_off_leaves_the_mounts_own(word: str) -> None:
    options = parse([word])
    assert (options.set, options.clear, options.named) == (0, 0, True)


def test_rbind_and_rshared_are_not_taken_for_recursive_flags() -> None:
    options = parse(["rbind", "rshared"])
    assert options.rec_set == options.rec_clear == 0
    assert options.propagation == [(c.MS_SHARED, True)]


def test_mode_words() -> None:
    options = parse(["remount", "tmpcopyup", "ridmap"])
    assert options.remount
    assert options.copy_up
    assert options.idmap == "ridmap"
