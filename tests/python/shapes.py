"""Random views of every shape on real Kafka, beside one plain DuckDB query each over all the events.

    shapes.py --binary THALWEG --kafka HOST:PORT [--seed N] [--rounds N] [--views N] [--kills]

A round has events and views of its own, all by its seed: two topics, written in bursts while the server runs; with --kills
it is killed between two bursts and started again. When all windows but the last have closed, the rows of each view, closed
and open, must be DuckDB's, as a multiset. What differs is written to shapes-SEED.json, with the events, so that it can become a script.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

import adbc_driver_flightsql.dbapi as flightsql
import duckdb
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

SECOND = 1_000_000
HOUR = 3600 * SECOND
BEGIN = 1_748_779_200 * SECOND  # 2025-06-01T12:00:00Z
DELAY = 20  # seconds that events may be out of order, and are
PARTITIONS = 3


def interval(seconds):
    return f"INTERVAL '{seconds} seconds'"


class Windows:
    """A window function: as we call it, and as DuckDB computes (start, end) of all windows of a row."""

    def __init__(self, draw, kinds=("tumble", "tumble", "hop", "cumulate")):
        self.kind = draw.choice(kinds)
        self.offset = draw.choice([0, 0, 0, 7])
        if self.kind == "tumble":
            self.size = self.slide = draw.choice([10, 30, 60])
        elif self.kind == "hop":
            self.slide = draw.choice([10, 15, 20])
            self.size = draw.choice([20, 30, 45, 60])
            self.size = max(self.size, self.slide)
        else:
            self.slide = draw.choice([10, 15])
            self.size = self.slide * draw.choice([2, 4])

    def ours(self, table):
        offset = f", {interval(self.offset)}" if self.offset else ""
        lengths = interval(self.size) if self.kind == "tumble" else f"{interval(self.slide)}, {interval(self.size)}"
        return f"{self.kind.upper()}({table}, ts, {lengths}{offset})"

    def theirs(self, table):
        size, slide, offset = (value * SECOND for value in (self.size, self.slide, self.offset))
        floor = lambda length: f"((ts - {offset}) // {length}) * {length} + {offset}"
        if self.kind == "cumulate":
            steps = self.size // self.slide
            return (
                f"(SELECT * FROM (SELECT t.*, {floor(size)} AS window_start, {floor(size)} + k.k * {slide} AS window_end "
                f"FROM {table} AS t, range(1, {steps + 1}) AS k(k)) WHERE ts < window_end)"
            )
        windows = -(-self.size // self.slide)
        return (
            f"(SELECT * FROM (SELECT t.*, {floor(slide)} - k.k * {slide} AS window_start, "
            f"{floor(slide)} - k.k * {slide} + {size} AS window_end "
            f"FROM {table} AS t, range(0, {windows}) AS k(k)) WHERE ts < window_end)"
        )


AGGREGATES = [
    "count(*)",
    "sum(ms)",
    "min(ms)",
    "max(ms)",
    "count(DISTINCT page)",
    "sum(DISTINCT ms)",
    "count(*) FILTER (WHERE ms > 40)",
    "max(page)",
    "count(DISTINCT who) FILTER (WHERE page <> '/b')",
]
CONDITIONS = ["", "", " WHERE ms > 20", " WHERE page <> '/c'", " WHERE who <> 'ann' AND ms < 90", " WHERE ms IS NOT NULL"]


def aggregates(draw):
    return [f"{each} AS a{n}" for n, each in enumerate(draw.sample(AGGREGATES, draw.randint(1, 3)))]


def listed(*columns):
    return ", ".join(part for part in columns if part)


# Each shape gives the views to create (the last one is compared), and the query for DuckDB. In both, `ts` and the bounds are
# columns; ours are made numbers when they are read.


def grouped(draw, name, table="views"):
    windows, where = Windows(draw), draw.choice(CONDITIONS)
    keys, calls = draw.sample(["who", "page"], draw.randint(0, 2)), aggregates(draw)
    having = draw.choice(["", "", " HAVING count(*) > 1"])
    group = listed("window_start", "window_end", *keys)
    text = "SELECT {group}, {calls} FROM {rows}{where} GROUP BY {group}{having}"
    make = lambda rows: text.format(group=group, calls=listed(*calls), rows=rows, where=where, having=having)
    return [(name, make(windows.ours(table)))], make(windows.theirs(table))


def rolled_up(draw, name):
    windows = Windows(draw)
    make = lambda rows: (
        f"SELECT window_start, window_end, who, page, count(*) AS n, sum(ms) AS ms FROM {rows} "
        "GROUP BY window_start, window_end, ROLLUP (who, page)"
    )
    return [(name, make(windows.ours("views")))], make(windows.theirs("views"))


def sessions(draw, name):
    gap, where, keys = draw.choice([5, 15, 40]), draw.choice(CONDITIONS), draw.choice([["who"], ["who", "page"], []])
    calls = aggregates(draw)
    partition = f" PARTITION BY {listed(*keys)}" if len(keys) == 1 else f" PARTITION BY ({listed(*keys)})" if keys else ""
    group = listed("window_start", "window_end", *keys)
    # A row of the stream that the condition leaves out is of no session.
    table = f"(SELECT * FROM views{where})" if where else "views"
    ours = f"SELECT {group}, {listed(*calls)} FROM SESSION({table if not where else 'kept'}{partition}, ts, {interval(gap)}) GROUP BY {group}"
    if where:
        ours = f"WITH kept AS (SELECT * FROM views{where}) {ours}"
    by = listed(*keys) or "1"
    theirs = f"""
        WITH marked AS (
          SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY {by} ORDER BY ts) < {gap * SECOND} THEN 0 ELSE 1 END AS begins
          FROM {table} AS t),
        numbered AS (SELECT *, sum(begins) OVER (PARTITION BY {by} ORDER BY ts RANGE UNBOUNDED PRECEDING) AS number FROM marked)
        SELECT {listed('min(ts) AS window_start', f'max(ts) + {gap * SECOND} AS window_end', *keys, *calls)}
        FROM numbered GROUP BY {listed('number', *keys)}"""
    return [(name, ours)], theirs


def joined(draw, name):
    windows, how = Windows(draw), draw.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
    bound = draw.choice(["window_start", "window_end"]) if windows.kind != "cumulate" else "window_end"
    make = lambda views, buys: (
        f"SELECT coalesce(v.{bound}, b.{bound}) AS bound, coalesce(v.who, b.who) AS who, n, cents "
        f"FROM (SELECT {bound}, who, count(*) AS n FROM {views} GROUP BY {bound}, who) AS v "
        f"{how} (SELECT {bound}, who, sum(cents) AS cents FROM {buys} GROUP BY {bound}, who) AS b "
        f"ON v.{bound} = b.{bound} AND v.who = b.who"
    )
    return [(name, make(windows.ours("views"), windows.ours("buys")))], make(windows.theirs("views"), windows.theirs("buys"))


def met(draw, name):
    windows, how = Windows(draw, ("tumble", "hop")), draw.choice(["JOIN", "LEFT JOIN"])
    then = draw.choice(["", " AND b.ts > v.ts"])
    where = draw.choice(["", " WHERE v.ms > 20"])
    make = lambda views, buys: (
        f"SELECT v.window_start, v.who, page, count(*) AS n, sum(cents) AS cents FROM {views} AS v {how} {buys} AS b "
        f"ON v.window_start = b.window_start AND v.who = b.who{then}{where} GROUP BY v.window_start, v.who, page"
    )
    return [(name, make(windows.ours("views"), windows.ours("buys")))], make(windows.theirs("views"), windows.theirs("buys"))


def apart(draw, name):
    least, most = draw.choice([(0, 30), (-20, 0), (5, 25), (-60, -10), (-10, 10)])
    how = draw.choice(["JOIN", "LEFT JOIN"])
    ours_ts = lambda seconds: f"v.ts {'+' if seconds >= 0 else '-'} {interval(abs(seconds))}"
    theirs_ts = lambda seconds: f"v.ts + {seconds * SECOND}"
    make = lambda moved: (
        f"SELECT v.ts, v.who, v.page, v.ms, b.ts AS b_ts, b.cents FROM views AS v {how} buys AS b "
        f"ON v.who = b.who AND b.ts >= {moved(least)} AND b.ts <= {moved(most)}"
    )
    return [(name, make(ours_ts))], make(theirs_ts)


def sought(draw, name):
    word, seconds = draw.choice(["EXISTS", "NOT EXISTS"]), draw.choice([10, 45])
    make = lambda by: (
        f"SELECT v.ts, v.who, v.page FROM views AS v WHERE {word} "
        f"(SELECT 1 FROM buys AS b WHERE b.who = v.who AND b.ts BETWEEN v.ts AND v.ts + {by})"
    )
    return [(name, make(interval(seconds)))], make(seconds * SECOND)


def before(draw, name):
    windows, periods = Windows(draw, ("tumble",)), draw.choice([1, 1, 3])
    how, within = draw.choice(["JOIN", "LEFT JOIN"]), draw.random() < 0.5
    back = windows.size * periods
    minutes = lambda rows: f"SELECT window_start, who, count(*) AS n FROM {rows} GROUP BY window_start, who"
    compared = lambda source, by: (
        f"SELECT cur.window_start, cur.who, cur.n, prev.n AS n_before FROM {source} AS cur {how} {source} AS prev "
        f"ON cur.who = prev.who AND prev.window_start = cur.window_start - {by}"
    )
    theirs = f"WITH minutes AS ({minutes(windows.theirs('views'))}) {compared('minutes', back * SECOND)}"
    ours = minutes(windows.ours("views"))
    if within:
        return [(name, f"WITH minutes AS ({ours}) {compared('minutes', interval(back))}")], theirs
    return [(f"{name}_of", ours), (name, compared(f"{name}_of", interval(back)))], theirs


def ranked(draw, name):
    windows = Windows(draw)
    bound = "window_end"
    first = draw.choice(["", " WHERE place <= 2"])
    make = lambda rows: (
        f"SELECT * FROM (SELECT {bound}, who, page, ms, id, "
        f"row_number() OVER (PARTITION BY {bound}, who ORDER BY ms DESC NULLS LAST, id) AS place, "
        f"sum(ms) OVER (PARTITION BY {bound} ORDER BY id) AS so_far FROM {rows}){first}"
    )
    return [(name, make(windows.ours("views")))], make(windows.theirs("views"))


def moving(draw, name):
    FRAMES = [(30, 0), (60, 0), (20, 10), (0, 15), (60, -10), (-5, 40), (300, -60)]

    def bound(of, seconds, before, after):
        return "CURRENT ROW" if seconds == 0 else f"{of(abs(seconds))} {before if seconds > 0 else after}"

    def frame():
        (back, ahead), by = draw.choice(FRAMES), draw.choice(["PARTITION BY who ", "PARTITION BY page ", ""])
        return lambda of: (
            f"OVER ({by}ORDER BY ts RANGE BETWEEN {bound(of, back, 'PRECEDING', 'FOLLOWING')} AND {bound(of, ahead, 'FOLLOWING', 'PRECEDING')})"
        )

    over = frame()
    other = frame() if draw.random() < 0.5 else over
    make = lambda of: (
        f"SELECT id, ts, who, sum(ms) {over(of)} AS ms, count(*) {over(of)} AS n, max(page) {other(of)} AS page FROM views"
    )
    return [(name, make(interval))], make(lambda seconds: seconds * SECOND)


def chained(draw, name):
    small, times = Windows(draw, ("tumble", "hop")), draw.choice([2, 3])
    small.offset = 0
    large = Windows(draw, ("tumble",))
    large.kind, large.size, large.slide, large.offset = "tumble", small.size * times, small.size * times, 0
    inner = lambda rows: f"SELECT window_start, window_end, who, count(*) AS n, sum(ms) AS ms FROM {rows} GROUP BY window_start, window_end, who"
    outer = lambda rows: f"SELECT window_start, who, sum(n) AS n, max(ms) AS ms, count(*) AS rows FROM {rows} GROUP BY window_start, who"
    ours = f"TUMBLE({name}_of, window_start, {interval(large.size)})"
    theirs = (
        f"(SELECT (window_start // {large.size * SECOND}) * {large.size * SECOND} AS window_start, who, n, ms "
        f"FROM ({inner(small.theirs('views'))}))"
    )
    return [(f"{name}_of", inner(small.ours("views"))), (name, outer(ours))], outer(theirs)


def united(draw, name):
    windows = Windows(draw, ("tumble", "hop"))
    rows = "SELECT ts, who, ms AS x FROM views UNION ALL SELECT ts, who, cents AS x FROM buys"
    make = lambda of: f"SELECT window_start, who, count(*) AS n, sum(x) AS x FROM {of} GROUP BY window_start, who"
    ours = f"WITH everything AS ({rows}) {make(windows.ours('everything'))}"
    return [(name, ours)], f"WITH everything AS ({rows}) {make(windows.theirs('everything'))}"


def among(draw, name):
    windows, word = Windows(draw, ("tumble", "hop")), draw.choice(["EXISTS", "NOT EXISTS"])
    make = lambda views, buys: (
        f"SELECT v.window_start, v.who, count(*) AS n FROM {views} AS v WHERE {word} "
        f"(SELECT 1 FROM {buys} AS b WHERE b.window_start = v.window_start AND b.who = v.who) GROUP BY v.window_start, v.who"
    )
    return [(name, make(windows.ours("views"), windows.ours("buys")))], make(windows.theirs("views"), windows.theirs("buys"))


def ever(draw, name):
    text = draw.choice([
        f"SELECT who, page, {listed(*aggregates(draw))} FROM views{draw.choice(CONDITIONS)} GROUP BY who, page",
        f"SELECT DISTINCT who, page FROM views{draw.choice(CONDITIONS)}",
        "SELECT count(*) AS n, sum(cents) AS cents FROM buys",
    ])
    return [(name, text)], text


def looked_up(draw, name):
    windows, how = Windows(draw), draw.choice(["JOIN", "LEFT JOIN"])
    then = draw.choice(["", " AND p.weight > 3", " AND v.ms > p.weight"])
    make = lambda rows: (
        f"SELECT window_start, window_end, p.kind, count(*) AS n, sum(ms * p.weight) AS ms FROM {rows} AS v {how} pages AS p "
        f"ON p.page = v.page{then} GROUP BY window_start, window_end, p.kind"
    )
    return [(name, make(windows.ours("views")))], make(windows.theirs("views"))


def looked_up_above(draw, name):
    windows, how = Windows(draw), draw.choice(["JOIN", "LEFT JOIN"])
    table, where = draw.choice(["people", "(SELECT who, upper(city) AS city FROM people WHERE city <> 'Oslo')"]), draw.choice(CONDITIONS)
    make = lambda rows: (
        f"SELECT w.window_end, w.who, n, c.city FROM (SELECT window_end, who, count(*) AS n FROM {rows}{where} GROUP BY window_end, who) AS w "
        f"{how} {table} AS c ON w.who = c.who"
    )
    return [(name, make(windows.ours("views")))], make(windows.theirs("views"))


def looked_up_around(draw, name):
    seconds, word = draw.choice([10, 45]), draw.choice(["EXISTS", "NOT EXISTS"])
    make = lambda by: (
        f"SELECT v.ts, v.who, p.kind, b.cents, c.city FROM views AS v JOIN pages AS p ON v.page = p.page "
        f"LEFT JOIN buys AS b ON b.who = v.who AND b.ts >= v.ts AND b.ts <= v.ts + {by} LEFT JOIN people AS c ON c.who = b.who "
        f"WHERE {word} (SELECT 1 FROM people AS e WHERE e.who = v.who AND e.city <> 'Rome')"
    )
    return [(name, make(interval(seconds)))], make(seconds * SECOND)


def enriched(draw, name):
    how = draw.choice(["JOIN", "LEFT JOIN"])
    text = f"SELECT id, ts, v.who, p.kind, c.city FROM views AS v {how} pages AS p ON p.page = v.page {how} people AS c ON c.who = v.who"
    return [(name, text)], text


def copied(draw, name):
    text = f"SELECT id, ts, who, ms * 2 AS twice FROM views{draw.choice(CONDITIONS)}"
    return [(name, text)], text


def looked_back_on(draw, name):
    """What reads a view that looks back, in windows of any length beside its slices, or looking itself."""
    back, size = draw.choice([30, 600, 3600]), draw.choice([1, 7, 30, 60, 420])
    seen = lambda by: (
        f"SELECT id, ts, who, page, ms, count(*) OVER (PARTITION BY who ORDER BY ts RANGE BETWEEN {by} PRECEDING AND CURRENT ROW) AS seen FROM views"
    )
    windows = Windows(draw, ("tumble",))
    windows.size = windows.slide = size
    of = f"{name}_of"
    ways = {
        "windowed": lambda rows, by: f"SELECT window_start, who, sum(seen) AS seen, count(*) AS n FROM {rows} GROUP BY window_start, who",
        "moving": lambda rows, by: f"SELECT id, ts, max(seen) OVER (PARTITION BY page ORDER BY ts RANGE BETWEEN {by(15)} PRECEDING AND CURRENT ROW) AS most FROM {rows}",
        "apart": lambda rows, by: f"SELECT a.id, b.id AS other, b.seen FROM {rows} AS a JOIN {rows} AS b ON a.who = b.who AND b.ts BETWEEN a.ts AND a.ts + {by(10)}",
    }
    way = draw.choice(list(ways))
    micros = lambda seconds: seconds * SECOND
    ours = windows.ours(of) if way == "windowed" else of
    theirs = windows.theirs("them") if way == "windowed" else "them"
    return [(of, seen(interval(back))), (name, ways[way](ours, interval))], f"WITH them AS ({seen(back * SECOND)}) {ways[way](theirs, micros)}"


def merged(draw, name):
    """Rows of two views, in their own windows or in longer ones."""
    windows = Windows(draw, ("tumble",))
    windows.offset = 0
    parts = [
        lambda rows: f"SELECT window_start, who, count(*) AS n FROM {rows('views')} GROUP BY window_start, who",
        lambda rows: f"SELECT window_start, who, sum(cents) AS n FROM {rows('buys')} GROUP BY window_start, who",
    ]
    both = lambda one, other: f"SELECT window_start, who, n, 'view' AS what FROM {one} UNION ALL SELECT window_start, who, n, 'buy' FROM {other}"
    views = [(f"{name}_{part}", text(windows.ours)) for part, text in zip("ab", parts)]
    a, b = (f"({text(windows.theirs)})" for text in parts)
    if draw.random() < 0.5:
        whole = lambda rows: f"SELECT window_start, sum(n) AS n, count(*) AS parts, count(DISTINCT what) AS kinds FROM ({rows}) AS both_of GROUP BY window_start"
        return [*views, (name, whole(both(f"{name}_a", f"{name}_b")))], whole(both(a, b))
    longer = windows.size * 3
    whole = lambda rows: f"SELECT window_start, who, sum(n) AS n, count(*) AS parts FROM {rows} GROUP BY window_start, who"
    ours = f"WITH both_of AS ({both(f'{name}_a', f'{name}_b')}) {whole(f'TUMBLE(both_of, window_start, {interval(longer)})')}"
    theirs = f"(SELECT window_start // {longer * SECOND} * {longer * SECOND} AS window_start, who, n FROM ({both(a, b)}))"
    return [*views, (name, ours)], whole(theirs)


def firsts(draw, name):
    windows, where = Windows(draw), draw.choice(CONDITIONS)
    last = draw.choice(["", " DESC"])
    make = lambda rows: (
        f"SELECT f.window_end, f.page, count(*) AS n, sum(f.ms) AS ms FROM (SELECT DISTINCT ON (window_end, who) window_end, who, page, ms "
        f"FROM {rows}{where} ORDER BY window_end, who, ts{last}, id) AS f GROUP BY f.window_end, f.page"
    )
    return [(name, make(windows.ours("views")))], make(windows.theirs("views"))


def anywhere(draw, name):
    """What any of three has."""
    windows = Windows(draw, ("tumble", "hop"))
    each = lambda rows, where: f"(SELECT window_start, who, count(*) AS n FROM {rows}{where} GROUP BY window_start, who)"
    make = lambda rows: (
        f"SELECT coalesce(a.window_start, b.window_start, c.window_start) AS bound, coalesce(a.who, b.who, c.who) AS who, a.n AS a, b.n AS b, c.n AS c "
        f"FROM {each(rows('views'), ' WHERE ms > 60')} AS a FULL JOIN {each(rows('buys'), '')} AS b ON a.window_start = b.window_start AND a.who = b.who "
        f"FULL JOIN {each(rows('views'), ' WHERE ms < 30')} AS c ON coalesce(a.window_start, b.window_start) = c.window_start AND coalesce(a.who, b.who) = c.who"
    )
    return [(name, make(windows.ours))], make(windows.theirs)


SHAPES = [grouped, grouped, rolled_up, sessions, sessions, joined, met, apart, apart, sought, before, before, ranked,
          moving, moving, chained, united, among, ever, copied, looked_up, looked_up, looked_up_above, looked_up_around,
          enriched, looked_back_on, looked_back_on, merged, merged, firsts, anywhere]


def events(draw, count):
    """Both topics' records in the order in which they are sent, and as DuckDB has them."""
    sent, now = [], BEGIN
    for number in range(count):
        now += draw.choice([0, 1, 1, 2, 3, 3, 9]) * SECOND // 2 + draw.choice([0, 0, 1, 999_999])
        ts = max(BEGIN, now - draw.randint(0, DELAY * SECOND - 1)) if draw.random() < 0.3 else now
        who = draw.choice(["ann", "bob", "cleo", "dan", None])
        of_views = {"id": number, "page": draw.choice(["/a", "/b", "/c"]), "ms": draw.choice([None, *range(0, 100, 7)])}
        of_buys = {"cents": draw.choice([None, *range(-50, 500, 13)])}
        topic, more = draw.choice([("views", of_views), ("views", of_views), ("buys", of_buys)])
        sent.append((topic, draw.randrange(PARTITIONS), {"ts": ts, "who": who, **more}))
    # One in each partition, so long after that all before it closes; what they are of themselves stays open.
    last = {"views": {"id": count, "page": "/z", "ms": 1}, "buys": {"cents": 1}}
    for topic, partition in ((topic, partition) for topic in last for partition in range(PARTITIONS)):
        sent.append((topic, partition, {"ts": now + 2 * HOUR + partition, "who": "zz", **last[topic]}))
    return sent


def tables(draw):
    """What is looked up: pages of a file, people of a compacted topic, in which some are replaced and some deleted."""
    pages = [(page, draw.choice(["shop", "blog", None]), draw.randrange(9)) for page in ("/a", "/b", "/c", "/d") if draw.random() < 0.8]
    changes = [(who, draw.choice(["Ulm", "Oslo", "Rome", None])) for who in draw.choices(["ann", "bob", "cleo", "dan", "eve"], k=9)]
    return pages, changes


def people(changes):
    rows = {who: city for who, city in changes}
    return [(who, city) for who, city in rows.items() if city is not None]


class Server:
    def __init__(self, binary, folder, statements):
        self.binary, self.folder, self.starts = binary, folder, 0
        self.sql = os.path.join(folder, "views.sql")
        with open(self.sql, "w") as file:
            file.write(statements)
        self.start()

    def start(self):
        out = open(os.path.join(self.folder, "out"), "w")
        self.log = open(os.path.join(self.folder, "err"), "a")
        # Every second time all that is open lies on disk.
        spilled = ["--spill-above", "0"] if self.starts % 2 == 0 else []
        self.starts += 1
        self.process = subprocess.Popen(
            [self.binary, "serve", self.sql, "--data", os.path.join(self.folder, "data"), "--flight", "127.0.0.1:0",
             "--epoch", "150ms", "--roll", "1s", *spilled], stdout=out, stderr=self.log)
        until = time.time() + 120
        while time.time() < until and self.process.poll() is None:
            with open(out.name) as file:
                found = [line.split()[-1] for line in file if line.startswith("Flight SQL listens on ")]
            if found:
                self.connection = flightsql.connect("grpc://" + found[0], autocommit=True)
                return
            time.sleep(0.05)
        raise SystemExit("the server did not start:\n" + open(self.log.name).read()[-4000:])

    def kill(self):
        self.connection.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()


def moment(micros):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // SECOND)) + f".{micros % SECOND:06d}Z"


def plain(value):
    """What both engines' values are compared as."""
    if value is None or isinstance(value, (int, str)):
        return value
    return int(value)


def run_round(options, seed):
    draw = random.Random(seed)
    cases = []
    for number in range(options.views):
        shape = draw.choice(SHAPES)
        views, theirs = shape(draw, f"v{number}")
        cases.append({"shape": shape.__name__, "views": views, "duckdb": theirs})
    sent = events(draw, draw.choice([60, 200, 400]))
    pages, changes = tables(draw)
    topics = {topic: f"{topic}-{seed}-{os.getpid()}" for topic in ("views", "buys", "people")}
    admin = AdminClient({"bootstrap.servers": options.kafka})
    compacted = {"cleanup.policy": "compact"}
    made = admin.create_topics(
        [NewTopic(name, PARTITIONS, 1, config=compacted if topic == "people" else {}) for topic, name in topics.items()])
    for future in made.values():
        future.result()
    producer = Producer({"bootstrap.servers": options.kafka})
    for who, city in changes:
        producer.produce(topics["people"], json.dumps({"who": who, "city": city}) if city else None, key=who)
    producer.flush(30)
    columns = {"views": "id BIGINT, ts TIMESTAMP, who STRING, page STRING, ms BIGINT", "buys": "ts TIMESTAMP, who STRING, cents BIGINT"}
    statements = [
        f"CREATE STREAM {topic} ({columns[topic]}, WATERMARK FOR ts AS ts - INTERVAL '{DELAY}' SECOND) WITH "
        f"(connector = 'kafka', brokers = '{options.kafka}', topic = '{topics[topic]}', format = 'json', idle = '1min')"
        for topic in columns
    ]
    statements.append(f"CREATE TABLE people (who STRING PRIMARY KEY, city STRING) WITH (connector = 'kafka', brokers = '{options.kafka}', topic = '{topics['people']}')")
    with tempfile.TemporaryDirectory(prefix="shapes-") as folder:
        with open(os.path.join(folder, "pages.csv"), "w") as file:
            file.writelines(f"{page},{kind or ''},{weight}\n" for page, kind, weight in [("page", "kind", "weight"), *pages])
        statements.append(f"CREATE TABLE pages (page STRING PRIMARY KEY, kind STRING, weight BIGINT) WITH (path = '{folder}/pages.csv')")
        statements += [f"CREATE MATERIALIZED VIEW {name} AS {text}" for case in cases for name, text in case["views"]]
        server = Server(options.binary, folder, ";\n".join(statements) + ";\n")
        try:
            write(options, draw, server, sent, topics)
            settle(server, sent)
            return compare(server, cases, sent, (pages, people(changes)), seed)
        finally:
            server.kill()
            admin.delete_topics(list(topics.values()))


def write(options, draw, server, sent, topics):
    producer = Producer({"bootstrap.servers": options.kafka, "linger.ms": 2})
    bursts = draw.randint(1, 4)
    for burst in range(bursts):
        for topic, partition, row in sent[burst * len(sent) // bursts:(burst + 1) * len(sent) // bursts]:
            value = json.dumps({**row, "ts": moment(row["ts"])})
            producer.produce(topics[topic], value, partition=partition)
        producer.flush(30)
        time.sleep(draw.choice([0, 0.1, 0.4]))
        if options.kills and draw.random() < 0.5:
            server.kill()
            server.start()


def settle(server, sent):
    """Until all is read, and all has closed that came before the last records."""
    until = time.time() + 60
    closed = max(row["ts"] for _, _, row in sent) - HOUR
    behind = (
        "SELECT count(*) FROM system.views WHERE closed_through IS NULL AND open_windows > 0 "
        f"OR closed_through < to_timestamp_micros({closed})"
    )
    while time.time() < until:
        [(read,)] = server.ask("SELECT coalesce(sum(records), 0) FROM system.streams")
        if read == len(sent) and server.ask(behind) == [(0,)]:
            return
        time.sleep(0.1)
    waiting = server.ask("SELECT view, closed_through, waits_for FROM system.views")
    raise SystemExit(f"windows stay open: read {read} of {len(sent)}, {waiting}")


def compare(server, cases, sent, looked_up, seed):
    duck = duckdb.connect()
    for topic, columns in (("views", ["id", "ts", "who", "page", "ms"]), ("buys", ["ts", "who", "cents"])):
        kinds = ", ".join(f"{column} {'VARCHAR' if column in ('who', 'page') else 'BIGINT'}" for column in columns)
        duck.execute(f"CREATE TABLE {topic} ({kinds})")
        rows = [[row[column] for column in columns] for name, _, row in sent if name == topic]
        if rows:
            duck.executemany(f"INSERT INTO {topic} VALUES ({', '.join('?' * len(columns))})", rows)
    for table, rows in zip(("pages (page VARCHAR, kind VARCHAR, weight BIGINT)", "people (who VARCHAR, city VARCHAR)"), looked_up):
        duck.execute(f"CREATE TABLE {table}")
        if rows:
            duck.executemany(f"INSERT INTO {table.split()[0]} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    late, refused = server.ask("SELECT sum(late_rows), sum(failed_rows) FROM system.views")[0]
    wrong = [f"{late} rows are late and {refused} failed, and none should"] if late or refused else []
    rows = 0
    for case in cases:
        name = case["views"][-1][0]
        moments = server.ask(f"SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{name}' ORDER BY ordinal_position")
        columns = [f"CAST({column} AS BIGINT)" if kind.startswith("Timestamp") else column for column, kind in moments]
        ours = Counter(tuple(map(plain, row)) for row in server.ask(f"SELECT {', '.join(columns)} FROM {name}"))
        theirs = Counter(tuple(map(plain, row)) for row in duck.execute(case["duckdb"]).fetchall())
        rows += theirs.total()
        if ours != theirs:
            wrong.append({**case, "only ours": sorted(map(str, (ours - theirs).elements()))[:10],
                          "only theirs": sorted(map(str, (theirs - ours).elements()))[:10]})
    if wrong:
        with open(f"shapes-{seed}.json", "w") as file:
            json.dump({"seed": seed, "wrong": wrong, "events": sent}, file, indent=1)
    return len(cases), rows, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--kills", action="store_true")
    options = parser.parse_args()
    views = rows = failed = 0
    for seed in range(options.seed, options.seed + options.rounds):
        count, compared, wrong = run_round(options, seed)
        views, rows, failed = views + count, rows + compared, failed + len(wrong)
        print(f"seed {seed}: {count} views, {compared} rows, {len(wrong)} wrong", flush=True)
        for each in wrong:
            print(json.dumps(each, indent=1), flush=True)
    print(f"{views} views beside DuckDB, {rows} rows, {failed} wrong")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
