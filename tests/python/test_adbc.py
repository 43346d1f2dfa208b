"""What the Python ADBC driver and pandas need, with no special options."""

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow
import pytest


def objects(connection, depth="all", **filters):
    return connection.adbc_get_objects(depth=depth, **filters).read_all().to_pylist()


def tables_of(connection):
    return {
        (schema["db_schema_name"], table["table_name"]): table
        for catalog in objects(connection)
        for schema in catalog["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    }


def test_select_one(cursor):
    cursor.execute("SELECT 1 AS one, 'a' AS letter")
    assert [column[0] for column in cursor.description] == ["one", "letter"]
    assert cursor.fetchall() == [(1, "a")]


def test_connects_without_any_option(address):
    with pytest.warns(Warning, match="autocommit"):
        connection = flightsql.connect(address)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_the_server_says_who_it_is(connection):
    assert connection.adbc_get_info()["vendor_name"] == "Thalweg"


def test_catalogs_schemas_tables_and_columns_are_listed(connection, table, text, number):
    schema, name = table.split(".")
    catalogs = objects(connection, depth="catalogs")
    assert [catalog["catalog_name"] for catalog in catalogs] == ["thalweg"]
    columns = tables_of(connection)[(schema, name)]["table_columns"]
    assert {text, number} <= {column["column_name"] for column in columns}


def test_listing_obeys_filters(connection, table):
    schema, name = table.split(".")
    found = objects(connection, depth="tables", db_schema_filter=schema, table_name_filter=name)
    tables = [t["table_name"] for c in found for s in c["catalog_db_schemas"] for t in s["db_schema_tables"]]
    assert tables == [name]


def test_the_schema_of_a_table(connection, table, text):
    schema, name = table.split(".")
    fields = connection.adbc_get_table_schema(name, db_schema_filter=schema)
    assert fields.field(text).type == pyarrow.string()


def test_a_plain_view_is_listed(connection, cursor, table, text):
    cursor.execute(f"CREATE VIEW adbc_plain AS SELECT {text} FROM {table}")
    columns = tables_of(connection)[(table.split(".")[0], "adbc_plain")]["table_columns"]
    assert [column["column_name"] for column in columns] == [text]
    cursor.execute("DROP VIEW adbc_plain")


def test_table_types(connection):
    assert "TABLE" in connection.adbc_get_table_types()


def test_current_catalog_and_schema(connection):
    assert connection.adbc_current_catalog == "thalweg"
    assert connection.adbc_current_db_schema == "public"


def test_changing_the_schema_changes_where_names_are_looked_up(connection, cursor, table):
    schema, name = table.split(".")
    other = "history" if schema != "history" else "live"
    connection.adbc_current_db_schema = other
    assert connection.adbc_current_db_schema == other
    connection.adbc_current_db_schema = schema
    cursor.execute(f"SELECT count(*) FROM {name}")
    assert cursor.fetchone()[0] > 0
    with pytest.raises(Exception):
        connection.adbc_current_db_schema = "no_such_schema"


def test_pandas_reads_a_table(cursor, table, text, number):
    cursor.execute(f"SELECT {text}, {number} FROM {table}")
    frame = cursor.fetch_df()
    assert list(frame.columns) == [text, number]
    assert len(frame) >= 2
    assert frame[number].sum() > 0


def test_aggregates_and_nullability(cursor, table, text, number):
    cursor.execute(
        f"SELECT {text}, count(*) AS n, min({number}) AS low, max({number}) AS high "
        f"FROM {table} GROUP BY {text} ORDER BY {text}"
    )
    rows = cursor.fetch_arrow_table()
    assert rows.num_rows > 0
    assert sum(rows.column("n").to_pylist()) >= rows.num_rows


def test_an_empty_result_has_its_columns(cursor, table, text):
    cursor.execute(f"SELECT {text} FROM {table} WHERE 1 = 0")
    rows = cursor.fetch_arrow_table()
    assert rows.num_rows == 0 and rows.schema.names == [text]


def test_bound_parameters(cursor, table, text):
    cursor.execute(f"SELECT {text} FROM {table} LIMIT 1")
    value = cursor.fetchone()[0]
    cursor.execute(f"SELECT DISTINCT {text} FROM {table} WHERE {text} = $1", (value,))
    assert cursor.fetchall() == [(value,)]


def test_a_prepared_statement_is_run_again_with_other_values(cursor):
    for value in (3, 4):
        cursor.execute("SELECT $1 + 1 AS next", (value,))
        assert cursor.fetchone() == (value + 1,)


def test_prepare_names_the_parameters(cursor, table, number):
    schema = cursor.adbc_prepare(f"SELECT * FROM {table} WHERE {number} > $1")
    assert schema is not None and len(schema) == 1


def test_the_result_schema_without_running(cursor, table, text):
    assert cursor.adbc_execute_schema(f"SELECT {text} FROM {table}").names == [text]


def test_an_unknown_column_is_named(cursor, table):
    with pytest.raises(adbc_driver_manager.ProgrammingError) as error:
        cursor.execute(f"SELECT no_such_column FROM {table}")
    assert "no_such_column" in str(error.value)


def test_an_unknown_table_is_named(cursor):
    with pytest.raises(adbc_driver_manager.ProgrammingError) as error:
        cursor.execute("SELECT * FROM no_such_table")
    assert "no_such_table" in str(error.value)


def test_a_typing_error_is_refused(cursor):
    with pytest.raises(adbc_driver_manager.ProgrammingError):
        cursor.execute("SELEC 1")


def test_a_connection_survives_errors(cursor):
    for _ in range(3):
        with pytest.raises(adbc_driver_manager.Error):
            cursor.execute("SELECT nothing")
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (1,)


def test_many_rows_arrive_whole(cursor, table):
    cursor.execute("SELECT value FROM generate_series(1, 300000)")
    rows = cursor.fetch_arrow_table()
    assert rows.num_rows == 300_000
    assert sum(rows.column("value").to_pylist()) == 300_000 * 300_001 // 2


def test_a_reader_left_early_harms_nobody(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT value FROM generate_series(1, 5000000)")
        assert cursor.fetchone() == (1,)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_a_subscription_is_read_batch_by_batch(connection, table):
    with connection.cursor() as cursor:
        cursor.execute(f"SUBSCRIBE TO {table} WITH (snapshot = false)")
        reader = cursor.fetch_record_batch()
        marks = 0
        for batch in reader:
            rows = batch.to_pylist()
            assert all(list(row)[:4] == ["change", "final", "token", "epoch"] for row in rows)
            marks += sum(row["change"] == 0 and row["token"] is not None for row in rows)
            if marks:
                break
        token = next(row["token"] for row in rows if row["change"] == 0)
        cursor.adbc_cancel()
    with connection.cursor() as cursor:
        cursor.execute(f"SUBSCRIBE TO {table} WITH (live = false) AFTER '{token}'")
        told = next(batch for batch in cursor.fetch_record_batch() if batch.num_rows)
        assert all(row["change"] == 0 or row["final"] for row in told.to_pylist())
        cursor.adbc_cancel()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_wide_text_is_cut_into_messages(cursor):
    cursor.execute("SELECT repeat('x', 10000) AS x FROM generate_series(1, 2000)")
    rows = cursor.fetch_arrow_table()
    assert rows.num_rows == 2000 and rows.nbytes > 20_000_000


def test_ddl(cursor, table, request):
    if request.config.getoption("--table") != "public.sales":
        create, drop = (
            "CREATE STREAM adbc_test (t TIMESTAMP(3), WATERMARK FOR t AS t - INTERVAL '1' SECOND) "
            "WITH (connector = 'generator')",
            "DROP STREAM adbc_test",
        )
    else:
        create, drop = f"CREATE VIEW adbc_test AS SELECT * FROM {table}", "DROP VIEW adbc_test"
    cursor.execute(create)
    cursor.execute(drop)
    with pytest.raises(adbc_driver_manager.Error):
        cursor.execute(drop)
    cursor.executescript(create) if hasattr(cursor, "executescript") else cursor.execute(create)
    cursor.execute(drop)
