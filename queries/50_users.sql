-- Distinct users of the last five minutes, anew each ten seconds.
CREATE MATERIALIZED VIEW active_users AS
SELECT window_start, window_end, count(DISTINCT user_id) AS users
FROM HOP(clicks, event_ts, INTERVAL '10 seconds', INTERVAL '5 minutes')
GROUP BY window_start, window_end;

-- Somebody buys suspiciously often.
CREATE MATERIALIZED VIEW busy_buyers WITH (allowed_lateness = '10s') AS
SELECT window_start, window_end, user_id, count(*) AS purchases, sum(price * quantity) AS spent
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute')
WHERE event_type = 'purchase'
GROUP BY window_start, window_end, user_id
HAVING count(*) > 2;
