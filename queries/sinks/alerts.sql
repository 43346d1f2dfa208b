-- Sends alerts on as they close: all of them into a topic, and what is critical to an address.
--
--   python3 queries/sinks/receiver.py &
--   export THALWEG_SECRET_HOOK=change-me
--   thalweg serve queries/*.sql queries/sinks/alerts.sql --webhooks http://127.0.0.1:9000
CREATE SINK alerts_topic INTO KAFKA (brokers = 'localhost:9092', topic = 'alerts', key = 'alert') AS
SELECT * FROM alerts;

CREATE SINK alerts_page INTO WEBHOOK (
  url = 'http://127.0.0.1:9000/alerts', secret = '${env:THALWEG_SECRET_HOOK}',
  template = '{"text": "{{level}}: {{alert}} is {{value}} at {{window_start}} (bound {{bound}})"}'
) AS SELECT * FROM alerts WHERE level = 'critical';
