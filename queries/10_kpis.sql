-- The figures of a shop, minute by minute. Compare with the minute before when reading:
--   SELECT *, lag(revenue) OVER (ORDER BY window_start) AS before FROM kpis_per_minute ORDER BY window_start;
CREATE MATERIALIZED VIEW kpis_per_minute AS
SELECT window_start, window_end,
       count(*) AS events,
       count(DISTINCT session_id) AS sessions,
       count(DISTINCT user_id) AS users,
       count(*) FILTER (WHERE event_type = 'page_view') AS page_views,
       count(*) FILTER (WHERE event_type = 'product_view') AS product_views,
       count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
       count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue,
       avg(price * quantity) FILTER (WHERE event_type = 'purchase') AS order_value
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(event_ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;

-- The same per type of event: small, and the first thing to look at.
CREATE MATERIALIZED VIEW events_per_minute AS
SELECT window_start, window_end, event_type,
       count(*) AS events,
       count(DISTINCT session_id) AS sessions,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
GROUP BY window_start, window_end, event_type;
