//! Which columns are keys: by the first the closed rows of one window are in order, and by all of them open rows can be asked for,
//! of which then no others are finished.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::common::ToDFSchema;
use datafusion::prelude::{Expr, SessionContext, col, lit};
use thalweg_engine::ids::Epoch;
use thalweg_engine::spec::ViewShape;
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::panes::Panes;
use thalweg_engine::view::{Only, OpenInput, OpenPanes, Room};

use super::halves::{ROWS, in_pieces, rows, told};
use super::view;

async fn key_of(query: &str) -> Option<String> {
    let view = view(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let ViewShape::Units { upper, .. } = view.shape else { panic!("{query}: it keeps nothing") };
    upper.first_key().map(|column| view.schema.field(column).name().clone())
}

#[tokio::test]
async fn it_is_the_first_that_groups_and_is_no_bound() {
    let tumbling = "FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY";
    for (query, key) in [
        (
            format!("SELECT window_start, count(*) AS n, u AS who, k {tumbling} window_start, k, u"),
            Some("who"),
        ),
        (format!("SELECT window_end, upper(k) AS loud, k {tumbling} window_end, k"), Some("k")),
        (format!("SELECT window_start, concat(k, count(*)) AS told {tumbling} window_start, k"), None),
        (format!("SELECT window_start, count(*) AS n {tumbling} window_start"), None),
        (format!("SELECT window_start, tags, k {tumbling} window_start, tags, k"), Some("k")),
        (
            format!(
                "SELECT * FROM (SELECT window_start AS since, k AS who, count(*) AS n {tumbling} since, who) WHERE n > 1"
            ),
            Some("who"),
        ),
        ("SELECT DISTINCT k FROM t".into(), Some("k")),
    ] {
        assert_eq!(key_of(&query).await.as_deref(), key, "{query}");
    }
}

/// What the view has open of all rows, those that its plans have not seen yet among them.
async fn open(query: &str) -> OpenPanes {
    let view = Arc::new(view(query).await.unwrap_or_else(|error| panic!("{query}: {error}")));
    let all = rows();
    let arrived = (0..ROWS).step_by(400).map(|first| {
        let batch = all.slice(first, 400.min(ROWS - first));
        (Epoch(1), Arc::new(Arrived { batch, observed: None }))
    });
    let arrived = OpenInput::Stream { arrived: Arc::new(arrived.collect()), runs: Epoch(1)..=Epoch(1) };
    OpenPanes::Panes { panes: Arc::new(Panes::new(&view, None)), view, inputs: vec![arrived] }
}

/// The rows that pass, whatever is asked of the open panes, and those that came.
async fn asked(open: &OpenPanes, filter: &Expr, by_key: bool, room: &Room) -> [Vec<String>; 2] {
    let OpenPanes::Panes { view, .. } = open else { panic!("it has no panes") };
    let columns = Arc::clone(&view.schema).to_dfschema().unwrap();
    let filter = SessionContext::new().create_physical_expr(filter.clone(), &columns).unwrap();
    let only = by_key.then(|| Only::of(open.upper().unwrap(), vec![Arc::clone(&filter)]).unwrap());
    let came = open.finish(only.as_ref(), room).await.unwrap();
    let passes = |batch: &RecordBatch| {
        let passes = filter.evaluate(batch).unwrap().into_array(batch.num_rows()).unwrap();
        filter_record_batch(batch, passes.as_boolean()).unwrap()
    };
    [told(&came.iter().map(passes).collect::<Vec<_>>()), told(&came)]
}

#[tokio::test]
async fn who_asks_by_keys_is_told_what_a_filter_leaves_of_all() {
    let counts = "count(*) AS n, sum(q) AS s, avg(p) AS a";
    let filters = [
        col("k").eq(lit("key1")),
        col("k").is_null(),
        col("k").eq(lit("key0")).or(col("k").is_null()),
        col("k").in_list(vec![lit("key1"), lit("none")], true),
        col("k").eq(lit("none")),
    ];
    for (query, finishes_no_others) in [
        (
            format!(
                "SELECT window_start, k, u, {counts} FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start, k, u"
            ),
            true,
        ),
        (
            format!(
                "SELECT upper(u) AS u, k, n FROM (SELECT k, u, window_end, {counts} FROM TUMBLE(t, ts, INTERVAL '7 s') GROUP BY window_end, k, u) WHERE n > 1"
            ),
            true,
        ),
        (format!("SELECT k, {counts} FROM t GROUP BY k"), true),
        (
            format!(
                "SELECT window_start, window_end, k, {counts} FROM SESSION(t PARTITION BY k, ts, INTERVAL '1 s') GROUP BY window_start, window_end, k"
            ),
            true,
        ),
        (
            format!(
                "SELECT window_start, k, {counts} FROM HOP(t, ts, INTERVAL '1 s', INTERVAL '30 s') GROUP BY window_start, k"
            ),
            false,
        ),
        (
            format!(
                "SELECT window_start, k, g['c'] AS c, {counts} FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY GROUPING SETS ((window_start, k), (window_start, g['c']))"
            ),
            true,
        ),
    ] {
        let open = open(&query).await;
        for room in [Room::unbounded(), in_pieces()] {
            for filter in &filters {
                let [left, all] = asked(&open, filter, false, &room).await;
                let [passed, came] = asked(&open, filter, true, &room).await;
                assert_eq!(passed, left, "{query}, {filter}");
                assert!(left.len() < all.len(), "{query}: {filter} takes out nothing");
                assert!(!finishes_no_others || came == left, "{query}: others were finished, too: {filter}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_key_is_not_asked_by() {
    let tumbling = "FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start, k";
    for (query, keys) in [
        (format!("SELECT window_start, k, count(*) AS n {tumbling}"), Some(vec![false, true, false])),
        (format!("SELECT upper(k) AS k, count(*) AS n {tumbling}"), Some(vec![false, false])),
        // Whoever ranks looks at all of a window.
        (
            format!(
                "SELECT k, n, row_number() OVER (PARTITION BY window_start ORDER BY n DESC, k) AS r FROM (SELECT window_start, k, count(*) AS n {tumbling})"
            ),
            None,
        ),
        (format!("SELECT k, count(DISTINCT u) AS us, count(*) AS n {tumbling}"), None),
    ] {
        let open = open(&query).await;
        // The last is the hidden time.
        let keys_of = |keys: &[Option<usize>]| keys[..keys.len() - 1].iter().map(Option::is_some).collect();
        let found: Option<Vec<bool>> = open.upper().map(|upper| keys_of(&upper.keys));
        assert_eq!(found, keys, "{query}");
    }
}
