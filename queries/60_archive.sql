-- Purchases as they come, row by row: no window, nothing is late.
CREATE MATERIALIZED VIEW purchases AS
SELECT event_ts, event_id, user_id, session_id, product_id, price, quantity, price * quantity AS total, country,
       device['type'] AS device_type, source_partition, source_offset
FROM clicks
WHERE event_type = 'purchase';
