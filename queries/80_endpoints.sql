-- What programs ask by URL: docs/HTTP.md has the curl lines, GET /api the list. A parameter is typed and bound.

-- The newest minutes, with the shares that a shop looks at; the first is still open.
CREATE ENDPOINT '/api/metrics/live' (minutes INT DEFAULT 5) AS
SELECT window_start, window_end, events, sessions, users, page_views, product_views, carts, purchases,
       coalesce(revenue, 0) AS revenue, order_value,
       purchases / NULLIF(CAST(page_views + product_views AS DOUBLE), 0) AS conversion_rate,
       1 - purchases / NULLIF(CAST(carts AS DOUBLE), 0) AS cart_abandonment
FROM kpis_per_minute
WHERE window_start >= now() - $minutes * INTERVAL '1 minute'
ORDER BY window_start DESC;

-- The last minutes that have closed, beside as many before them. Distinct users of two minutes don't add up: they are in
-- /api/users/active.
CREATE ENDPOINT '/api/metrics/summary' (minutes INT DEFAULT 5) AS
WITH minutes AS (
  SELECT *, row_number() OVER (ORDER BY window_start DESC) AS ago FROM history.kpis_per_minute
  WHERE window_start >= now() - (2 * $minutes + 5) * INTERVAL '1 minute'
)
SELECT CASE WHEN ago <= $minutes THEN 'now' ELSE 'before' END AS period,
       min(window_start) AS since, max(window_end) AS until,
       sum(events) AS events, sum(page_views + product_views) AS views, sum(carts) AS carts,
       sum(purchases) AS purchases, coalesce(sum(revenue), 0) AS revenue,
       sum(revenue) / NULLIF(CAST(sum(purchases) AS DOUBLE), 0) AS order_value,
       sum(purchases) / NULLIF(CAST(sum(page_views + product_views) AS DOUBLE), 0) AS conversion_rate
FROM minutes
WHERE ago <= 2 * $minutes
GROUP BY CASE WHEN ago <= $minutes THEN 'now' ELSE 'before' END
ORDER BY since DESC;

-- Minute by minute, for a chart.
CREATE ENDPOINT '/api/metrics/history' (minutes INT DEFAULT 60) AS
SELECT window_start, events, sessions, users, page_views, product_views, carts, purchases,
       coalesce(revenue, 0) AS revenue, order_value
FROM kpis_per_minute
WHERE window_start >= now() - $minutes * INTERVAL '1 minute'
ORDER BY window_start;

CREATE ENDPOINT '/api/metrics/revenue' (minutes INT DEFAULT 60) AS
SELECT window_start, coalesce(revenue, 0) AS revenue, purchases,
       coalesce(revenue, 0) - lag(coalesce(revenue, 0)) OVER (ORDER BY window_start) AS change
FROM kpis_per_minute
WHERE window_start >= now() - $minutes * INTERVAL '1 minute'
ORDER BY window_start;

-- Sessions of each minute that came as far as a step, added up.
CREATE ENDPOINT '/api/funnel' (minutes INT DEFAULT 15) AS
WITH steps AS (
  SELECT sum(viewed) AS viewed, sum(carted) AS carted, sum(bought) AS bought
  FROM conversion_per_minute
  WHERE window_start >= now() - $minutes * INTERVAL '1 minute'
)
SELECT 1 AS place, 'view' AS step, viewed AS sessions, CAST(1 AS DOUBLE) AS share FROM steps
UNION ALL SELECT 2, 'cart', carted, carted / NULLIF(CAST(viewed AS DOUBLE), 0) FROM steps
UNION ALL SELECT 3, 'purchase', bought, bought / NULLIF(CAST(viewed AS DOUBLE), 0) FROM steps
ORDER BY place;

-- What draws most in the five minutes that close next: of the present one too.
CREATE ENDPOINT '/api/products/trending' (top INT DEFAULT 10) AS
SELECT place, product_id, views, carts, window_start, window_end
FROM trending_products
WHERE window_end = (SELECT max(window_end) FROM trending_products WHERE window_end <= now() + INTERVAL '1 minute')
  AND place <= $top
ORDER BY place;

-- Products of the running hours.
CREATE ENDPOINT '/api/products/performance' (hours INT DEFAULT 2, top INT DEFAULT 20) AS
SELECT product_id, sum(views) AS views, coalesce(sum(revenue), 0) AS revenue,
       sum(views * cart_rate) / NULLIF(sum(views), 0) AS cart_rate,
       sum(views * purchase_rate) / NULLIF(sum(views), 0) AS purchase_rate
FROM product_performance
WHERE window_start >= now() - $hours * INTERVAL '1 hour'
GROUP BY product_id
ORDER BY revenue DESC, product_id
LIMIT $top;

CREATE ENDPOINT '/api/geography' (minutes INT DEFAULT 15) AS
SELECT country, sum(events) AS events, coalesce(sum(revenue), 0) AS revenue
FROM countries_per_minute
WHERE is_total = 0 AND window_start >= now() - $minutes * INTERVAL '1 minute'
GROUP BY country
ORDER BY revenue DESC, country;

CREATE ENDPOINT '/api/traffic/devices' (minutes INT DEFAULT 15) AS
SELECT device_type, os, sum(events) AS events, sum(purchases) AS purchases
FROM traffic_per_minute
WHERE window_start >= now() - $minutes * INTERVAL '1 minute'
GROUP BY device_type, os
ORDER BY events DESC, device_type, os;

CREATE ENDPOINT '/api/traffic/campaigns' (minutes INT DEFAULT 15) AS
SELECT campaign, sum(events) AS events, sum(purchases) AS purchases
FROM traffic_per_minute
WHERE window_start >= now() - $minutes * INTERVAL '1 minute'
GROUP BY campaign
ORDER BY events DESC, campaign;

-- Distinct users of five minutes.
CREATE ENDPOINT '/api/users/active' AS
SELECT window_start, window_end, users FROM active_users
WHERE window_end <= now() + INTERVAL '10 seconds'
ORDER BY window_end DESC
LIMIT 1;

-- Sessions of the running minute and of those before it.
CREATE ENDPOINT '/api/sessions/active' (minutes INT DEFAULT 5) AS
SELECT window_start, sessions, users FROM kpis_per_minute
WHERE window_start >= now() - $minutes * INTERVAL '1 minute'
ORDER BY window_start DESC;

-- Who buys suspiciously often.
CREATE ENDPOINT '/api/users/busy' (minutes INT DEFAULT 15, least BIGINT DEFAULT 3) AS
SELECT window_start, user_id, purchases, spent FROM busy_buyers
WHERE window_start >= now() - $minutes * INTERVAL '1 minute' AND purchases >= $least
ORDER BY window_start DESC, purchases DESC, user_id;

-- What the rules of 75_alerts.sql have found in minutes that have closed: one that has just begun has little of everything.
CREATE ENDPOINT '/api/alerts' (minutes INT DEFAULT 15, level STRING DEFAULT NULL) AS
SELECT window_start AS at, level, alert, NULLIF(product_id, '') AS product_id, value, bound FROM history.alerts
WHERE window_start >= now() - $minutes * INTERVAL '1 minute' AND ($level IS NULL OR level = $level)
ORDER BY at DESC, level, alert, product_id;

-- To hand on: events between two moments as they closed, however many (.ndjson, .csv, .parquet); purchases; a day's figures.
CREATE ENDPOINT '/api/export/events' (since TIMESTAMP, until TIMESTAMP DEFAULT NULL, type STRING DEFAULT NULL) AS
SELECT * FROM events
WHERE event_ts >= $since AND ($until IS NULL OR event_ts < $until) AND ($type IS NULL OR event_type = $type);

CREATE ENDPOINT '/api/export/purchases' (since TIMESTAMP, until TIMESTAMP DEFAULT NULL) AS
SELECT * FROM purchases
WHERE event_ts >= $since AND ($until IS NULL OR event_ts < $until)
ORDER BY event_ts, event_id;

CREATE ENDPOINT '/api/export/kpis' (day DATE) AS
SELECT * FROM kpis_per_minute
WHERE CAST(window_start AS DATE) = $day
ORDER BY window_start;

CREATE ENDPOINT '/api/export/daily' (days INT DEFAULT 30) AS
SELECT * FROM daily_report
WHERE window_start >= now() - $days * INTERVAL '1 day'
ORDER BY window_start;
