"""Nothing from outside moves a cursor, reorders text, forges a line or fills a screen."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from certctl.io.escape import lines, one_line


@given(st.text())
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    shown = one_line(text)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in shown)
    assert shown.splitlines() in ([], [shown])


def test_escapes_a_terminal_would_obey_are_spelled_out() -> None:
    assert one_line("a\x1b[2J\r\n\u202eb") == "a\\x1b[2J\\r\\n\\u202eb"


def test_a_megabyte_is_cut_with_a_remark() -> None:
    assert one_line("x" * 1_000_000) == "x" * 2000 + "… (998000 more characters)"


def test_of_long_output_the_last_lines_remain() -> None:
    assert lines("1\n\n2\n3\x07\n", limit=2) == ["2", "3\\x07"]
