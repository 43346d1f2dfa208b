-- A bounded stream, so that every client sees the same rows.
CREATE STREAM clicks (
  event_type STRING, event_ts TIMESTAMP(3), session_id STRING, product_id STRING, price DOUBLE, quantity INT,
  source_partition INT METADATA FROM 'partition', source_offset BIGINT METADATA FROM 'offset',
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (connector = 'generator', rows = 20000, seed = 7, partitions = 4);

CREATE MATERIALIZED VIEW types_per_second AS
SELECT window_start, window_end, event_type, count(*) AS events, sum(price) AS price
FROM TUMBLE(clicks, event_ts, INTERVAL '1 second')
GROUP BY window_start, window_end, event_type;

CREATE MATERIALIZED VIEW archive AS
SELECT event_ts, event_type, source_partition, source_offset FROM clicks;
