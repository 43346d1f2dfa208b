-- Where traffic and revenue come from, with a row of totals (country NULL, is_total 1).
CREATE MATERIALIZED VIEW countries_per_minute AS
SELECT window_start, window_end, country, grouping(country) AS is_total,
       count(*) AS events,
       sum(price * quantity) FILTER (WHERE event_type = 'purchase') AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
GROUP BY window_start, window_end, ROLLUP (country);

-- By device and campaign.
CREATE MATERIALIZED VIEW traffic_per_minute AS
SELECT window_start, window_end, device['type'] AS device_type, device['os'] AS os, utm['source'] AS campaign,
       count(*) AS events,
       count(DISTINCT session_id) AS sessions,
       count(*) FILTER (WHERE event_type = 'purchase') AS purchases
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
GROUP BY window_start, window_end, device['type'], device['os'], utm['source'];

-- Patterns of the day.
CREATE MATERIALIZED VIEW traffic_per_hour AS
SELECT window_start, window_end, date_part('hour', window_start) AS hour, count(*) AS events,
       approx_distinct(user_id) AS users
FROM TUMBLE(clicks, event_ts, INTERVAL '1 hour')
GROUP BY window_start, window_end;
