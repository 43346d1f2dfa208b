"""Queries that mean the same everywhere, beside DuckDB: NULLs, joins, sets, windows, grouping, moments, casts."""

import pytest
from functions import Both, alike, plain

QUERIES = r"""
SELECT x FROM (VALUES (1),(1),(2)) a(x) INTERSECT SELECT y FROM (VALUES (1)) b(y) ORDER BY 1
SELECT x FROM (VALUES (1),(1),(NULL),(NULL)) a(x) EXCEPT SELECT y FROM (VALUES (1)) b(y) ORDER BY 1
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 20) SELECT sum(n) FROM t
SELECT count(DISTINCT (a, b)) FROM (VALUES (1, 1), (1, 2), (1, 2)) t(a, b)
SELECT count(DISTINCT a) FROM (VALUES (1.0), (NULL), (1.0)) t(a)
SELECT a, count(*) FROM (VALUES ('NaN'::DOUBLE), ('NaN'::DOUBLE), (0.0::DOUBLE), (-0.0::DOUBLE)) t(a) GROUP BY a ORDER BY a
SELECT x FROM (VALUES ('NaN'::DOUBLE), (1::DOUBLE), ('Infinity'::DOUBLE), (NULL)) t(x) ORDER BY x
SELECT 'NaN'::DOUBLE = 'NaN'::DOUBLE, 'NaN'::DOUBLE > 1, 0.0::DOUBLE = -0.0::DOUBLE
SELECT 1 WHERE NULL NOT IN (1, 2)
SELECT sum(x) OVER (ORDER BY x RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (VALUES (1), (2), (4)) t(x) ORDER BY 1
SELECT sum(x) OVER (ORDER BY x GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (VALUES (1), (1), (4)) t(x) ORDER BY 1
SELECT last_value(x) OVER (ORDER BY i) FROM (VALUES (1, 5), (2, 6)) t(i, x) ORDER BY 1
SELECT 1 = '1', '10' < '9'
SELECT CAST('1e3' AS DOUBLE), CAST(' 5 ' AS BIGINT)
SELECT CAST(true AS INT), CAST('t' AS BOOLEAN), CAST(0.5::DOUBLE AS BOOLEAN)
SELECT EXTRACT(epoch FROM INTERVAL '1 day 2 hours'), EXTRACT(hour FROM INTERVAL '26 hours'), EXTRACT(day FROM INTERVAL '26 hours')
SELECT x FROM (SELECT unnest([1, NULL, 3]) AS x) ORDER BY x
SELECT a, b, count(*) FROM (VALUES (1, 2), (1, 3)) t(a, b) GROUP BY GROUPING SETS ((a), (a), (b)) ORDER BY 1, 2
SELECT a, count(*) FROM (VALUES (1), (2)) t(a) GROUP BY ROLLUP (a) HAVING a IS NULL
SELECT max(x) FILTER (WHERE x < 2) FROM (VALUES (1), (2)) t(x)
SELECT DISTINCT ON (a) a, b FROM (VALUES (1, 2), (1, 3), (2, 9)) t(a, b) ORDER BY a, b DESC
SELECT x FROM (VALUES (3), (1), (2)) t(x) ORDER BY x LIMIT 1 OFFSET 1
SELECT count(*) FROM (SELECT 1 UNION SELECT 1 UNION ALL SELECT 1)
SELECT x, (SELECT count(*) FROM (VALUES (1), (1)) b(y) WHERE b.y = a.x) FROM (VALUES (1), (7)) a(x) ORDER BY 1
SELECT x FROM (VALUES (1), (7), (NULL)) a(x) WHERE EXISTS (SELECT 1 FROM (VALUES (1), (NULL)) b(y) WHERE b.y = a.x LIMIT 1)
SELECT x FROM (VALUES (1), (7), (NULL)) a(x) WHERE NOT EXISTS (SELECT y FROM (VALUES (1), (1), (7)) b(y) WHERE b.y = a.x GROUP BY y HAVING count(*) > 1) ORDER BY 1
SELECT x FROM (VALUES (1), (7), (NULL)) a(x) WHERE x IN (SELECT y FROM (VALUES (1), (NULL)) b(y) WHERE b.y <= a.x)
SELECT x FROM (VALUES (1), (7)) a(x) WHERE x NOT IN (SELECT y FROM (VALUES (1), (8)) b(y) WHERE b.y > a.x) ORDER BY 1
SELECT x FROM (VALUES (1), (7)) a(x) WHERE x > ALL (SELECT y FROM (VALUES (0), (6)) b(y) WHERE b.y < a.x) ORDER BY 1
SELECT x, (SELECT coalesce(sum(y), -1) + count(*) FROM (VALUES (1), (1)) b(y) WHERE b.y = a.x) FROM (VALUES (1), (7)) a(x) ORDER BY 1
SELECT x, n, m FROM (VALUES (1), (7)) a(x) LEFT JOIN LATERAL (SELECT count(*) AS n, max(y) AS m FROM (VALUES (1), (1)) b(y) WHERE b.y = a.x) l ON true ORDER BY 1
SELECT x, n FROM (VALUES (1), (7)) a(x), LATERAL (SELECT count(*) AS n FROM (VALUES (1), (1)) b(y) WHERE b.y = a.x) l WHERE n = 0
SELECT x, z FROM (VALUES (1), (7)) a(x) LEFT JOIN LATERAL (SELECT z FROM (VALUES (1, 2), (1, 3)) b(y, z) WHERE b.y = a.x) l ON z > 2 ORDER BY 1
SELECT x, z FROM (VALUES (1), (7)) a(x), LATERAL (SELECT DISTINCT z FROM (VALUES (1, 2), (1, 2)) b(y, z) WHERE b.y = a.x) l
SELECT x, z, n FROM (VALUES (1), (7)) a(x), LATERAL (SELECT z, count(*) AS n FROM (VALUES (1, 2), (1, 2)) b(y, z) WHERE b.y = a.x GROUP BY z) l
SELECT x FROM (VALUES (1), (NULL), (5)) v(x) WHERE (x, 2) < (5, 5) ORDER BY 1
SELECT x FROM (VALUES (1), (NULL), (9)) v(x) WHERE NOT ((x, 2) < (5, 5)) AND x IS NOT NULL ORDER BY 1
SELECT 5 = ANY(ARRAY[1, NULL]), 5 <> ANY(ARRAY[5, NULL]), 5 > ANY(ARRAY[9, NULL]), 5 <> ALL(ARRAY[1, NULL]), NOT (5 = ANY(ARRAY[1, NULL])), 5 = ANY(ARRAY[5, NULL])
SELECT CASE WHEN false THEN 1 / 0 ELSE 2 END
SELECT coalesce(1, 1 / 0)
SELECT sum(x) FROM (VALUES (CAST(0.1 AS DECIMAL(4,1))), (CAST(0.2 AS DECIMAL(4,1)))) t(x)
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM (VALUES (1), (2)) t(x)
SELECT median(x) FROM (VALUES (1), (2)) t(x)
SELECT string_agg(DISTINCT x, ',' ORDER BY x) FROM (VALUES ('b'), ('a'), ('b')) t(x)
SELECT array_agg(DISTINCT x ORDER BY x) FROM (VALUES (2), (1), (2)) t(x)
SELECT 'é' = 'é', upper('ı'), length('👨‍👩‍👧')
SELECT greatest(1, NULL, 3), least(NULL, 2)
SELECT concat('a', NULL), 'a' || NULL
SELECT regexp_replace('aaa', 'a', 'b'), regexp_replace('aaa', 'a', 'b', 'g')
SELECT date_trunc('week', DATE '2025-01-01'), date_part('week', DATE '2024-12-30'), date_part('dow', DATE '2025-01-05')
SELECT x IS NOT DISTINCT FROM NULL FROM (VALUES (1), (NULL)) t(x) ORDER BY 1
SELECT * FROM (VALUES (1, 'a')) t(a, b) WHERE (a, b) = (1, 'a')
SELECT * FROM (VALUES (1, 'a')) t(a, b) WHERE (a, b) IN ((1, 'a'), (2, 'b'))
SELECT x FROM (VALUES (1), (2), (3), (4)) t(x) WHERE x BETWEEN 3 AND 2 OR NOT x BETWEEN 2 AND 3 ORDER BY x
SELECT TIMESTAMP '2025-01-01 00:00:00' = DATE '2025-01-01', DATE '2025-01-02' > TIMESTAMP '2025-01-01 23:00:00'
SELECT k, sum(v) FROM (VALUES ('a', 1), ('b', 2)) t(k, v) GROUP BY 1 HAVING sum(v) > 1
SELECT ntile(2) OVER (ORDER BY x), percent_rank() OVER (ORDER BY x), cume_dist() OVER (ORDER BY x) FROM (VALUES (1), (2), (2)) t(x) ORDER BY 1, 2, 3
SELECT TIMESTAMPTZ '2025-06-01 12:00:00+02' = TIMESTAMPTZ '2025-06-01 10:00:00+00'
SELECT date_trunc('day', TIMESTAMPTZ '2025-06-01 23:30:00+00')
SELECT date_part('hour', TIMESTAMPTZ '2025-06-01 23:30:00+00'), date_part('epoch', TIMESTAMPTZ '2025-06-01 23:30:00.5+00')
SELECT TIMESTAMPTZ '2025-06-01 23:30:00+00' - INTERVAL '1 month'
SELECT CAST('2025-06-01 12:00:00' AS TIMESTAMP) < TIMESTAMPTZ '2025-06-01 12:00:01+00'
SELECT x BETWEEN TIMESTAMPTZ '2025-06-01 00:00:00+00' AND TIMESTAMPTZ '2025-06-02 00:00:00+00' FROM (VALUES (TIMESTAMPTZ '2025-06-01 12:00:00+00')) t(x)
SELECT min(x), max(x), count(*) FROM (VALUES (TIMESTAMPTZ '2025-06-01 12:00:00+02'), (TIMESTAMPTZ '2025-06-01 12:00:00+00')) t(x)
SELECT x, count(*) FROM (VALUES (TIMESTAMPTZ '2025-06-01 12:00:00+02'), (TIMESTAMPTZ '2025-06-01 10:00:00+00')) t(x) GROUP BY x
SELECT INTERVAL '1 day' = INTERVAL '24 hours', INTERVAL '1 month' > INTERVAL '29 days', INTERVAL '90 minutes' < INTERVAL '2 hours'
SELECT a.x, b.y FROM (VALUES (1), (NULL)) a(x) LEFT JOIN (VALUES (1), (NULL)) b(y) ON a.x = b.y ORDER BY 1
SELECT count(*) FROM (VALUES (1), (2)) a(x) LEFT JOIN (VALUES (1), (1)) b(y) ON a.x = b.y AND a.x > 1
SELECT count(*) FROM (VALUES (1), (2)) a(x) FULL JOIN (VALUES (1), (3)) b(y) ON a.x = b.y WHERE coalesce(a.x, b.y) > 1
SELECT x, row_number() OVER (PARTITION BY x % 2 ORDER BY x DESC) FROM (VALUES (1), (2), (3)) t(x) ORDER BY 1
SELECT x, sum(x) OVER (PARTITION BY x % 2 ORDER BY x ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING) FROM (VALUES (1), (2), (3), (5)) t(x) ORDER BY 1
SELECT x, avg(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM (VALUES (1), (2), (6)) t(x) ORDER BY 1
SELECT x, max(x) OVER (ORDER BY x DESC ROWS 1 PRECEDING) FROM (VALUES (1), (2), (6)) t(x) ORDER BY 1
SELECT count(*) OVER (), x FROM (VALUES (1), (2)) t(x) QUALIFY row_number() OVER (ORDER BY x) = 1
SELECT sum(x) FILTER (WHERE x > 1) OVER (ORDER BY x) FROM (VALUES (1), (2), (3)) t(x) ORDER BY 1
SELECT count(DISTINCT x) OVER () FROM (VALUES (1), (1), (3)) t(x)
SELECT lead(x, 1, 0) OVER (ORDER BY x) FROM (VALUES (1), (2)) t(x) ORDER BY 1
SELECT x FROM (VALUES (1), (2), (3)) t(x) ORDER BY x + 0 DESC LIMIT 2
SELECT x AS y, -x AS x FROM (VALUES (1), (2)) t(x) ORDER BY x
SELECT x % 2 AS g, array_agg(x ORDER BY x DESC) FROM (VALUES (1), (2), (3)) t(x) GROUP BY g ORDER BY g
SELECT x AS a, count(*) FROM (VALUES (1), (1), (2)) t(x) GROUP BY ALL ORDER BY 1
SELECT sum(x), grouping(x) FROM (VALUES (1), (1), (2)) t(x) GROUP BY CUBE (x) ORDER BY 1
SELECT * EXCLUDE (a) FROM (VALUES (1, 2)) t(a, b)
SELECT * REPLACE (a + 1 AS a) FROM (VALUES (1, 2)) t(a, b)
SELECT t.* FROM (VALUES (1, 2)) t(a, b)
SELECT 1 UNION SELECT 1.5 ORDER BY 1
SELECT 1 AS a, 2 AS b UNION ALL BY NAME SELECT 3 AS b, 4 AS a ORDER BY 1
SELECT nullif(1, 1), coalesce(NULL, 2), CASE 1 WHEN 1 THEN 'a' END
SELECT 1 IN (2, NULL), 1 IN (1, NULL), 1 NOT IN (2, NULL)
SELECT NULL = NULL, NULL <> 1, NOT NULL, NULL AND false, NULL OR true
SELECT sum(x) FROM (SELECT 1 AS x WHERE false), (SELECT 1)
SELECT count(*), sum(x) FROM (SELECT 1 AS x WHERE false)
SELECT max(x) FROM (VALUES ('a'), ('B'), ('ä')) t(x)
SELECT x FROM (VALUES ('a'), ('B'), ('ä'), ('')) t(x) ORDER BY x
SELECT CAST('2025-06-01' AS DATE) + 1, DATE '2025-06-01' - 1
SELECT CAST(1e15 AS VARCHAR), CAST(0.1 AS VARCHAR), CAST(100.0::DOUBLE AS VARCHAR), CAST(true AS VARCHAR)
SELECT CAST(123.456 AS DECIMAL(5,1)), CAST(-0.05 AS DECIMAL(3,1)), CAST(0.15::DECIMAL(3,2) AS DECIMAL(3,1))
SELECT [1,2,3][1], [1,2,3][-1], [1,2,3][0], [1,2,3][5], [1,2,3][2:3]
""".strip().splitlines()


@pytest.fixture(scope="module")
def both(request):
    return Both("grpc://" + request.config.getoption("--server"))


@pytest.mark.parametrize("sql", QUERIES)
def test_it_means_the_same(both, sql):
    ours, theirs = both.all(sql), both.duck.execute(sql).fetchall()
    assert alike([plain(row) for row in ours], [plain(row) for row in theirs]), (ours, theirs)
