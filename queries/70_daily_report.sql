-- One row a day, in UTC.
CREATE MATERIALIZED VIEW daily_report AS
SELECT window_start, window_end,
       count(*) AS events,
       approx_distinct(user_id) AS users,
       approx_distinct(session_id) AS sessions,
       count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 day')
GROUP BY window_start, window_end;
