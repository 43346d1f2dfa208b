-- Hours and days are made of minutes, not of clicks: a view may read what another has closed, and has open.
CREATE MATERIALIZED VIEW events_per_hour AS
SELECT window_start, window_end, event_type, sum(events) AS events, sum(revenue) AS revenue, max(events) AS busiest_minute
FROM TUMBLE(events_per_minute, window_start, INTERVAL '1 hour')
GROUP BY window_start, window_end, event_type;

CREATE MATERIALIZED VIEW events_per_day AS
SELECT window_start, window_end, event_type, sum(events) AS events, sum(revenue) AS revenue
FROM TUMBLE(events_per_hour, window_start, INTERVAL '1 day')
GROUP BY window_start, window_end, event_type;

-- Since ever, with what is open: one row a country, always up to date, never final.
CREATE MATERIALIZED VIEW totals AS
SELECT country, count(*) AS events, count(*) FILTER (WHERE event_type = 'purchase') AS purchases, max(event_ts) AS last_seen
FROM clicks
GROUP BY country;

-- Each product that was seen in a minute beside what was bought of it in that minute.
CREATE MATERIALIZED VIEW seen_and_bought AS
SELECT seen.window_start, seen.product_id, seen.views, bought.purchases, bought.revenue
FROM (SELECT window_start, product_id, count(*) AS views
      FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
      WHERE event_type = 'product_view' GROUP BY window_start, product_id) AS seen
LEFT JOIN (SELECT window_start, product_id, count(*) AS purchases, sum(price * quantity) AS revenue
      FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
      WHERE event_type = 'purchase' GROUP BY window_start, product_id) AS bought
ON seen.window_start = bought.window_start AND seen.product_id = bought.product_id;
