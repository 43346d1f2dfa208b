-- The stream that all other files read. For a broker of your own, change the last line:
--   WITH (connector = 'kafka', brokers = 'localhost:9092', topic = 'clicks', format = 'json');
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
) WITH (connector = 'generator', rate = 1000, seed = 1, partitions = 4, start = 'now');
