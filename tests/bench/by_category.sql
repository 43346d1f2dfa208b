CREATE TABLE products (product_id STRING PRIMARY KEY, category STRING) WITH (path = 'bench-products.csv');
CREATE MATERIALIZED VIEW by_category AS
SELECT window_start, p.category, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute') AS c JOIN products AS p ON c.product_id = p.product_id
GROUP BY window_start, p.category;
