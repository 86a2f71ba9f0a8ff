"""A directory of results: resuming, interruption, mismatch."""

from __future__ import annotations

import pytest

from pycontain.bench.model import Kind, Metric, Sample
from pycontain.bench.store import Results
from pycontain.errors import ConflictError, InvalidError, NotFoundError

META = {"image_digest": "sha256:1", "workloads": [{"name": "w"}]}


def sample(status: int = 0) -> Sample:
    return Sample(
        arm="runc",
        workload="w",
        group="g",
        kind=Kind.MEASURED,
        sequence=0,
        warmup=False,
        status=status,
        metrics={"wall": Metric(value=1.0, unit="s")},
    )


def test_a_rerun_finds_what_is_there(tmp_path):
    first = Results(tmp_path / "out")
    first.open(META)
    first.append(sample())
    again = Results(tmp_path / "out")
    again.open(META)
    assert again.done("runc", "w") == 1
    assert again.samples == [sample()]


def test_a_failed_run_is_made_again(tmp_path):
    results = Results(tmp_path)
    results.open(META)
    results.append(sample(status=-1))
    assert results.done("runc", "w") == 0


def test_a_line_cut_in_half_is_left_out_and_spoils_nothing(tmp_path):
    results = Results(tmp_path)
    results.open(META)
    results.append(sample())
    with open(tmp_path / "samples.jsonl", "a") as file:
        file.write('{"schema":1,"ar')
    again = Results(tmp_path).load()
    assert len(again.samples) == 1
    again.append(sample())
    assert len(Results(tmp_path).load().samples) == 2


def test_another_comparison_is_not_mixed_in(tmp_path):
    Results(tmp_path).open(META)
    with pytest.raises(ConflictError, match="image_digest"):
        Results(tmp_path).open({**META, "image_digest": "sha256:2"})


def test_an_empty_directory_holds_no_results(tmp_path):
    with pytest.raises(NotFoundError):
        Results(tmp_path).load()


def test_broken_metadata_is_invalid(tmp_path):
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(InvalidError):
        Results(tmp_path).load()
