"""Engines that know nothing of Thalweg read a table while it is written, compacted and vacuumed: each count is right.

    lake_while.py LAKE SECONDS [--spark JARS]

`archive` is a copy of a stream, with where each row came from: whatever version somebody reads, it has of each partition all
offsets from the first on, each once. Spark needs PySpark 4, and a folder with its jars of Delta (`delta-spark`,
`delta-storage`, `antlr4-runtime`).
"""

import argparse
import multiprocessing
import pathlib
import sys
import time

import duckdb
import polars
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

# How much longer the last read of the slowest may take.
SLOW_SECONDS = 300

# Of each partition its rows, its offsets, and the one behind its last.
BY_PARTITION = "SELECT count(*), count(DISTINCT source_offset), max(source_offset) + 1 FROM archive GROUP BY source_partition"


def delta_rs(path):
    archive = DeltaTable(path).to_pyarrow_table(columns=["source_partition", "source_offset"]).to_pydict()
    offsets = {}
    for partition, offset in zip(archive["source_partition"], archive["source_offset"]):
        offsets.setdefault(partition, []).append(offset)
    return [(len(those), len(set(those)), max(those) + 1) for those in offsets.values()]


def by_polars(path):
    offset = polars.col("source_offset")
    by_partition = polars.scan_delta(path).group_by("source_partition").agg(
        rows=polars.len(), distinct=offset.n_unique(), end=offset.max() + 1
    )
    return by_partition.select("rows", "distinct", "end").collect().rows()


def by_duckdb(path):
    archive = DeltaTable(path).to_pyarrow_dataset()  # noqa: F841, found by its name
    return duckdb.sql(BY_PARTITION).fetchall()


def spark(jars):
    from pyspark.sql import SparkSession

    jars = [str(jar) for jar in pathlib.Path(jars).glob("*.jar") if not jar.name.startswith("scala-library")]
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.jars", ",".join(jars))
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")

    def read(path):
        session.read.format("delta").load(path).createOrReplaceTempView("archive")
        return session.sql(BY_PARTITION).collect()

    return read


READERS = {"delta-rs": lambda _: delta_rs, "Polars": lambda _: by_polars, "DuckDB": lambda _: by_duckdb, "Spark": spark}


def keep_reading(name, jars, path, until, found):
    """Puts how often it has read, how many rows there were in the end, and what went wrong."""
    reads, most, wrong = 0, 0, []
    try:
        read = READERS[name](jars)
        while time.time() < until or reads < 2:
            partitions = read(path)
            reads += 1
            rows = sum(partition[0] for partition in partitions)
            if not all(rows == distinct == end for rows, distinct, end in partitions):
                wrong.append(f"no prefix of each partition: {partitions}")
            if rows < most:
                wrong.append(f"{rows} rows after {most}")
            most = max(most, rows)
    except Exception as error:  # noqa: BLE001, whatever a reader says is a finding
        wrong.append(f"{type(error).__name__}: {error}")
    found.put((name, reads, most, wrong))


def optimize(path):
    """Somebody else's commit may come in between, with which it does not go together."""
    for _ in range(20):
        try:
            made = DeltaTable(path).optimize.compact()
            if made["numFilesRemoved"] > 1:
                return print(f"{made['numFilesAdded']} files of {made['numFilesRemoved']}")
        except DeltaError as error:
            print(error, file=sys.stderr)
        time.sleep(0.3)
    sys.exit("the table could not be optimized")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("lake")
    arguments.add_argument("seconds", type=float)
    arguments.add_argument("--spark", metavar="JARS")
    arguments.add_argument("--optimize", action="store_true", help="only makes few files of many, as another engine does")
    arguments = arguments.parse_args()
    if arguments.optimize:
        return optimize(f"{arguments.lake}/tables/archive")
    names = [name for name in READERS if name != "Spark" or arguments.spark]
    processes = multiprocessing.get_context("spawn")
    found = processes.Queue()
    until = time.time() + arguments.seconds
    for name in names:
        given = (name, arguments.spark, f"{arguments.lake}/tables/archive", until, found)
        processes.Process(target=keep_reading, args=given, daemon=True).start()
    failed = False
    for _ in names:
        name, reads, most, wrong = found.get(timeout=arguments.seconds + SLOW_SECONDS)
        print(f"{name}: {reads} reads, {most} rows in the last, {len(wrong)} wrong", *wrong[:5], sep="\n  ")
        failed |= bool(wrong) or most == 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
