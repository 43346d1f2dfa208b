-- How many sessions of each minute viewed, filled a cart and bought, and the shares between those.
CREATE MATERIALIZED VIEW conversion_per_minute AS
SELECT window_start, window_end, viewed, carted, bought,
       bought / NULLIF(CAST(viewed AS DOUBLE), 0) AS conversion,
       1 - bought / NULLIF(CAST(carted AS DOUBLE), 0) AS cart_abandonment
FROM (
  SELECT window_start, window_end,
         count(DISTINCT session_id) FILTER (WHERE event_type IN ('page_view', 'product_view')) AS viewed,
         count(DISTINCT session_id) FILTER (WHERE event_type = 'add_to_cart') AS carted,
         count(DISTINCT session_id) FILTER (WHERE event_type = 'purchase') AS bought
  FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
  GROUP BY window_start, window_end
);
