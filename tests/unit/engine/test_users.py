"""Names to ids by the image's own files."""

from __future__ import annotations

import pytest

from pycontain.engine.users import resolve
from pycontain.errors import InvalidError, UsageError
from pycontain.spec.host import Identity

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# comment:x:7:7::/:/
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:0:0:number as a name:/root:/bin/sh
bad:x:-1:0::/:/bin/sh
wrap:x:4294967296:0::/:/bin/sh
short:x:5
nohome:x:1002:1002::relative:/bin/sh
\xff\xfe:x:1003:1003::/home/\xff:/bin/sh
"""
GROUP = b"""root:x:0:
wheel:x:10:root,app
docker:x:999:app
negative:x:-1:app
app:x:1001:
"""


def who(
    user: str = "",
    image_user: str = "",
    further: tuple[str, ...] = (),
    passwd: bytes | None = PASSWD,
) -> Identity:
    found = {"/etc/passwd": passwd, "/etc/group": GROUP if passwd else None}
    name, _, group = user.partition(":")
    chosen = (name, group) if user else None
    return resolve(lambda path, limit: found[path], chosen, image_user, further)


def test_nobody_named_is_root_with_its_groups() -> None:
    root = who()
    assert (root.uid, root.gid, root.home, root.groups) == (0, 0, "/root", [10])


def test_a_name_brings_its_groups_and_home() -> None:
    app = who("app")
    assert (app.uid, app.gid, app.home, app.groups) == (1000, 1001, "/home/app", [10, 999])


def test_a_group_given_replaces_the_memberships() -> None:
    app = who("app:wheel")
    assert (app.gid, app.groups) == (10, [])


def test_further_groups_are_added() -> None:
    assert who("app:app", further=("docker", "77")).groups == [999, 77]


def test_a_number_is_an_id_even_when_it_is_somebodys_name() -> None:
    assert who("1234").uid == 1234
    assert who("1234").gid == 0


def test_an_id_without_a_line_has_group_0_and_home_root_directory() -> None:
    nobody = who("4000")
    assert (nobody.uid, nobody.gid, nobody.home) == (4000, 0, "/")


def test_without_files_root_is_root() -> None:
    assert (who(passwd=None).uid, who(passwd=None).home) == (0, "/root")


@pytest.mark.parametrize("user", ["nosuch", "bad", "wrap", "short", "app:nosuch", "app:negative"])
def test_an_unknown_user_or_group_is_refused_and_never_root(user: str) -> None:
    with pytest.raises(UsageError):
        who(user)


@pytest.mark.parametrize("user", ["nosuch", "-1", "4294967296", "0x0", "a b", "\u0660", "wrap"])
def test_an_image_that_names_an_unknown_user_is_refused(user: str) -> None:
    with pytest.raises(InvalidError):
        who(image_user=user)


def test_a_home_that_is_no_path_is_the_root_directory() -> None:
    assert who("nohome").home == "/"
