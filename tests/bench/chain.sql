CREATE MATERIALIZED VIEW by_type AS
SELECT window_start, event_type, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute') GROUP BY window_start, event_type;
CREATE MATERIALIZED VIEW by_hour AS
SELECT window_start, event_type, sum(events) AS events, sum(revenue) AS revenue
FROM TUMBLE(by_type, window_start, INTERVAL '1 hour') GROUP BY window_start, event_type;
CREATE MATERIALIZED VIEW by_day AS
SELECT window_start, event_type, sum(events) AS events, sum(revenue) AS revenue
FROM TUMBLE(by_hour, window_start, INTERVAL '1 day') GROUP BY window_start, event_type;
