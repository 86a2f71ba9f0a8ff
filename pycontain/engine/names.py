"""Random names for containers that were given none: a quality and a river."""

from __future__ import annotations

import posix

QUALITIES = (
    "able bold brave bright brisk calm clear clever cool cosy crisp daring deep eager "
    "early easy fair fast fine firm fresh gentle glad golden good grand green happy hardy "
    "honest humble ideal jolly keen kind late lively lucid lucky mellow mild modest neat "
    "nimble noble novel patient plain polite proud quick quiet rapid ready robust royal "
    "rustic sharp silent silver simple sincere smart smooth snug sober soft solid sound "
    "spare stable steady still strong sturdy subtle sunny super sweet swift tame tender "
    "tidy tough trusty upbeat urban vivid warm wild wise witty young"
)
RIVERS = (
    "adda adige aire allier amur arno avon axe benue bug cam clyde congo danube dee "
    "dnieper don douro drava drin drina ebro elbe ems exe forth ganges garonne glomma "
    "indus inn isar isere jordan kama kemi kolyma lahn lech lena liffey loire lot main "
    "marne mekong meuse mosel mur narew neckar neisse neva niger nile oder ohio oka orne "
    "ouse parana pechora po prut rhine rhone rioni ruhr saale sambre sava seine severn "
    "shannon spree tagus tamar tay thames tiber tigris tisza trent tweed tyne ural vistula "
    "volga volta weser wye yukon zambezi"
)


def random_name() -> str:
    """Return a name such as `brave_danube`; it may be taken."""
    qualities, rivers = QUALITIES.split(), RIVERS.split()
    noise = int.from_bytes(posix.urandom(4), "little")
    return f"{qualities[noise % len(qualities)]}_{rivers[(noise >> 12) % len(rivers)]}"
