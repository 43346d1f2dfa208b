-- The clicks of the compose file's Kafka, for the views of queries/, which are in the image.
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

CREATE ENDPOINT '/api/events' INTO clicks WITH (key = 'user_id', rate = '200/s per address');
