-- The ten products that drew most in the last five minutes, anew each minute.
CREATE MATERIALIZED VIEW trending_products AS
SELECT window_start, window_end, place, product_id, views, carts
FROM (
  SELECT *, row_number() OVER (PARTITION BY window_start ORDER BY views + 3 * carts DESC, product_id) AS place
  FROM (
    SELECT window_start, window_end, product_id,
           count(*) FILTER (WHERE event_type = 'product_view') AS views,
           count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts
    FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(event_ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))
    GROUP BY window_start, window_end, product_id
  )
)
WHERE place <= 10;

-- Every product, every ten seconds.
CREATE MATERIALIZED VIEW product_sales AS
SELECT window_start, window_end, product_id,
       count(*) AS events,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '10 seconds')
GROUP BY window_start, window_end, product_id;

-- What becomes of views: rates per product and hour, without products that nobody saw.
CREATE MATERIALIZED VIEW product_performance AS
SELECT window_start, window_end, product_id, views, users,
       carts / CAST(views AS DOUBLE) AS cart_rate,
       purchases / CAST(views AS DOUBLE) AS purchase_rate,
       revenue
FROM (
  SELECT window_start, window_end, product_id,
         count(DISTINCT user_id) AS users,
         count(*) FILTER (WHERE event_type = 'product_view') AS views,
         count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
         count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
         sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue
  FROM TUMBLE(clicks, event_ts, INTERVAL '1 hour')
  GROUP BY window_start, window_end, product_id
)
WHERE views > 0;
