"""The shell in scripts: what it writes, and with which code it leaves."""

import json
import socket
import subprocess

import pytest


@pytest.fixture
def shell(request):
    server, binary = (request.config.getoption(name) for name in ("--server", "--binary"))

    def run(*arguments, connect=server, stdin=""):
        return subprocess.run(
            [binary, "sql", "--connect", connect, *arguments],
            input=stdin, capture_output=True, text=True, timeout=60,
        )

    return run


def test_a_table(shell):
    done = shell("-c", "SELECT 1 AS one, NULL AS nothing, 'a;b' AS text")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:3] == ["one  nothing  text", "───  ───────  ────", "  1  NULL     a;b"]
    assert "(1 row, " in done.stdout


def test_csv_is_exact(shell):
    done = shell("-o", "csv", "-c", """SELECT 9007199254740993 AS i, 'a,"b"' AS t, '' AS empty, NULL AS n""")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'i,t,empty,n\n9007199254740993,"a,""b""","",\n'


def test_csv_of_no_rows_is_its_header(shell):
    assert shell("-o", "csv", "-c", "SELECT 1 AS one WHERE 1 = 0").stdout == "one\n"


def test_json_is_an_object_a_line(shell):
    done = shell("-o", "json", "-c", "SELECT value, [value] AS l, NULL AS n FROM generate_series(1, 3) ORDER BY value")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"value": n, "l": [n], "n": None} for n in (1, 2, 3)
    ]


def test_running_queries_name_their_client(shell):
    rows = shell("-o", "json", "-c", "SELECT client FROM system.queries WHERE state = 'running'").stdout
    assert any(json.loads(row)["client"].startswith("thalweg-sql/") for row in rows.splitlines())


def test_a_script_stops_at_its_first_error_and_points_at_it(shell, tmp_path):
    script = tmp_path / "script.sql"
    script.write_text("-- one\nSELECT 'first';\n\nSELECT\n  1 FRM x y;\nSELECT 'last';\n")
    done = shell("-f", str(script))
    assert done.returncode == 1
    assert "first" in done.stdout and "last" not in done.stdout
    assert done.stderr.startswith(f"{script}:5: error: ")
    line, caret = done.stderr.splitlines()[1:3]
    assert line == "    1 FRM x y" and caret.strip() == "^" and line[caret.index("^")] in "Fxy"


def test_statements_are_read_from_a_pipe(shell):
    done = shell("-o", "csv", stdin="SELECT 1 AS a; SELECT 2 AS b")
    assert (done.returncode, done.stdout) == (0, "a\n1\nb\n2\n")


def test_an_unknown_column_is_named(shell, table):
    done = shell("-c", f"SELECT no_such_column FROM {table}")
    assert done.returncode == 1 and "no_such_column" in done.stderr and done.stdout == ""


def test_no_server_says_what_to_start(shell):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = shell("-c", "SELECT 1", connect="127.0.0.1:%d" % unused.getsockname()[1])
    assert done.returncode == 2
    assert "thalweg demo" in done.stderr and "thalweg serve" in done.stderr


def test_wrong_usage_is_told_apart(shell):
    assert shell("--no-such-option").returncode == 2
    assert shell("-f", "/no/such/file").returncode == 2
    assert shell("-c", "SELECT 1", connect="not an address").returncode == 2


def test_a_reader_that_leaves_early_is_no_error(request):
    server, binary = (request.config.getoption(name) for name in ("--server", "--binary"))
    sql = "SELECT value FROM generate_series(1, 2000000)"
    command = f"'{binary}' sql --connect {server} -o csv -c '{sql}' | head -2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("value\n1\n", "")
