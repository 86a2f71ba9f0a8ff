"""The report in every form, from a small comparison made up here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from importlib.resources import files

import jsonschema
import pytest

from pycontain.bench import claims_text, report
from pycontain.bench.claims import Figure, Finding, Verdict
from pycontain.bench.diff import difference
from pycontain.bench.model import Kind, Metric, Sample, Workload
from pycontain.bench.store import Results

EVIL = '<script>alert("x")</script>'
ARMS = {
    "native": Kind.MEASURED,
    "native-again": Kind.MEASURED,
    "runc": Kind.MEASURED,
    "qemu": Kind.EMULATED,
    "sim:kvm-qemu": Kind.SIMULATED,
}
VOID = {"meta", "br"}


def made_up(directory, factor: float = 1.0) -> Results:
    workload = Workload(name=EVIL, argv=("sh", "-c", EVIL))
    meta = {
        "schema": 1,
        "started": "2026-01-01T00:00:00+00:00",
        "image": EVIL,
        "image_digest": "sha256:" + "0" * 64,
        "environment": {"kernel": "Linux", "host is": "itself a virtual machine"},
        "workloads": [asdict(workload)],
        "plan": {"runs": 5},
        "arms": {
            name: {"kind": kind.value, "includes": EVIL, "command": ["run", EVIL]}
            for name, kind in ARMS.items()
        },
        "absent": {"gvisor": EVIL},
    }
    results = Results(directory)
    results.open(json.loads(json.dumps(meta)))
    for number in range(5):
        for place, (name, kind) in enumerate(ARMS.items()):
            wall = factor * (0.01 * 3 ** max(place - 1, 0) + number / 1e5)
            interval = {"low": wall / 2, "high": wall * 2} if kind is Kind.SIMULATED else {}
            metrics = {"wall": Metric(value=wall, unit="s", **interval)}
            if kind is Kind.EMULATED:
                for mark, at in MARKS.items():
                    metrics[f"stage_{mark}"] = Metric(value=at * wall, unit="s")
            sample = Sample(
                arm=name, workload=EVIL, group="compare", kind=kind, sequence=number, warmup=False,
                status=0, metrics=metrics, output_sha256="x", started="",
            )  # fmt: skip
            results.append(sample)
    return results


MARKS = {"vmm": 0.1, "firmware": 0.2, "init": 0.6, "command": 0.8, "exited": 0.9, "gone": 1.0}


class Checker(HTMLParser):
    """Notes tags that are left open, scripts and anything loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag in ("script", "link", "img", "iframe", "object") or {"src", "href"} & names.keys():
            self.wrong.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return None

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")


@pytest.fixture
def results(tmp_path):
    return made_up(tmp_path / "a")


def test_the_page_is_whole_and_loads_nothing(results):
    page = report.render(results, "html")
    checker = Checker()
    checker.feed(page)
    assert checker.wrong == []
    assert checker.open == []
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)


def test_text_from_outside_stays_text(results):
    assert "<script" not in report.render(results, "html")


def test_every_form_names_every_kind(results):
    for form in ("text", "markdown", "csv", "json", "html"):
        shown = report.render(results, form)
        assert "measured" in shown and "emulated" in shown and "simulated" in shown.lower(), form


def test_simulated_bars_are_hatched_and_labelled(results):
    page = report.render(results, "html")
    assert 'class="bar simulated"' in page
    assert "url(#simulated)" in page
    assert re.search(r"\d+ ms simulated", page)


def test_the_page_is_made_for_light_dark_and_paper(results):
    page = report.render(results, "html")
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_absent_arms_and_the_host_are_stated(results):
    for form in ("text", "markdown", "html"):
        shown = report.render(results, form)
        assert "gvisor" in shown
        assert "itself a virtual machine" in shown


def test_json_follows_its_schema(results):
    schema = json.loads(files("pycontain.bench").joinpath("schema.json").read_text())
    document = json.loads(report.render(results, "json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)


def test_samples_follow_their_schema(results):
    schema = json.loads(files("pycontain.bench").joinpath("schema.json").read_text())
    sample = {"$ref": "#/$defs/sample", "$defs": schema["$defs"]}
    for line in (results.directory / "samples.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(line), sample)


def test_the_schema_wants_a_kind_on_every_row(results):
    schema = json.loads(files("pycontain.bench").joinpath("schema.json").read_text())
    document = json.loads(report.render(results, "json"))
    del document["sections"][0]["rows"][0]["kind"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_a_difference_is_told_from_noise(tmp_path, results):
    slower = made_up(tmp_path / "b", factor=2.0)
    lines = difference(results, slower).splitlines()
    assert any("runc" in line and "slower" in line for line in lines)
    same = difference(results, made_up(tmp_path / "c"))
    assert "slower" not in same and "faster" not in same


def test_another_host_is_said_first(tmp_path, results):
    other = made_up(tmp_path / "b")
    other.meta["environment"]["kernel"] = "Linux 99"
    assert difference(results, other).startswith("another host")


def test_every_claim_is_said_in_both_languages():
    for table in claims_text.texts().values():
        for key, words in table.items():
            assert words["en"] and words["ko"], key


def test_both_languages_use_the_same_figures():
    for key, words in claims_text.texts()["reasons"].items():
        names = [sorted(re.findall(r"\{(\w+)\}", words[lang])) for lang in ("en", "ko")]
        assert set(names[0]) == set(names[1]), key


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_an_answer_names_verdict_and_kind(lang):
    figure = Figure(name="a", value=1.234, unit="x native", kind=Kind.SIMULATED, low=1, high=2)
    finding = Finding(
        claim="type_one",
        verdict=Verdict.SIMULATED_ONLY,
        reason="type_one_same",
        words={"cpu": "1", "disk": "1"},
        figures=(figure,),
    )
    shown = claims_text.render([finding], {"environment": {"host is": "a host"}}, lang)
    assert "SIMULATED" in shown
    assert "1.2" in shown and "1.23" not in shown


def test_the_answer_comes_first_and_every_figure_in_it_says_its_kind(results):
    page = report.render(results, "html")
    short = page[page.index("In short") : page.index("</section>")]
    assert page.index("In short") < page.index("<svg")
    for kind in ("measured", "SIMULATED", "emulated"):
        assert kind in short
    cells = re.findall(r'<td class="(\w+)-cell">(.*?)</td>', short)
    assert {kind for kind, _ in cells} == {"measured", "emulated", "simulated"}
    for kind, words in cells:
        lines = [line for line in words.split("<br>") if ": " in line]
        assert all(line.endswith(kind) for line in lines) or kind == "measured"
