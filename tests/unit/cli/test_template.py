"""--format: what docker's users write, against what docker prints."""

from __future__ import annotations

import pytest

from pycontain.cli import output, template
from pycontain.errors import UsageError

BOX = {
    "Id": "abc",
    "Name": "web",
    "State": {"Status": "running", "Pid": 7, "Paused": False},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"b": "2", "a": "1"}, "Cmd": []},
    "Mounts": [{"Source": "/x"}, {"Source": "/y"}],
    "Error": None,
}


@pytest.mark.parametrize(
    ("form", "printed"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "abc"),
        ("{{ .State.Status }} {{.Name}}", "running web"),
        ("{{.State.Paused}} {{.State.Pid}} {{.Error}}", "false 7 <nil>"),
        ("{{.Config.Env}} {{.Config.Labels}}", "[A=1 B=2] map[a:1 b:2]"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{.Config.Env | json}}", '["A=1","B=2"]'),
        ("{{json .State.Status | len}}", "9"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range .Mounts}}{{.Source}};{{end}}", "/x;/y;"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{range .Config.Labels}}{{.}}{{$.Id}} {{end}}", "1abc 2abc "),
        ("{{if .State.Paused}}p{{else}}r{{end}}", "r"),
        ("{{if .Mounts}}{{if .Name}}both{{end}}{{else}}none{{end}}", "both"),
        ("{{if .Error}}x{{else}}{{if .Name}}y{{end}}z{{end}}", "yz"),
        ("{{with .State}}{{.Pid}}{{end}}", "7"),
        ('{{index .Config.Labels "a"}} {{index .Config.Env 1}}', "1 B=2"),
        ("{{(index .Mounts 0).Source}}", "/x"),
        ('{{join .Config.Env ", "}} {{upper .Name}} {{.Name | title}}', "A=1, B=2 WEB Web"),
        ('{{if eq .State.Status "running" "paused"}}up{{end}}', "up"),
        ("{{if and .Name (not .Error)}}fine{{end}}", "fine"),
        ('{{printf "%s-%d" .Name .State.Pid}}', "web-7"),
        ("a {{- .Id -}} \n b", "aabcb"),
        ('{{"{{"}}x', "{{x"),
    ],
)
def test_a_template_is_filled(form: str, printed: str) -> None:
    assert template.render(form, BOX) == printed


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("{{.Nope}}", "no field 'Nope', only Config, Error, Id"),
        ("{{.Id.Nope}}", "has no field 'Nope'"),
        ("{{.Id", "unclosed action"),
        ("{{}}", "missing value"),
        ("{{range .Mounts}}", "has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{nope .Id}}", "function 'nope' not defined"),
        ('{{index .Mounts "x"}}', "index does not take"),
        ("{{join .Id}}", "join does not take"),
        ('{{"open}}', "unterminated"),
        ("{{(.Id}}", "cannot read"),
        ("{{.Id .Name}}", "cannot give arguments"),
    ],
)
def test_a_fault_is_one_line_that_says_where(form: str, why: str) -> None:
    with pytest.raises(UsageError, match=r"--format: ") as caught:
        template.render(form, BOX)
    assert why in str(caught.value)


def test_rows_go_under_headings_with_table(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(output, "_pending", written)
    rows = [{"ID": "1", "Names": "a\x1b", "State": "up"}]
    columns = {"ID": "CONTAINER ID"}
    template.print_rows(r"table {{.ID}}\t{{.State}}", rows, columns)
    template.print_rows(r"{{.ID}}\t{{.Names}}", rows, columns)
    assert b"".join(written) == b"CONTAINER ID   STATE\n1              up\n1\ta\\x1b\n"
