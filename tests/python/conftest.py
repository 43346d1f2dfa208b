"""Connects to the server named by --server, and tells the tests which table to use.

The table needs a text column, a number column and at least two rows. With --table the
tests run against any server; without it, against the rows of the example `plain_server`.
"""

import adbc_driver_flightsql.dbapi as flightsql
import pytest


def pytest_addoption(parser):
    parser.addoption("--server", default="127.0.0.1:50051", help="HOST:PORT of a Flight SQL server")
    parser.addoption("--table", default="public.sales", help="a table with rows")
    parser.addoption("--text", default="product", help="its text column")
    parser.addoption("--number", default="price", help="its number column")

    parser.addoption("--lake", default="", help="the data folder of a stopped server, for test_lake.py")
    parser.addoption("--binary", default="target/debug/thalweg", help="the binary whose shell is tried")


@pytest.fixture
def address(request):
    return "grpc://" + request.config.getoption("--server")


@pytest.fixture
def table(request):
    return request.config.getoption("--table")


@pytest.fixture
def text(request):
    return request.config.getoption("--text")


@pytest.fixture
def number(request):
    return request.config.getoption("--number")


@pytest.fixture
def connection(address):
    with flightsql.connect(address, autocommit=True) as connection:
        yield connection


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor
