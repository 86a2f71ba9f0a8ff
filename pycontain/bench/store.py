"""A directory of results: `meta.json` says what was compared, `samples.jsonl` holds every sample.

A sample is appended as soon as it is there, so that an interrupted comparison keeps what it has; a
half-written last line is left out when reading. Nothing is ever rewritten.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pycontain.bench.model import FAILED, Sample, sample_from_line
from pycontain.errors import ConflictError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = ("image_digest", "workloads")


class Results:
    """One directory of results."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.meta: dict[str, Any] = {}
        self.samples: list[Sample] = []

    @property
    def _meta_path(self) -> Path:
        return self.directory / "meta.json"

    @property
    def _samples_path(self) -> Path:
        return self.directory / "samples.jsonl"

    def open(self, meta: dict[str, Any]) -> None:
        """Begin, or go on with, the comparison `meta` describes.

        Raises ConflictError when the directory holds another comparison.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._meta_path.exists():
            self.load()
            for key in IDENTITY:
                if self.meta.get(key) != meta.get(key):
                    raise ConflictError(
                        f"{self.directory} holds another comparison ({key} differs)",
                        hint="choose another --out",
                    )
        self.meta = meta
        self._write_meta()

    def _write_meta(self) -> None:
        unfinished = self.directory / f".meta.{os.getpid()}"
        unfinished.write_text(json.dumps(self.meta, indent=1) + "\n")
        unfinished.rename(self._meta_path)

    def load(self) -> Results:
        """Read the directory. Raises NotFoundError or InvalidError."""
        try:
            self.meta = json.loads(self._meta_path.read_text())
            text = self._samples_path.read_text() if self._samples_path.exists() else ""
        except FileNotFoundError as error:
            raise NotFoundError(f"no results in {self.directory}") from error
        except ValueError as error:
            raise InvalidError(f"{self._meta_path}: {error}") from error
        whole = text[: text.rfind("\n") + 1]
        self.samples = [sample_from_line(line) for line in whole.splitlines()]
        if whole != text:
            # What an interruption cut in half would spoil the line that follows it.
            os.truncate(self._samples_path, len(whole.encode()))
        return self

    def append(self, sample: Sample) -> None:
        """Keep one sample, on disk at once."""
        self.samples.append(sample)
        with open(self._samples_path, "a") as file:
            file.write(sample.to_line() + "\n")

    def done(self, arm: str, workload: str) -> int:
        """Return how many runs, warm-up included, of this pair are there; failed ones are not."""
        return sum(
            1
            for one in self.samples
            if one.arm == arm and one.workload == workload and one.status != FAILED
        )
