CREATE MATERIALIZED VIEW visits AS
SELECT window_start, window_end, user_id, count(*) AS events, sum(price * quantity) AS revenue
FROM SESSION(clicks PARTITION BY user_id, event_ts, INTERVAL '30 minutes') GROUP BY window_start, window_end, user_id;
