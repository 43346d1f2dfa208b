CREATE MATERIALIZED VIEW by_product AS
SELECT window_start, product_id, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute') GROUP BY window_start, product_id;
