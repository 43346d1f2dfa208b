//! Plans as `EXPLAIN` shows them.

use expect_test::{Expect, expect};

use super::view;
use crate::plan::explain;

async fn check(query: &str, expected: Expect) {
    expected.assert_eq(&explain(&view(query).await.unwrap()));
}

#[tokio::test]
async fn tumble() {
    check(
        "SELECT window_start, window_end, g['c'] AS country, count(*) AS events,
           sum(p * q) FILTER (WHERE k = 'purchase') AS revenue
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         GROUP BY window_start, window_end, g['c'] HAVING count(*) > 1",
        expect![[r#"
            view v over stream t, TUMBLE of 1 min, allowed lateness 0

            per batch, cut 0:
              AggregateExec: mode=Partial, gby=[window_start@4 as window_start, window_end@5 as window_end, get_field(g@3, c) as t.g[c]], aggr=[count(Int64(1)), sum(canonical_float(t.p * CAST(t.q AS Float64))) FILTER (WHERE t.k = Utf8View("purchase")) as sum(t.p * t.q) FILTER (WHERE t.k = Utf8("purchase"))]
                ProjectionExec: expr=[k@1 as k, p@2 as p, q@3 as q, g@4 as g, __common_expr_1@0 as window_start, shift_micros(__common_expr_1@0, 60000000) as window_end]
                  ProjectionExec: expr=[pane_start(ts@0, 60000000) as __common_expr_1, k@1 as k, p@2 as p, q@3 as q, g@4 as g]
                    CooperativeExec
                      MicroBatchExec: columns=[ts, k, p, q, g]

            when a window closes, or somebody reads:
              Projection: window_start AS window_start, window_end AS window_end, country AS country, events AS events, revenue AS revenue, __time AS __time
                Projection: window_start, window_end, t.g[c] AS country, count(Int64(1)) AS count(*) AS events, sum(t.p * t.q) FILTER (WHERE t.k = Utf8("purchase")) AS revenue, __time
                  Filter: count(Int64(1)) > Int64(1)
                    Projection: window_start, window_end, t.g[c], count(Int64(1)), sum(t.p * t.q) FILTER (WHERE t.k = Utf8("purchase")), window_start AS __time
                      StateScan: cut=0
        "#]],
    )
    .await;
}

#[tokio::test]
async fn hop_with_distinct() {
    check(
        "SELECT window_end, k, count(*) AS n, count(DISTINCT u) AS users
         FROM TABLE(HOP(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '10' SECOND, SIZE => INTERVAL '1' MINUTE))
         GROUP BY window_end, k",
        expect![[r#"
            view v over stream t, HOP of 1 min every 10 s, by shared panes, allowed lateness 0

            per batch, cut 0:
              AggregateExec: mode=Partial, gby=[window_end@1 as window_end, k@0 as k], aggr=[count(Int64(1))]
                ProjectionExec: expr=[k@1 as k, shift_micros(pane_start(ts@0, 10000000), 10000000) as window_end]
                  CooperativeExec
                    MicroBatchExec: columns=[ts, k]

            per batch, cut 1:
              AggregateExec: mode=Partial, gby=[window_end@2 as window_end, k@0 as k, u@1 as __distinct], aggr=[]
                ProjectionExec: expr=[k@1 as k, u@2 as u, shift_micros(pane_start(ts@0, 10000000), 10000000) as window_end]
                  CooperativeExec
                    MicroBatchExec: columns=[ts, k, u]

            when a window closes, or somebody reads:
              Projection: window_end AS window_end, t.k AS k, n AS n, users AS users, __time AS __time
                Projection: window_end, t.k, count(Int64(1)) AS count(*) AS n, count(DISTINCT t.u) AS users, __time
                  Projection: window_end, t.k, count(Int64(1)), count(DISTINCT t.u), shift_micros(window_end, Int64(-60000000)) AS __time
                    Projection: __key_0_0 AS window_end, __key_0_1 AS k, __value_0 AS count(Int64(1)), __value_1 AS count(DISTINCT t.u)
                      Inner Join: __key_0_0 = __key_1_0, __key_0_1 = __key_1_1
                        Projection: window_end AS __key_0_0, t.k AS __key_0_1, count(Int64(1)) AS __value_0
                          StateScan: cut=0
                        Projection: window_end AS __key_1_0, t.k AS __key_1_1, __of_0 AS __value_1
                          Aggregate: groupBy=[[window_end, t.k]], aggr=[[count(__distinct) AS __of_0]]
                            StateScan: cut=1
        "#]],
    )
    .await;
}

#[tokio::test]
async fn copy() {
    check(
        "SELECT ts, upper(k) AS k FROM t WHERE q > 1",
        expect![[r#"
        view v copies rows of stream t

        per batch:
          ProjectionExec: expr=[ts@0 as ts, upper(k@1) as k, ts@0 as __time]
            FilterExec: q@2 > 1, projection=[ts@0, k@1]
              CooperativeExec
                MicroBatchExec: columns=[ts, k, q]
    "#]],
    )
    .await;
}

#[tokio::test]
async fn looking_around() {
    check(
        "SELECT a.ts, a.k, b.p FROM t AS a LEFT JOIN t AS b
         ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '5 seconds' AND a.ts + INTERVAL '1 minute'",
        expect![[r#"
            view v over stream t, units of 5 s that look around, allowed lateness 0

            per batch of leg 0, stream t, cut 0:
              FilterExec: takes(ts@0 - IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 5000000000 }, ts@0 + IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 60000000000 })
                CooperativeExec
                  MicroBatchExec: columns=[ts, k]

            per batch of leg 1, stream t, cut 1, looked at by units from 5 s before it to 1 min after it:
              CooperativeExec
                MicroBatchExec: columns=[ts, k, p]

            when a window closes, or somebody reads:
              Projection: a.ts AS ts, a.k AS k, b.p AS p, __time AS __time
                Projection: a.ts, a.k, b.p, __time
                  Left Join: a.k = b.k Filter: b.ts BETWEEN a.ts - IntervalMonthDayNano("IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 5000000000 }") AND a.ts + IntervalMonthDayNano("IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 60000000000 }")
                    Projection: __rows_0.c0 AS ts, __rows_0.c1 AS k, __rows_0.c0 AS __time
                      Projection: __rows_0.c0, __rows_0.c1
                        StateScan: cut=0
                    Projection: __rows_1.c0 AS ts, __rows_1.c1 AS k, __rows_1.c3 AS p
                      Projection: __rows_1.c0, __rows_1.c1, __rows_1.c3
                        StateScan: cut=1
        "#]],
    )
    .await;
}

#[tokio::test]
async fn days_of_a_zone() {
    check(
        "SELECT window_end, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 day', 'Europe/Berlin') GROUP BY window_end",
        expect![[r#"
            view v over stream t, TUMBLE of 1 day of Europe/Berlin, allowed lateness 0

            per batch, cut 0:
              AggregateExec: mode=Partial, gby=[window_end@0 as window_end], aggr=[count(Int64(1))]
                ProjectionExec: expr=[window_end_from(pane_start(ts@0, 1 days of Europe/Berlin), 1 days of Europe/Berlin) as window_end]
                  CooperativeExec
                    MicroBatchExec: columns=[ts]

            when a window closes, or somebody reads:
              Projection: window_end AS window_end, n AS n, __time AS __time
                Projection: window_end, count(Int64(1)) AS count(*) AS n, __time
                  Projection: window_end, count(Int64(1)), window_start_until(window_end, Utf8("1 days of Europe/Berlin")) AS __time
                    StateScan: cut=0
        "#]],
    )
    .await;
}
