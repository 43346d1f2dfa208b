"""Every function that is offered, beside DuckDB where DuckDB has it, over edge values.

    functions.py HOST:PORT            prints docs/FUNCTIONS.md
    functions.py HOST:PORT --differ   prints each value that differs

`test_functions.py` holds the table to what both answer, so that a function that changes, or a new one, is seen.
"""

import datetime
import decimal
import math
import sys

import adbc_driver_flightsql.dbapi as flightsql
import duckdb

from functions_cases import CASES

ERROR = "error"


class Both:
    def __init__(self, address):
        self.connection = flightsql.connect(address, autocommit=True)
        self.duck = duckdb.connect()
        self.duck.execute("SET TimeZone = 'UTC'")

    def offered(self):
        return {name for (name,) in self.all("SELECT DISTINCT routine_name FROM information_schema.routines")}

    def all(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def ours(self, sql):
        try:
            return plain(self.all(sql)[0][0])
        except Exception:
            return ERROR

    def theirs(self, sql):
        try:
            return plain(self.duck.execute(sql).fetchone()[0])
        except duckdb.Error:
            return ERROR

    def differences(self, case):
        """Of a case whose answers are not all errors, which would be alike."""
        if case.theirs is None:
            return []
        answers = [(sql, self.ours(sql), self.theirs(theirs)) for sql, theirs in case.pairs()]
        for index, of in ((1, "ours"), (2, "theirs")):
            assert any(answer[index] != ERROR for answer in answers), f"{case.names}, {of}: all errors"
        return [(sql, ours, theirs) for sql, ours, theirs in answers if not alike(ours, theirs)]


def plain(value):
    """A value without the type that its client gave it."""
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime()
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def alike(one, other):
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other or abs(one - other) <= 1e-9 * max(abs(one), abs(other))
    return type(one) is type(other) and one == other


HEAD = """# Functions

Every function that is offered, and how it compares with DuckDB 's of the same name or meaning over edge values (NULL, the
ends of types, NaN and infinities, empty and non-ASCII text, leap days). `tests/python/functions.py` makes this table, and
`test_functions.py` holds it to what both answer.

| functions | beside DuckDB | |
|---|---|---|
""".replace("DuckDB 's", "DuckDB's")


def table():
    rows = (f"| {', '.join(f'`{name}`' for name in case.names)} | {case.verdict} | {case.note} |" for case in CASES)
    return HEAD + "\n".join(dict.fromkeys(rows)) + "\n"


if __name__ == "__main__":
    if "--differ" in sys.argv:
        both = Both("grpc://" + sys.argv[1])
        known = {name for case in CASES for name in case.names}
        print("missing:", sorted(both.offered() - known), "gone:", sorted(known - both.offered()))
        for case in CASES:
            for sql, ours, theirs in both.differences(case):
                print(f"{case.names[0]:20} {case.verdict:12} {sql[7:]}\n    ours {ours!r}\n    theirs {theirs!r}")
    else:
        print(table(), end="")
