"""The stub as bytes, for a build without a C compiler.

Made from stub.c by `python setup.py prebuilt` (which needs gcc for both machines) and checked
against it by the tests; zlib and base64. The other native parts have Python in their place, the
stub has none: without it the host's interpreter would be visible inside a container.
"""

from __future__ import annotations

import base64
import zlib


def stub(machine: str) -> bytes:
    """Return the ELF file for a machine as uname(2) names it; KeyError for one we do not know."""
    return zlib.decompress(base64.b64decode(STUBS[machine]))


STUBS = {
}
