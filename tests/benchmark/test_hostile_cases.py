"""2,000 malformed or hostile files of cases: each is read, or refused with a message that names file and line."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmark.cases.__main__ import _main
from benchmark.cases.case import SCHEMA, check_images, describe, position_test, read_cases
from mgll.formats import FormatError

FIELDS = {
    "id": "1",
    "image": "a.png",
    "image_sha256": "0" * 64,
    "group": "g",
    "source": "s",
    "question": "q?",
    "options": ["Health", "Drusen", "Glaucoma", "Cataract"],
    "option_codes": ["Health", "Drusen", "Glaucoma", "Cataract"],
    "answer": 1,
    "code": "Drusen",
    "labels": ["Drusen"],
}
HEADER = json.dumps({"schema": SCHEMA}).encode()

# JSON as text, so that what Python's own writer would never write can be written: NaN, huge numbers, lone surrogates, double keys.
hostile_values = st.sampled_from([
    "NaN", "Infinity", "-Infinity", "1e999", "-0", "1.0", "true", "null", "9" * 400, "9" * 5000, "-1", "4", "4294967296",
    '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\\u001b[31m\\u0007"', '"\x00"', '"\t"', '"\\x41"', '"\u202egpj.eye"',
    '""', '" "', '"' + "a" * 70_000 + '"', '"DR"', '"No AMD"', '"Health"', '["DR"]', "[]", "{}", '[["Health"]]',
    '["Health", "Health", "DR", "AMD"]', '["Health", "Drusen", "Glaucoma"]', '["\\ud800", "a", "b", "c"]',
    '["Health", "Drusen", "Glaucoma", "Cataract", "DR"]', '{"__class__": "os.system"}', "[" * 500 + "]" * 500,
    "[" * 100_000, '{"a":' * 50_000, '"../../../../../../etc/passwd"', '"/dev/zero"', '"/dev/stdin"', '"/proc/self/mem"',
    '"."', '".."', '"/"', '"~"', '"file:///etc/passwd"', '"http://127.0.0.1/a.png"', '"C:\\\\aux"', '"nul\\u0000.png"',
    '"' + "a/" * 3000 + '"', '"\\ud83d\\ude00.png"',
])  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
).map(json.dumps)
values = hostile_values | json_values
names = st.sampled_from([*FIELDS, "other", "__proto__", "\\u0000", "id "])


@st.composite
def case_lines(draw: st.DrawFn) -> bytes:
    """A line that is a case but for up to three fields, which are changed, doubled or missing."""
    fields = [(name, json.dumps(value)) for name, value in FIELDS.items()]
    for name, value in draw(st.lists(st.tuples(names, values), max_size=3)):
        if draw(st.booleans()):
            fields = [field for field in fields if field[0] != name]
        fields.append((name, value))
    for name in draw(st.lists(st.sampled_from(list(FIELDS)), max_size=1) if draw(st.booleans()) else st.just([])):
        fields = [field for field in fields if field[0] != name]
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}").encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, line: bytes) -> bytes:
    """The line cut short, with bytes that are not UTF-8 or control characters in it, or in another encoding."""
    at = draw(st.integers(0, len(line)))
    noise = draw(
        st.sampled_from([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\x1b[2J", b"\r", b"\n", b"\xef\xbb\xbf"])
    )
    ways = [line[:at], line[:at] + noise + line[at:], line + line, line.decode("utf-8", "replace").encode("utf-16")]
    return draw(st.sampled_from(ways))


headers = st.sampled_from([
    HEADER, HEADER, HEADER, HEADER, b'{"schema": "mgll.manifest/1"}', b'{"schema": "mgll.cases/2"}', b"{}", b"[]", b"null", b"",
    b'{"schema": NaN}', b'{"schema": ["mgll.cases/1"]}', b'{"schema": "mgll.cases/1", "n": ' + b"9" * 5000 + b"}", b"[" * 99_999,
    b"\xef\xbb\xbf" + HEADER, b"\x89PNG\r\n\x1a\n", HEADER[:-1],
])  # fmt: skip
lines = (
    case_lines() | case_lines().flatmap(damaged) | st.binary(max_size=40) | st.sampled_from([b"", b" ", b"0", b"null"])
)
files = st.builds(lambda header, body: b"\n".join([header, *body]), headers, st.lists(lines, min_size=1, max_size=4))


@pytest.mark.slow
@settings(
    max_examples=2000,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would only make a failure slow
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large],
)
@given(files | st.binary(max_size=200))
def test_a_hostile_file_is_read_or_refused_by_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "hostile.jsonl"
    path.write_bytes(content)
    try:
        cases = read_cases(path)
    except FormatError as error:
        check_message(error, content)
        return
    describe(cases)
    position_test(cases)
    assert all(error.line and f"line {error.line}: field image" in str(error) for error in check_images(path))


def check_message(error: FormatError, content: bytes) -> None:
    message = str(error)
    message.encode()  # no lone surrogate, which no terminal takes
    assert re.search(r"[\x00-\x1f\x7f]", message) is None  # and nothing that moves its cursor
    assert len(message) < 3000
    if error.line is None:  # only of a file that holds a header and nothing else
        assert message.endswith("no case")
        assert not b"".join(content.split(b"\n")[1:]).strip()
    else:
        assert f"line {error.line}: " in message
        assert 1 <= error.line <= content.count(b"\n") + 1


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "folder"])
def test_what_is_no_file_is_not_read(tmp_path, name, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    path = tmp_path / "cases.jsonl"
    path.write_bytes(HEADER + b"\n" + json.dumps(FIELDS | {"image": name}).encode() + b"\n")
    assert _main(["validate", str(path)]) == 1
    assert "line 2: field image" in capsys.readouterr().err
    assert "not a file" in str(check_images(path)[0])


def test_a_link_that_leads_to_itself_is_not_read(tmp_path: Path):
    (tmp_path / "a.png").symlink_to("a.png")
    path = tmp_path / "cases.jsonl"
    path.write_bytes(HEADER + b"\n" + json.dumps(FIELDS).encode() + b"\n")
    assert [error.line for error in check_images(path)] == [2]
