CREATE MATERIALIZED VIEW led_to AS
SELECT v.event_ts, v.user_id, v.product_id, b.event_ts AS bought_at, b.price
FROM clicks AS v JOIN clicks AS b
ON b.user_id = v.user_id AND b.product_id = v.product_id
AND b.event_ts BETWEEN v.event_ts AND v.event_ts + INTERVAL '30 minutes'
WHERE v.event_type = 'product_view' AND b.event_type = 'purchase';
