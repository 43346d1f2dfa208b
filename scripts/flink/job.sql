-- The stream and the two views of `thalweg bench` (cli/src/bench), as Flink says them. bench.py fills in what begins
-- with a dollar sign, and submits it by the SQL client that comes with Flink.

-- Clicks say their time as 2025-06-01T00:00:05.123Z: ISO-8601 with a zone, which for Flink is a TIMESTAMP_LTZ.
CREATE TABLE clicks (
  event_type STRING,
  event_ts TIMESTAMP_LTZ(3),
  session_id STRING,
  product_id STRING,
  price DOUBLE,
  quantity INT,
  $unused_columns
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'properties.bootstrap.servers' = '$brokers',
  'topic' = '$topic',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = '$end',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE by_type (
  window_start TIMESTAMP(3), window_end TIMESTAMP(3), event_type STRING, events BIGINT, revenue DOUBLE, sessions BIGINT
) WITH ('connector' = 'filesystem', 'path' = 'file://$out/by_type', 'format' = 'parquet');

CREATE TABLE by_product (
  window_start TIMESTAMP(3), window_end TIMESTAMP(3), product_id STRING, events BIGINT, revenue DOUBLE
) WITH ('connector' = 'filesystem', 'path' = 'file://$out/by_product', 'format' = 'parquet');

-- One set, so that it is one job, which can read the topic once for both.
EXECUTE STATEMENT SET BEGIN
INSERT INTO by_type
SELECT window_start, window_end, event_type, count(*) AS events,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue,
       count(DISTINCT session_id) AS sessions
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(event_ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, event_type;
INSERT INTO by_product
SELECT window_start, window_end, product_id, count(*) AS events, sum(price * quantity) AS revenue
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(event_ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, product_id;
END;
