-- Memory out of nothing: types and calls
SELECT arrow_cast(NULL, 'FixedSizeList(100000000, FixedSizeList(100000, Int64))')
SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)')
SELECT arrow_cast(NULL, 'FixedSizeList(2147483647, Int64)')
SELECT arrow_cast(NULL, 'FixedSizeList(2147483647, FixedSizeList(2147483647, Int8))') FROM generate_series(1, 1000)
SELECT arrow_cast(x, 'FixedSizeBinary(100000000)') FROM (SELECT CAST(NULL AS BYTEA) AS x FROM generate_series(1, 1000)) AS t
SELECT array_repeat(array_repeat(array_repeat(array_repeat(1, 1000), 1000), 1000), 1000)
SELECT array_repeat(array_repeat(array_repeat(value, 3000), 1000), 1000) FROM generate_series(1, 8)
SELECT sum(value) OVER () FROM generate_series(1, 100000000000)
SELECT avg(value) OVER (ORDER BY value ROWS BETWEEN 1000000 PRECEDING AND 1000000 FOLLOWING) FROM generate_series(1, 1000000000)
SELECT lag(value, 2000000000) OVER (ORDER BY value) FROM generate_series(1, 100000000)
SELECT ntile(1000000000) OVER (ORDER BY value) FROM generate_series(1, 100000000)
SELECT count(*) FROM (SELECT value % 2 AS k2, value % 3 AS k3, value % 4 AS k4, value % 5 AS k5, value % 6 AS k6, value % 7 AS k7, value % 8 AS k8, value % 9 AS k9, value % 10 AS k10, value % 11 AS k11, value % 12 AS k12, value % 13 AS k13, value % 14 AS k14, value % 15 AS k15, value % 16 AS k16, value % 17 AS k17, value % 18 AS k18, value % 19 AS k19, value % 20 AS k20, value % 21 AS k21 FROM generate_series(1, 1000)) AS t GROUP BY CUBE(k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15, k16, k17, k18, k19, k20, k21)
SELECT count(*) FROM (SELECT value % 2 AS k2, value % 3 AS k3, value % 4 AS k4, value % 5 AS k5, value % 6 AS k6, value % 7 AS k7, value % 8 AS k8, value % 9 AS k9, value % 10 AS k10, value % 11 AS k11, value % 12 AS k12, value % 13 AS k13, value % 14 AS k14, value % 15 AS k15, value % 16 AS k16, value % 17 AS k17, value % 18 AS k18, value % 19 AS k19, value % 20 AS k20, value % 21 AS k21 FROM generate_series(1, 100000)) AS t GROUP BY ROLLUP(k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15, k16, k17, k18, k19, k20, k21)
SELECT k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15, k16, k17, k18, k19, k20, k21, count(*) FROM (SELECT value % 2 AS k2, value % 3 AS k3, value % 4 AS k4, value % 5 AS k5, value % 6 AS k6, value % 7 AS k7, value % 8 AS k8, value % 9 AS k9, value % 10 AS k10, value % 11 AS k11, value % 12 AS k12, value % 13 AS k13, value % 14 AS k14, value % 15 AS k15, value % 16 AS k16, value % 17 AS k17, value % 18 AS k18, value % 19 AS k19, value % 20 AS k20, value % 21 AS k21 FROM generate_series(1, 10000000)) AS t GROUP BY k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15, k16, k17, k18, k19, k20, k21
SELECT concat_ws(repeat(',', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000), repeat('x', 30000)) FROM generate_series(1, 100000)
SELECT concat_ws(repeat(',', 1000000), 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a')
SELECT regexp_replace(repeat('a', 1000000), 'a', repeat('b', 1000), 'g')
SELECT regexp_replace(repeat('a', 100000), '', repeat('b', 10000), 'g') FROM generate_series(1, 100)
SELECT count(*) FROM (SELECT repeat('x', 60000) AS t FROM generate_series(1, 1000)) AS a, (SELECT repeat('y', 60000) AS t FROM generate_series(1, 1000)) AS b WHERE a.t || b.t = 'z'
SELECT * FROM generate_series(1, 100000) AS a(x), generate_series(1, 100000) AS b(y), generate_series(1, 100000) AS c(z) ORDER BY x + y + z DESC LIMIT 1
SELECT count(DISTINCT x * y + z) FROM generate_series(1, 100000) AS a(x), generate_series(1, 100000) AS b(y), generate_series(1, 100000) AS c(z)
SELECT array_agg(value) FROM generate_series(1, 10000000000)
SELECT string_agg(repeat('x', 1000), ',') FROM generate_series(1, 100000000)
SELECT array_agg(repeat('x', 10000)) OVER (ORDER BY value) FROM generate_series(1, 10000000)
SELECT count(DISTINCT value) FROM generate_series(1, 10000000000)
SELECT approx_percentile_cont(value, 0.5) FROM generate_series(1, 1000000000) GROUP BY value
SELECT median(value) FROM generate_series(1, 10000000000)
SELECT DISTINCT repeat('x', CAST(value AS INT) % 50000) FROM generate_series(1, 100000000)
SELECT * FROM generate_series(1, 10000000000) ORDER BY value DESC
SELECT * FROM generate_series(1, 1000000000) AS a(x) JOIN generate_series(1, 1000000000) AS b(x) ON a.x = b.x
SELECT * FROM generate_series(1, 1000000000) AS a(x) FULL JOIN generate_series(1, 1000000000) AS b(y) ON a.x = b.y + 1
SELECT * FROM generate_series(1, 1000000) AS a(x) JOIN generate_series(1, 1000000) AS b(y) ON a.x <> b.y
SELECT x FROM generate_series(1, 10000000) AS a(x) WHERE x NOT IN (SELECT y * 2 FROM generate_series(1, 100000000) AS b(y))
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t, generate_series(1, 1000)) SELECT count(*) FROM t
WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t
SELECT 1«, repeat('x', 60000000) AS c{i}»*40
SELECT 1«, array_repeat({i}, 4000000) AS c{i}»*60
-- Time out of nothing
SELECT levenshtein(repeat('ab', 200000), repeat('ba', 200000))
SELECT levenshtein(repeat('ab', 200000) || CAST(value AS STRING), repeat('ba', 200000)) FROM generate_series(1, 100000)
SELECT levenshtein(repeat('ab', 3000), repeat('ba', 3000))
SELECT levenshtein(repeat('ab', 3000) || CAST(value AS STRING), repeat('ba', 3000)) FROM generate_series(1, 100000)
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 2 = 5
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 3 = 6
SELECT count(*) FROM generate_series(1, 100000000000) AS t(x) WHERE x % 4 = 7
SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 5 = 8
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 6 = 9
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 7 = 10
SELECT count(*) FROM generate_series(1, 100000000000) AS t(x) WHERE x % 8 = 11
SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 9 = 12
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 10 = 13
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 11 = 14
SELECT count(*) FROM generate_series(1, 100000000000) AS t(x) WHERE x % 12 = 15
SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 13 = 16
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 14 = 17
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 15 = 18
SELECT count(*) FROM generate_series(1, 100000000000) AS t(x) WHERE x % 16 = 19
SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 17 = 20
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 18 = 21
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 19 = 22
SELECT count(*) FROM generate_series(1, 100000000000) AS t(x) WHERE x % 20 = 23
SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 21 = 24
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 22 = 25
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 23 = 26
SELECT count(*) FROM generate_series(1, 100000000000) AS t(x) WHERE x % 24 = 27
SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 25 = 28
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 26 = 29
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 27 = 30
SELECT count(*) FROM generate_series(1, 100000000000) AS t(x) WHERE x % 28 = 31
SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 29 = 32
SELECT count(*) FROM generate_series(1, 1000000000) AS t(x) WHERE x % 30 = 33
SELECT count(*) FROM generate_series(1, 10000000000) AS t(x) WHERE x % 31 = 34
SELECT count(*) FROM generate_series(1, 100000000000) WHERE regexp_like(CAST(value AS STRING), '(1+)+$')
SELECT regexp_like(repeat('a', 30000), '(a?){30000}a{30000}')
SELECT regexp_like('a', '(((((a{100}){100}){100}){100}){100})')
SELECT regexp_count(repeat('a', 1000000), '(.*)(.*)(.*)(.*)(.*)x') FROM generate_series(1, 100)
SELECT sum(factorial(20)) FROM generate_series(1, 100000000000)
SELECT sum(power(1.0000001, value)) FROM generate_series(1, 100000000000)
SELECT max(md5(repeat('x', 100000) || CAST(value AS STRING))) FROM generate_series(1, 10000000)
SELECT max(sha512(repeat('x', 1000000) || CAST(value AS STRING))) FROM generate_series(1, 10000000)
SELECT array_sort(range(0, 3000000)) FROM generate_series(1, 1000)
SELECT array_distinct(array_concat(range(0, 3000000), range(0, 3000000))) FROM generate_series(1, 1000)
SELECT array_union(range(0, 3000000), range(1, 3000000)), array_intersect(range(0, 3000000), range(1, 3000000))
SELECT array_position(range(0, 3000000), 2999999) FROM generate_series(1, 100000)
SELECT flatten(array_repeat(range(0, 4000), 1000)) FROM generate_series(1, 1000)
SELECT unnest(range(0, 3000000)) FROM generate_series(1, 100000)
SELECT unnest(a), unnest(b) FROM (SELECT range(0, 3000000) AS a, range(0, 2) AS b FROM generate_series(1, 1000)) AS t
SELECT array_to_string(range(0, 4000000), repeat(',', 1000))
SELECT string_to_array(repeat('a,', 10000000), ',') FROM generate_series(1, 100)
SELECT translate(repeat('abc', 10000000), 'abc', 'xyz') FROM generate_series(1, 1000)
SELECT to_hex(value), reverse(repeat('x', 1000000)), initcap(repeat('a ', 1000000)) FROM generate_series(1, 100000)
SELECT overlay(repeat('x', 10000000) PLACING repeat('y', 10000000) FROM 5) FROM generate_series(1, 1000)
-- Deep and wide: parsing and planning. «text»*n is the text n times, with {i} counting from 1 and {p} from 0
SELECT «(»*101«)»*10
SELECT «(»*1001«)»*100
SELECT «(»*10001«)»*1000
SELECT «(»*50001«)»*5000
SELECT «(»*200001«)»*20000
SELECT 1«+1»*50
SELECT true« OR false»*50
SELECT 1« UNION ALL SELECT 1»*50
SELECT «NOT »*50true
SELECT 1«+1»*400
SELECT true« OR false»*400
SELECT 1« UNION ALL SELECT 1»*400
SELECT «NOT »*400true
SELECT 1«+1»*499
SELECT true« OR false»*499
SELECT 1« UNION ALL SELECT 1»*499
SELECT «NOT »*499true
SELECT 1«+1»*501
SELECT true« OR false»*501
SELECT 1« UNION ALL SELECT 1»*501
SELECT «NOT »*501true
SELECT 1«+1»*3000
SELECT true« OR false»*3000
SELECT 1« UNION ALL SELECT 1»*3000
SELECT «NOT »*3000true
SELECT * FROM «(SELECT x FROM »*10(SELECT 1 AS x) AS t« ) AS t{i}»*10
SELECT * FROM «(SELECT x FROM »*50(SELECT 1 AS x) AS t« ) AS t{i}»*50
SELECT * FROM «(SELECT x FROM »*150(SELECT 1 AS x) AS t« ) AS t{i}»*150
SELECT «abs(»*101«)»*10
SELECT «concat(»*10'x'«, 'y')»*10
SELECT «coalesce(NULL, »*101«)»*10
SELECT «abs(»*301«)»*30
SELECT «concat(»*30'x'«, 'y')»*30
SELECT «coalesce(NULL, »*301«)»*30
SELECT «abs(»*1001«)»*100
SELECT «concat(»*100'x'«, 'y')»*100
SELECT «coalesce(NULL, »*1001«)»*100
SELECT count(*) FROM generate_series(1, 3) AS t(x)«, generate_series(1, 3) AS t{i}(x{i})»*8
SELECT count(*) FROM live.by_second t0 «JOIN live.by_second t{i} ON t{i}.country = t{p}.country »*8
SELECT count(*) FROM generate_series(1, 3) AS t(x)«, generate_series(1, 3) AS t{i}(x{i})»*12
SELECT count(*) FROM live.by_second t0 «JOIN live.by_second t{i} ON t{i}.country = t{p}.country »*12
SELECT count(*) FROM generate_series(1, 3) AS t(x)«, generate_series(1, 3) AS t{i}(x{i})»*20
SELECT count(*) FROM live.by_second t0 «JOIN live.by_second t{i} ON t{i}.country = t{p}.country »*20
SELECT count(*) FROM generate_series(1, 3) AS t(x)«, generate_series(1, 3) AS t{i}(x{i})»*60
SELECT count(*) FROM live.by_second t0 «JOIN live.by_second t{i} ON t{i}.country = t{p}.country »*60
SELECT count(*) FROM generate_series(1, 3) AS t(x)«, generate_series(1, 3) AS t{i}(x{i})»*190
SELECT count(*) FROM live.by_second t0 «JOIN live.by_second t{i} ON t{i}.country = t{p}.country »*190
WITH a0 AS (SELECT 1 AS x)«, a{i} AS (SELECT l.x FROM a{p} l, a{p} r)»*3 SELECT count(*) FROM a3
WITH a0 AS (SELECT 1 AS x)«, a{i} AS (SELECT l.x FROM a{p} l, a{p} r)»*10 SELECT count(*) FROM a10
WITH a0 AS (SELECT 1 AS x)«, a{i} AS (SELECT l.x FROM a{p} l, a{p} r)»*30 SELECT count(*) FROM a30
SELECT 0«, {i} AS c{i}»*100
SELECT 1 IN (0«, {i}»*100)
SELECT CASE «WHEN country = '{i}' THEN {i} »*10END FROM live.by_second
SELECT 0«, {i} AS c{i}»*1000
SELECT 1 IN (0«, {i}»*1000)
SELECT CASE «WHEN country = '{i}' THEN {i} »*100END FROM live.by_second
SELECT 0«, {i} AS c{i}»*4000
SELECT 1 IN (0«, {i}»*4000)
SELECT CASE «WHEN country = '{i}' THEN {i} »*400END FROM live.by_second
SELECT 1«, row_number() OVER (PARTITION BY value % {i} ORDER BY value)»*60 FROM generate_series(1, 10000000)
EXPLAIN ANALYZE SELECT count(*) FROM generate_series(1, 100000000000)
EXPLAIN VERBOSE SELECT «abs(»*200 1«)»*200
SELECT '«x»*60000'
SELECT '«x»*70000'
SELECT 'x' LIKE '«%»*30000'
SELECT repeat('x', 1000000) LIKE '«%x»*10000y'
SELECT repeat('x', 1000000) SIMILAR TO '«(x|xx)*»*100y'
-- What is in the tables
SELECT count(*) FROM live.by_second a, live.by_second b, live.by_second c, live.by_second d, live.by_second e, live.by_second f
SELECT * FROM live.by_second a, live.by_second b, generate_series(1, 100000000)
SELECT array_agg(a) FROM live.by_second a, generate_series(1, 100000000)
SELECT count(*) FROM live.by_second, generate_series(1, 1000000000)
SELECT count(*) FROM public.archive a, public.archive b, public.archive c, public.archive d, public.archive e, public.archive f
SELECT * FROM public.archive a, public.archive b, generate_series(1, 100000000)
SELECT array_agg(a) FROM public.archive a, generate_series(1, 100000000)
SELECT count(*) FROM public.archive, generate_series(1, 1000000000)
SELECT count(*) FROM history.by_second a, history.by_second b, history.by_second c, history.by_second d, history.by_second e, history.by_second f
SELECT * FROM history.by_second a, history.by_second b, generate_series(1, 100000000)
SELECT array_agg(a) FROM history.by_second a, generate_series(1, 100000000)
SELECT count(*) FROM history.by_second, generate_series(1, 1000000000)
SELECT count(*) FROM system.late_rows a, system.late_rows b, system.late_rows c, system.late_rows d, system.late_rows e, system.late_rows f
SELECT * FROM system.late_rows a, system.late_rows b, generate_series(1, 100000000)
SELECT array_agg(a) FROM system.late_rows a, generate_series(1, 100000000)
SELECT count(*) FROM system.late_rows, generate_series(1, 1000000000)
SELECT count(*) FROM system.views a, system.views b, system.views c, system.views d, system.views e, system.views f
SELECT * FROM system.views a, system.views b, generate_series(1, 100000000)
SELECT array_agg(a) FROM system.views a, generate_series(1, 100000000)
SELECT count(*) FROM system.views, generate_series(1, 1000000000)
SELECT count(*) FROM public.by_minute a, public.by_minute b, public.by_minute c, public.by_minute d, public.by_minute e, public.by_minute f
SELECT * FROM public.by_minute a, public.by_minute b, generate_series(1, 100000000)
SELECT array_agg(a) FROM public.by_minute a, generate_series(1, 100000000)
SELECT count(*) FROM public.by_minute, generate_series(1, 1000000000)
SELECT * FROM information_schema.columns a, information_schema.columns b, information_schema.columns c, information_schema.columns d
-- What is not there, and what is not for readers
SELECT * FROM '/etc/passwd'
SELECT * FROM 's3://bucket/x.parquet'
COPY (SELECT 1) TO '/tmp/x.csv'
SET datafusion.execution.batch_size = 1
CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'
INSERT INTO by_second VALUES (1)
DROP TABLE system.views
DELETE FROM archive
SELECT * FROM nothing_of_that_name
SELECT $1
SELECT ?
SELECT $999999999999
SELECT 1; SELECT 2
EXPLAIN COPY archive TO '/tmp/x'
SELECT * FROM read_csv('/etc/passwd')
PREPARE p AS SELECT 1
EXECUTE p
SELECT
(((
SELECT * FROM
WITH
KILL QUERY 99999999
KILL QUERY -1
KILL QUERY 1.5
-- Numbers at their ends
SELECT 9223372036854775807 + 1
SELECT max(9223372036854775807 + 1) FROM generate_series(1, 3)
SELECT -9223372036854775808 - 1
SELECT max(-9223372036854775808 - 1) FROM generate_series(1, 3)
SELECT 9223372036854775807 * 9223372036854775807
SELECT max(9223372036854775807 * 9223372036854775807) FROM generate_series(1, 3)
SELECT 1 / 0
SELECT max(1 / 0) FROM generate_series(1, 3)
SELECT 1 % 0
SELECT max(1 % 0) FROM generate_series(1, 3)
SELECT CAST(1e400 AS BIGINT)
SELECT max(CAST(1e400 AS BIGINT)) FROM generate_series(1, 3)
SELECT CAST('x' AS INT)
SELECT max(CAST('x' AS INT)) FROM generate_series(1, 3)
SELECT CAST(99999999999999999999 AS INT)
SELECT max(CAST(99999999999999999999 AS INT)) FROM generate_series(1, 3)
SELECT (-9223372036854775808) / (-1)
SELECT max((-9223372036854775808) / (-1)) FROM generate_series(1, 3)
SELECT abs(-9223372036854775808)
SELECT max(abs(-9223372036854775808)) FROM generate_series(1, 3)
SELECT power(10, 400)
SELECT max(power(10, 400)) FROM generate_series(1, 3)
SELECT factorial(1000000)
SELECT max(factorial(1000000)) FROM generate_series(1, 3)
SELECT gcd(-9223372036854775808, -1)
SELECT max(gcd(-9223372036854775808, -1)) FROM generate_series(1, 3)
SELECT lcm(9223372036854775807, 9223372036854775806)
SELECT max(lcm(9223372036854775807, 9223372036854775806)) FROM generate_series(1, 3)
SELECT 9223372036854775807::DECIMAL(38,0) * 9223372036854775807::DECIMAL(38,0) * 9223372036854775807::DECIMAL(38,0)
SELECT max(9223372036854775807::DECIMAL(38,0) * 9223372036854775807::DECIMAL(38,0) * 9223372036854775807::DECIMAL(38,0)) FROM generate_series(1, 3)
SELECT DATE '9999-12-31' + INTERVAL '100000 years'
SELECT max(DATE '9999-12-31' + INTERVAL '100000 years') FROM generate_series(1, 3)
SELECT TIMESTAMP '2025-01-01' + INTERVAL '9223372036854775807 microseconds'
SELECT max(TIMESTAMP '2025-01-01' + INTERVAL '9223372036854775807 microseconds') FROM generate_series(1, 3)
SELECT INTERVAL '99999999999999999999 days'
SELECT max(INTERVAL '99999999999999999999 days') FROM generate_series(1, 3)
SELECT date_bin(INTERVAL '0 seconds', TIMESTAMP '2025-01-01')
SELECT max(date_bin(INTERVAL '0 seconds', TIMESTAMP '2025-01-01')) FROM generate_series(1, 3)
SELECT date_trunc('nothing', TIMESTAMP '2025-01-01')
SELECT max(date_trunc('nothing', TIMESTAMP '2025-01-01')) FROM generate_series(1, 3)
SELECT to_timestamp(9223372036854775807)
SELECT max(to_timestamp(9223372036854775807)) FROM generate_series(1, 3)
SELECT from_unixtime(9223372036854775807)
SELECT max(from_unixtime(9223372036854775807)) FROM generate_series(1, 3)
SELECT make_date(2147483647, 12, 31)
SELECT max(make_date(2147483647, 12, 31)) FROM generate_series(1, 3)
SELECT 1 << 100
SELECT max(1 << 100) FROM generate_series(1, 3)
SELECT 1 >> -1
SELECT max(1 >> -1) FROM generate_series(1, 3)
SELECT chr(-1)
SELECT max(chr(-1)) FROM generate_series(1, 3)
SELECT chr(4294967295)
SELECT max(chr(4294967295)) FROM generate_series(1, 3)
SELECT ascii('')
SELECT max(ascii('')) FROM generate_series(1, 3)
SELECT substr('x', -9223372036854775808, 9223372036854775807)
SELECT max(substr('x', -9223372036854775808, 9223372036854775807)) FROM generate_series(1, 3)
SELECT left('x', -9223372036854775808)
SELECT max(left('x', -9223372036854775808)) FROM generate_series(1, 3)
SELECT right('x', 9223372036854775807)
SELECT max(right('x', 9223372036854775807)) FROM generate_series(1, 3)
SELECT lpad('x', -1)
SELECT max(lpad('x', -1)) FROM generate_series(1, 3)
SELECT rpad('x', 9223372036854775807)
SELECT max(rpad('x', 9223372036854775807)) FROM generate_series(1, 3)
SELECT repeat('x', -9223372036854775808)
SELECT max(repeat('x', -9223372036854775808)) FROM generate_series(1, 3)
SELECT split_part('a', 'b', -9223372036854775808)
SELECT max(split_part('a', 'b', -9223372036854775808)) FROM generate_series(1, 3)
SELECT array_element([1], -9223372036854775808)
SELECT max(array_element([1], -9223372036854775808)) FROM generate_series(1, 3)
SELECT array_slice([1,2,3], -9223372036854775808, 9223372036854775807, -9223372036854775808)
SELECT max(array_slice([1,2,3], -9223372036854775808, 9223372036854775807, -9223372036854775808)) FROM generate_series(1, 3)
SELECT range(1, 10, 0)
SELECT max(range(1, 10, 0)) FROM generate_series(1, 3)
SELECT range(-9223372036854775808, 9223372036854775807)
SELECT max(range(-9223372036854775808, 9223372036854775807)) FROM generate_series(1, 3)
SELECT generate_series(1, 9223372036854775807)
SELECT max(generate_series(1, 9223372036854775807)) FROM generate_series(1, 3)
SELECT array_resize([1], 9223372036854775807)
SELECT max(array_resize([1], 9223372036854775807)) FROM generate_series(1, 3)
SELECT encode(repeat('x', 60000000), 'base64')
SELECT max(encode(repeat('x', 60000000), 'base64')) FROM generate_series(1, 3)
SELECT decode('zz', 'hex')
SELECT max(decode('zz', 'hex')) FROM generate_series(1, 3)
SELECT round(1.5, 2147483647)
SELECT max(round(1.5, 2147483647)) FROM generate_series(1, 3)
SELECT trunc(1.5, -2147483648)
SELECT max(trunc(1.5, -2147483648)) FROM generate_series(1, 3)
SELECT arrow_cast(1, 'Nothing')
SELECT max(arrow_cast(1, 'Nothing')) FROM generate_series(1, 3)
SELECT arrow_cast(1, 'Dictionary(Int8, Dictionary(Int8, Int8))')
SELECT max(arrow_cast(1, 'Dictionary(Int8, Dictionary(Int8, Int8))')) FROM generate_series(1, 3)
SELECT CAST(repeat('9', 60000) AS DECIMAL(76, 0))
SELECT max(CAST(repeat('9', 60000) AS DECIMAL(76, 0))) FROM generate_series(1, 3)
SELECT nanvl(NULL, 1)
SELECT max(nanvl(NULL, 1)) FROM generate_series(1, 3)
SELECT random() FROM generate_series(1, 100000000000)
