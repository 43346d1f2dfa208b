-- The demo's stream: what the generator of a shop makes, and what you click at /shop, kept in a log below --data.
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
) WITH (connector = 'log', partitions = 4, retention = '10 min', size_max = '512MiB');

CREATE ENDPOINT '/api/events' INTO clicks WITH (key = 'user_id', rate = '200/s per address');

-- What you click at /shop, apart from the crowd.
CREATE MATERIALIZED VIEW shop_clicks AS
SELECT product_id, count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
       sum(quantity) FILTER (WHERE event_type = 'purchase') AS bought, max(event_ts) AS last_click
FROM clicks
WHERE product_id LIKE 'SHOP-%'
GROUP BY product_id;

CREATE ENDPOINT '/api/shop/clicks' AS
SELECT product_id, carts, coalesce(bought, 0) AS bought, last_click FROM shop_clicks ORDER BY last_click DESC;
