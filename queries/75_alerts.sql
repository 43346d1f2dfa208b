-- What a shop wants to be told as it happens. A rule is a view, so an alert is a row: it is in the lake, it can be asked for,
-- subscribed to, and sent on (sinks/alerts.sql).
CREATE MATERIALIZED VIEW kpis_against_before AS
SELECT cur.window_start, cur.window_end,
       cur.events / CAST(prev.events AS DOUBLE) AS traffic,
       cur.revenue / NULLIF(prev.revenue, 0) AS revenue,
       cur.purchases / NULLIF(CAST(cur.page_views + cur.product_views AS DOUBLE), 0) AS conversion,
       1 - cur.purchases / NULLIF(CAST(cur.carts AS DOUBLE), 0) AS abandonment
FROM kpis_per_minute AS cur
LEFT JOIN kpis_per_minute AS prev ON prev.window_start = cur.window_start - INTERVAL '1 minute';

-- Products that are looked at three times as often as in the minute before.
CREATE MATERIALIZED VIEW rising_products AS
SELECT cur.window_start, cur.product_id, cur.views / CAST(prev.views AS DOUBLE) AS rise
FROM seen_and_bought AS cur
JOIN seen_and_bought AS prev
ON prev.product_id = cur.product_id AND prev.window_start = cur.window_start - INTERVAL '1 minute'
WHERE cur.views >= 3 * prev.views AND cur.views >= 10;

CREATE MATERIALIZED VIEW alerts AS
SELECT window_start, 'warning' AS level, 'traffic_high' AS alert, '' AS product_id, traffic AS value, 1.5 AS bound
FROM kpis_against_before WHERE traffic > 1.5
UNION ALL
SELECT window_start, 'critical', 'traffic_low', '', traffic, 0.7 FROM kpis_against_before WHERE traffic < 0.7
UNION ALL
SELECT window_start, 'critical', 'conversion_low', '', conversion, 0.03 FROM kpis_against_before WHERE conversion < 0.03
UNION ALL
SELECT window_start, 'warning', 'abandonment_high', '', abandonment, 0.8 FROM kpis_against_before WHERE abandonment > 0.8
UNION ALL
SELECT window_start, 'warning', 'revenue_high', '', revenue, 2.0 FROM kpis_against_before WHERE revenue > 2
UNION ALL
SELECT window_start, 'warning', 'revenue_low', '', revenue, 0.5 FROM kpis_against_before WHERE revenue < 0.5
UNION ALL
SELECT window_start, 'info', 'product_rising', product_id, rise, 3.0 FROM rising_products;
