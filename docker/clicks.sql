-- What the compose file runs: clicks from its Kafka, the figures of a shop per minute, into its S3 server.
CREATE STREAM clicks (
  event_id   STRING,
  event_type STRING,
  event_ts   TIMESTAMP(3),
  user_id    STRING,
  session_id STRING,
  product_id STRING,
  price      DOUBLE,
  quantity   INT,
  country    STRING,
  device     STRUCT<type STRING, os STRING>,
  utm        STRUCT<source STRING>,
  source_partition INT    METADATA FROM 'partition',
  source_offset    BIGINT METADATA FROM 'offset',
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (connector = 'kafka', brokers = 'kafka:9092', topic = 'clicks', format = 'json');

CREATE MATERIALIZED VIEW kpis_per_minute AS
SELECT window_start, window_end,
       count(*) AS events,
       count(DISTINCT session_id) AS sessions,
       count(DISTINCT user_id) AS users,
       count(*) FILTER (WHERE event_type = 'page_view') AS page_views,
       count(*) FILTER (WHERE event_type = 'product_view') AS product_views,
       count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
       count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue,
       avg(price * quantity) FILTER (WHERE event_type = 'purchase') AS order_value
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(event_ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;

-- The same per type of event: small, and the first thing to look at.
CREATE MATERIALIZED VIEW events_per_minute AS
SELECT window_start, window_end, event_type,
       count(*) AS events,
       count(DISTINCT session_id) AS sessions,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
GROUP BY window_start, window_end, event_type;
