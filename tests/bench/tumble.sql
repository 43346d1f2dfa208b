CREATE MATERIALIZED VIEW by_type AS
SELECT window_start, event_type, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute') GROUP BY window_start, event_type;
