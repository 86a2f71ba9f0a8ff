"""Types of the extension module (dump.c)."""

def dump(
    fd: int, boot: bytes, sources: bytes, count: int, /
) -> tuple[str, list[str], list[bytes], list[int]] | None: ...
