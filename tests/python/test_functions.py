"""The functions that are offered are those of docs/FUNCTIONS.md, and answer as it says."""

from pathlib import Path

import pytest
from functions import CASES, Both, table


@pytest.fixture(scope="module")
def both(request):
    return Both("grpc://" + request.config.getoption("--server"))


def test_every_function_is_in_the_table(both):
    assert both.offered() == {name for case in CASES for name in case.names}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.ours or case.names[0])
def test_it_answers_as_the_table_says(both, case):
    differences = both.differences(case)
    if case.verdict == "equal":
        assert differences == []
    elif case.verdict == "differs":
        assert differences and case.note
    else:
        assert case.theirs is None and case.verdict == "not in DuckDB"


def test_the_table_is_the_one_in_the_docs():
    docs = Path(__file__).parents[2] / "docs" / "FUNCTIONS.md"
    assert docs.read_text() == table(), "write it anew: functions.py HOST:PORT > docs/FUNCTIONS.md"
