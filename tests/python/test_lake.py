"""The lake without the server: Delta tables and their Parquet, read by engines that know nothing of Thalweg."""

import duckdb
import polars
import pytest
from deltalake import DeltaTable

ROWS = 20_000


@pytest.fixture
def tables(request):
    lake = request.config.getoption("--lake")
    assert lake, "--lake DIR names the data of a stopped server"
    return lambda name: DeltaTable(f"{lake}/tables/{name}")


def test_delta_rs_reads_every_row_once(tables):
    archive = tables("archive").to_pyarrow_table()
    assert archive.num_rows == ROWS
    places = set(zip(archive["source_partition"].to_pylist(), archive["source_offset"].to_pylist()))
    assert places == {(partition, offset) for partition in range(4) for offset in range(ROWS // 4)}


def test_polars_sums_the_windows(tables):
    windows = polars.scan_delta(tables("types_per_second"))
    assert windows.select(polars.col("events").sum()).collect().item() == ROWS
    keys = ["window_start", "event_type"]
    assert windows.select(keys).collect().is_duplicated().any() is False


def test_duckdb_reads_it(tables):
    archive = tables("archive").to_pyarrow_dataset()  # noqa: F841, found by its name
    windows = tables("types_per_second").to_pyarrow_dataset()  # noqa: F841
    counted = duckdb.sql("SELECT event_type, count(*)::BIGINT FROM archive GROUP BY 1 ORDER BY 1").fetchall()
    summed = duckdb.sql("SELECT event_type, sum(events)::BIGINT FROM windows GROUP BY 1 ORDER BY 1").fetchall()
    assert counted == summed
    assert sum(count for _, count in counted) == ROWS


def test_the_day_of_the_window_is_the_partition(tables):
    assert tables("types_per_second").metadata().partition_columns == ["window_date"]
    days = tables("types_per_second").to_pyarrow_table()["window_date"].to_pylist()
    assert {str(day) for day in days} == {"2025-06-01"}
