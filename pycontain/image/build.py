"""Images made here: from the host's own programs, or from a directory; always the same bytes.

Owns what goes into them and how they are written: one layer, sorted, owned by root, one timestamp
(SOURCE_DATE_EPOCH, else 0). The result is an OCI archive, so that loading it goes the way of every
other. `python -m pycontain.image.build` is what scripts/build-images calls.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from typing import IO

from pycontain.errors import InvalidError, KernelError, NotFoundError, UsageError, quote
from pycontain.image import archive, elf, reference
from pycontain.oci import codec, image

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o555, "root": 0o700,
    "run": 0o755, "sbin": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755,
    "usr/sbin": 0o755, "var": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\ntty:x:5:\nnobody:x:65534:\n",
}
_SHELLS = ("busybox", "dash", "bash")
_SCRIPT_DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class Node:
    """One entry: a file copied from `source`, a symlink to `link`, `content`, or a directory."""

    mode: int
    source: str = ""
    link: str = ""
    content: bytes | None = None


class Tree:
    """A root file system as a table of what stands where, written in sorted order."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory and those above it."""
        above = ""
        for part in path.split("/")[:-1]:
            above = f"{above}/{part}" if above else part
            self.nodes.setdefault(above, Node(mode=stat.S_IFDIR | 0o755))
        if path:
            self.nodes.setdefault(path, Node(mode=stat.S_IFDIR | mode))

    def file(self, path: str, source: str) -> None:
        """Add a copy of a host's file, symlinks followed."""
        try:
            mode = os.stat(source).st_mode
        except OSError as error:
            raise KernelError("read", source, error) from error
        self._put(path, Node(mode=stat.S_IFREG | (mode & 0o755), source=source))

    def text(self, path: str, content: bytes) -> None:
        """Add a file of the given content."""
        self._put(path, Node(mode=stat.S_IFREG | 0o644, content=content))

    def symlink(self, path: str, target: str) -> None:
        """Add a symlink unless something stands there."""
        if path not in self.nodes:
            self._put(path, Node(mode=stat.S_IFLNK | 0o777, link=target))

    def _put(self, path: str, node: Node) -> None:
        self.directory(os.path.dirname(path))
        self.nodes[path] = node

    def write(self, out: IO[bytes], epoch: int) -> None:
        """Write the tar."""
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(self.nodes):
                self._write(tar, path, self.nodes[path], epoch)

    def _write(self, tar: tarfile.TarFile, path: str, node: Node, epoch: int) -> None:
        member = tarfile.TarInfo(path)
        member.mode = stat.S_IMODE(node.mode)
        member.mtime = epoch
        if node.link:
            member.type, member.linkname = tarfile.SYMTYPE, node.link
        elif stat.S_ISDIR(node.mode):
            member.type = tarfile.DIRTYPE
        elif node.content is not None:
            member.size = len(node.content)
            tar.addfile(member, io.BytesIO(node.content))
            return
        else:
            with open(node.source, "rb") as source:
                member.size = os.fstat(source.fileno()).st_size
                tar.addfile(member, source)
            return
        tar.addfile(member)


def from_host(binaries: list[str]) -> tuple[Tree, list[str]]:
    """Return the tree of an image that can run the host's `binaries`, and its default command.

    A name without a slash is looked up in PATH. Brings interpreters of scripts, ELF interpreters
    and shared libraries; a shell among them becomes /bin/sh, busybox brings its applets.
    """
    if not binaries:
        raise UsageError("no program named")
    tree = _skeleton()
    programs = [_find(name) for name in binaries]
    for program in programs:
        _add_program(tree, program, 0)
    shell = next((p for p in programs if os.path.basename(p) in _SHELLS), "")
    if shell:
        tree.symlink(_place("/bin/sh"), _target(shell))
    busybox = next((p for p in programs if os.path.basename(p) == "busybox"), "")
    for applet in _applets(busybox) if busybox else ():
        tree.symlink(_place(f"/bin/{applet}"), _target(busybox))
    return tree, ["/bin/sh"] if shell else ["/" + _place(programs[0])]


def _skeleton() -> Tree:
    tree = Tree()
    # The dynamic linker's path goes through /lib or /lib64, which may be symlinks on this host.
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
        if os.path.islink("/" + name):
            target = os.readlink("/" + name).lstrip("/")
            tree.directory(target)
            tree.symlink(name, target)
    for path, mode in _DIRECTORIES.items():
        tree.directory(path, mode)
    for path, content in _FILES.items():
        tree.text(path, content)
    return tree


def _find(name: str) -> str:
    places = [name] if "/" in name else [f"{d}/{name}" for d in _PATH.split(":")]
    for path in places:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise NotFoundError(f"program {quote(name)}: not found on this host")


def _place(path: str) -> str:
    """Return where a host's path goes: its directory resolved, so `/lib/x` lands in `usr/lib`."""
    directory, name = os.path.split(os.path.abspath(path))
    return f"{os.path.realpath(directory)}/{name}".lstrip("/")


def _target(program: str) -> str:
    return "/" + _place(program)


def _add_program(tree: Tree, path: str, depth: int) -> None:
    tree.file(_place(path), path)
    interpreter = _shebang(path)
    if interpreter and depth < _SCRIPT_DEPTH:
        _add_program(tree, _find(interpreter), depth + 1)
    for needed in elf.closure(path):
        tree.file(_place(needed), needed)


def _shebang(path: str) -> str:
    with open(path, "rb") as program:
        line = program.readline(256)
    words = line[2:].split() if line.startswith(b"#!") else []
    if words[1:] and os.path.basename(words[0]) == b"env":
        words = words[1:]
    return os.fsdecode(words[0]) if words else ""


def _applets(busybox: str) -> list[str]:
    done = subprocess.run([busybox, "--list"], capture_output=True, check=False, timeout=10)
    names = done.stdout.decode("ascii", "replace").split()
    return [name for name in names if name != "busybox" and name.isprintable() and "/" not in name]


@dataclass(frozen=True, kw_only=True)
class Built:
    """The digests of an image that was written, manifest and configuration."""

    digest: str
    image_id: str


def write_archive(
    out: str, name: str, layer: IO[bytes], command: list[str], epoch: int, *, compress: bool = True
) -> Built:
    """Write an OCI archive of one layer (a tar, read once) to the path `out`, by rename."""
    names = reference.parse(name)
    diff, stored = hashlib.sha256(), io.BytesIO()
    sink: IO[bytes] = stored
    if compress:
        sink = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=stored, mtime=0)  # type: ignore[assignment]
    while chunk := layer.read(1 << 20):
        diff.update(chunk)
        sink.write(chunk)
    if compress:
        sink.close()
    documents = _Documents()
    kind = image.LAYER_GZIP if compress else image.LAYER
    described = documents.add(kind, stored.getvalue())
    content = config_document(command, "sha256:" + diff.hexdigest(), epoch)
    settings = documents.add(image.CONFIG, content)
    manifest = documents.add(image.MANIFEST, _manifest(settings, described))
    full = f"{names.repository}:{names.tag}"
    annotations = {"io.containerd.image.name": full, image.REF_NAME: names.tag}
    index = {"schemaVersion": 2, "mediaType": image.INDEX}
    entry = {**manifest, "annotations": annotations, "platform": _platform()}
    documents.files["index.json"] = codec.dumps({**index, "manifests": [entry]}, sort=True)
    documents.write(out, epoch)
    return Built(digest=str(manifest["digest"]), image_id=str(settings["digest"]))


def config_document(command: list[str], diff_id: str, epoch: int) -> bytes:
    """Return the image configuration of a one-layer image."""
    document = {
        **_platform(),
        "created": _rfc3339(epoch),
        "config": {"Env": ["PATH=" + _PATH], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": _rfc3339(epoch), "created_by": "pycontain"}],
    }
    return codec.dumps(document, sort=True)


def _manifest(settings: dict[str, object], layer: dict[str, object]) -> bytes:
    head = {"schemaVersion": 2, "mediaType": image.MANIFEST}
    return codec.dumps({**head, "config": settings, "layers": [layer]}, sort=True)


def _platform() -> dict[str, str]:
    return {"architecture": archive.host_architecture(), "os": "linux"}


def _rfc3339(epoch: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Documents:
    def __init__(self) -> None:
        self.files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def add(self, media_type: str, content: bytes) -> dict[str, object]:
        digits = hashlib.sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digits}"] = content
        return {"mediaType": media_type, "digest": "sha256:" + digits, "size": len(content)}

    def write(self, out: str, epoch: int) -> None:
        tree = Tree()
        for path, content in self.files.items():
            tree.text(path, content)
        temporary = f"{out}.tmp-{os.getpid()}"
        try:
            with open(temporary, "wb") as file:
                tree.write(file, epoch)
            os.rename(temporary, out)
        except OSError as error:
            raise KernelError("write", out, error) from error


def host_layer(binaries: list[str], epoch: int) -> tuple[io.BytesIO, list[str]]:
    """Return the layer tar of `from_host`, and the image's default command."""
    tree, command = from_host(binaries)
    layer = io.BytesIO()
    tree.write(layer, epoch)
    layer.seek(0)
    return layer, command


def main(arguments: list[str]) -> None:
    """`OUT NAME` with a rootfs tar on standard input, or `OUT NAME --from-host BIN...`."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    match arguments:
        case [out, name, "--from-host", *binaries]:
            layer, command = host_layer(binaries, epoch)
            built = write_archive(out, name, layer, command, epoch)
        case [out, name]:
            built = write_archive(out, name, sys.stdin.buffer, ["/bin/sh"], epoch)
        case _:
            raise InvalidError("usage: build OUT NAME [--from-host BIN...] < rootfs.tar")
    print(f"{name} {built.digest}")


if __name__ == "__main__":
    main(sys.argv[1:])
