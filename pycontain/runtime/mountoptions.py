"""The words of a mount's `options`, read once.

Pure: words in, flags out; which calls they become is decided in `mounts`. A word that is not in the
table is data for the file system. Source: runtime-spec config.md "Linux mount options", mount(8).
"""

from __future__ import annotations

from pycontain.syscalls import constants as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_POSIXACL = 1 << 16
_I_VERSION = 1 << 23

# word -> (flag of mount(2), attribute of mount_setattr(2), the word switches it off)
FLAGS: dict[str, tuple[int, int, bool]] = {
    "ro": (f.MS_RDONLY, f.MOUNT_ATTR_RDONLY, False),
    "rw": (f.MS_RDONLY, f.MOUNT_ATTR_RDONLY, True),
    "nosuid": (f.MS_NOSUID, f.MOUNT_ATTR_NOSUID, False),
    "suid": (f.MS_NOSUID, f.MOUNT_ATTR_NOSUID, True),
    "nodev": (f.MS_NODEV, f.MOUNT_ATTR_NODEV, False),
    "dev": (f.MS_NODEV, f.MOUNT_ATTR_NODEV, True),
    "noexec": (f.MS_NOEXEC, f.MOUNT_ATTR_NOEXEC, False),
    "exec": (f.MS_NOEXEC, f.MOUNT_ATTR_NOEXEC, True),
    "nodiratime": (f.MS_NODIRATIME, f.MOUNT_ATTR_NODIRATIME, False),
    "diratime": (f.MS_NODIRATIME, f.MOUNT_ATTR_NODIRATIME, True),
    "nosymfollow": (f.MS_NOSYMFOLLOW, f.MOUNT_ATTR_NOSYMFOLLOW, False),
    "symfollow": (f.MS_NOSYMFOLLOW, f.MOUNT_ATTR_NOSYMFOLLOW, True),
    "noatime": (f.MS_NOATIME, f.MOUNT_ATTR_NOATIME, False),
    "atime": (f.MS_NOATIME, f.MOUNT_ATTR_NOATIME, True),
    "strictatime": (f.MS_STRICTATIME, f.MOUNT_ATTR_STRICTATIME, False),
    "nostrictatime": (f.MS_STRICTATIME, f.MOUNT_ATTR_STRICTATIME, True),
    "relatime": (f.MS_RELATIME, 0, False),
    "norelatime": (f.MS_RELATIME, 0, True),
    "sync": (f.MS_SYNCHRONOUS, 0, False),
    "async": (f.MS_SYNCHRONOUS, 0, True),
    "dirsync": (f.MS_DIRSYNC, 0, False),
    "mand": (f.MS_MANDLOCK, 0, False),
    "nomand": (f.MS_MANDLOCK, 0, True),
    "silent": (f.MS_SILENT, 0, False),
    "loud": (f.MS_SILENT, 0, True),
    "lazytime": (f.MS_LAZYTIME, 0, False),
    "nolazytime": (f.MS_LAZYTIME, 0, True),
    "iversion": (_I_VERSION, 0, False),
    "noiversion": (_I_VERSION, 0, True),
    "acl": (_POSIXACL, 0, False),
    "noacl": (_POSIXACL, 0, True),
    "defaults": (0, 0, False),
}

PROPAGATION = {
    "private": (f.MS_PRIVATE, False),
    "rprivate": (f.MS_PRIVATE, True),
    "shared": (f.MS_SHARED, False),
    "rshared": (f.MS_SHARED, True),
    "slave": (f.MS_SLAVE, False),
    "rslave": (f.MS_SLAVE, True),
    "unbindable": (f.MS_UNBINDABLE, False),
    "runbindable": (f.MS_UNBINDABLE, True),
}

_MS_ATIMES = f.MS_NOATIME | f.MS_NODIRATIME | f.MS_RELATIME | f.MS_STRICTATIME
_ATIMES = ("noatime", "atime", "strictatime", "nostrictatime", "relatime", "norelatime")
# Switched off, they have no attribute of their own to clear: the kernel's default is relatime.
_ATIME_OFF = ("nostrictatime", "norelatime")
RECURSIVE = tuple("r" + word for word, (_, attr, _off) in FLAGS.items() if attr or word in _ATIMES)
_MODES = ("bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap")
KNOWN = (*FLAGS, *PROPAGATION, *RECURSIVE, *_MODES)
"""Every word that is not data, for the `features` document."""


class MountOptions:
    """What the words of one mount say.

    flags                    MS_* of mount(2)
    set, clear               attributes of mount_setattr(2) for the mount itself
    named                    there is a word among them that is a flag, on or off
    rec_set, rec_clear       the same for the whole tree
    propagation              (MS_*, recursive) in the order given
    data                     what is left, comma-separated, for the file system
    bind, recursive, remount, copy_up, idmap ("", "idmap" or "ridmap")
    """

    __slots__ = (
        "bind", "clear", "copy_up", "data", "flags", "idmap", "named", "propagation", "rec_clear",
        "rec_set", "recursive", "remount", "set",
    )  # fmt: skip

    def __init__(self) -> None:
        self.flags = 0
        self.set = self.clear = self.rec_set = self.rec_clear = 0
        self.propagation: list[tuple[int, bool]] = []
        self.data = ""
        self.bind = self.recursive = self.remount = self.copy_up = False
        self.named = False
        self.idmap = ""


def parse(words: Sequence[str]) -> MountOptions:
    """Return what `words` say; a later word overrides an earlier one."""
    options = MountOptions()
    data = []
    for word in words:
        if word in FLAGS:
            _apply(options, word)
        elif word in PROPAGATION:
            options.propagation.append(PROPAGATION[word])
        elif word in _MODES:
            _mode(options, word)
        elif word[:1] == "r" and word in RECURSIVE:
            _apply_recursive(options, word[1:])
        elif word:
            data.append(word)
    options.data = ",".join(data)
    if options.flags & _MS_ATIMES:
        _choose_atime(options)
    return options


def _apply(options: MountOptions, word: str) -> None:
    flag, _, off = FLAGS[word]
    if off:
        options.flags &= ~flag
    else:
        options.flags |= flag
    if flag:
        options.named = True
    if not flag & _MS_ATIMES:
        options.set, options.clear = _attributes(word, options.set, options.clear)


def _choose_atime(options: MountOptions) -> None:
    """Set the attributes as mount(2) takes the flags: all at once, and none of them is "as it is".

    So a word that switches one of them off changes nothing (mount(8) has it that way, too).
    """
    if options.flags & f.MS_STRICTATIME:
        options.set |= f.MOUNT_ATTR_STRICTATIME
    elif options.flags & f.MS_NOATIME:
        options.set |= f.MOUNT_ATTR_NOATIME
    options.clear |= f.MOUNT_ATTR_ATIME
    if options.flags & f.MS_NODIRATIME:
        options.set |= f.MOUNT_ATTR_NODIRATIME
    else:
        options.clear |= f.MOUNT_ATTR_NODIRATIME


def _apply_recursive(options: MountOptions, word: str) -> None:
    options.rec_set, options.rec_clear = _attributes(word, options.rec_set, options.rec_clear)


def _attributes(word: str, set_: int, clear: int) -> tuple[int, int]:
    _, attribute, off = FLAGS[word]
    if word in _ATIMES:
        # The access time is one field: a new value is set after all of the field is cleared.
        if word in _ATIME_OFF:
            return set_, clear
        value = 0 if off else attribute
        return set_ & ~f.MOUNT_ATTR_ATIME | value, clear | f.MOUNT_ATTR_ATIME
    if off:
        return set_ & ~attribute, clear | attribute
    return set_ | attribute, clear & ~attribute


def _mode(options: MountOptions, word: str) -> None:
    if word == "bind":
        options.bind = True
    elif word == "rbind":
        options.bind = options.recursive = True
    elif word == "remount":
        options.remount = True
    elif word == "tmpcopyup":
        options.copy_up = True
    else:
        options.idmap = word
