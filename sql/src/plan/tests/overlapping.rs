//! Windows that share panes, finished together, against each of them by itself over all of its panes: whatever is merged for
//! several of them, whichever have left, and whatever came too late for some.

use datafusion::arrow::array::RecordBatch;
use thalweg_engine::spec::{Unit, ViewSpec};
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::left::Left;
use thalweg_engine::view::lower::LowerHalf;
use thalweg_engine::view::panes::Panes;
use thalweg_engine::view::part::Part;
use thalweg_engine::view::upper::{WindowPart, finish, reduce};
use thalweg_engine::view::{Above, Finishing, Room};

use super::halves::{BEGIN, ROWS, SECOND, in_pieces, random_of, rows, told, windowed};
use super::view;

const HOP: &str = "HOP(t, ts, INTERVAL '1 s', INTERVAL '90 s')";
/// Panes of two seconds, and windows that begin every other one.
const UNEVEN: &str = "HOP(t, ts, INTERVAL '4 s', INTERVAL '70 s')";
const CUMULATE: &str = "CUMULATE(t, ts, INTERVAL '2 s', INTERVAL '2 minutes')";

/// The windows that have not passed, one by one.
async fn plainly(spec: &ViewSpec, panes: &Panes, parts: &[Part], through: i64) -> Vec<RecordBatch> {
    let (window, cuts, upper) = windowed(spec);
    let layout = window.layout;
    let mut shares = vec![];
    for part in parts {
        for (pane, batch) in part.by_pane() {
            for mark in layout.marks_of_row(pane) {
                let (start, end) = (layout.start_of(mark), layout.end_of(mark));
                let is_open = end <= through && panes.closed_through.is_none_or(|closed| end > closed);
                let is_told = panes.born_after.is_none_or(|born| start > born) && !panes.left.holds(mark);
                if is_open && is_told && end > part.after {
                    shares.push(WindowPart {
                        cut: part.cut,
                        batch: batch.clone(),
                        bounds: Some((start, end)),
                    });
                }
            }
        }
    }
    finish(cuts, &upper.plan, &shares, &Room::unbounded()).await.unwrap()
}

async fn finished(spec: &ViewSpec, mut finishing: Finishing<'_>, room: &Room) -> (Vec<RecordBatch>, usize) {
    let (_, cuts, upper) = windowed(spec);
    let (mut rows, mut stretches) = (vec![], 0);
    while let Some(stretch) = finishing.next().await.unwrap() {
        rows.extend(stretch.finish(cuts, upper, room).await.unwrap());
        stretches += 1;
    }
    (rows, stretches)
}

/// Micro-batches that come, some too late for windows that end by then, runs that merge, windows that close now and then,
/// and looks at all that are open.
async fn check(window: &str, query: &str, seed: u64) {
    let query = query.replace("{W}", window);
    let spec = view(&query).await.unwrap_or_else(|error| panic!("{query}\n{error}"));
    let (window, cuts, upper) = windowed(&spec);
    assert!(!window.owns_panes(), "{query}: nothing is shared");
    let mut random = random_of(seed);
    let mut below = move |most: u64| (random() % most) as usize;
    let born = (below(2) == 0).then(|| BEGIN + below(40) as i64 * SECOND);
    let mut panes = Panes::new(&spec, born);
    if below(2) == 0 {
        panes.left = Left::default();
        let ends = (20..30).chain(70..71).map(|n| window.layout.newest_end(BEGIN + n * 2 * SECOND));
        panes.left.add(ends.map(|end| window.layout.mark_of_end(end)), window);
    }
    let (all, mut parts, mut first) = (rows(), vec![], 0);
    let (mut told_rows, mut pieces) = (0, 0);
    while first < ROWS {
        let length = (1 + below(160)).min(ROWS - first);
        let mut fresh = vec![];
        for leg in 0..spec.legs.len() {
            let arrived = Arrived { batch: all.slice(first, length), observed: None };
            let mut half = LowerHalf::new(&spec.shape, leg).unwrap();
            fresh.extend(half.take_in(&arrived).await.unwrap().parts);
        }
        let reached = BEGIN + (first as i64) * SECOND / 5;
        first += length;
        for part in &mut fresh {
            if below(3) == 0 {
                let after = window.layout.newest_end(reached + (below(100) as i64 - 10) * SECOND);
                *part = part.clone().taken_in_after(after);
            }
        }
        parts.extend(fresh);
        if below(3) == 0 {
            let from = below(parts.len() as u64 + 1);
            let merged =
                reduce(cuts, Unit::Window(window), &parts.split_off(from), &in_pieces()).await.unwrap();
            parts.extend(merged);
        }
        let room = if first == ROWS || below(2) == 0 { in_pieces() } else { Room::unbounded() };
        let context = format!("{query}, seed {seed}, row {first}");
        let (open, _) =
            finished(&spec, panes.open(Above { cuts, upper, only: None }, &parts, &room).unwrap(), &room)
                .await;
        assert_eq!(told(&open), told(&plainly(&spec, &panes, &parts, i64::MAX).await), "open, {context}");
        if below(3) == 0 || first == ROWS {
            let through = if first == ROWS { i64::MAX } else { reached - below(60) as i64 * SECOND };
            let through = panes.closed_through.map_or(through, |closed| closed.max(through));
            let expected = told(&plainly(&spec, &panes, &parts, through).await);
            let closing =
                panes.closing(Above { cuts, upper, only: None }, &parts, through, &room).await.unwrap();
            let (found, stretches) = finished(&spec, closing, &room).await;
            assert_eq!(told(&found), expected, "closing, {context}");
            told_rows += expected.len();
            pieces = pieces.max(stretches);
            panes.closed_through = Some(through);
            parts = panes.staying(&parts, Some(through)).unwrap();
        }
    }
    assert!(told_rows > 30 && parts.is_empty(), "{query}, seed {seed}: {told_rows} rows");
    assert!(pieces > 1 || told_rows < 100, "{query}, seed {seed}: nothing was cut");
}

const PLAIN: &str =
    "SELECT window_start, window_end, k, count(*) AS n, sum(q) AS s, min(q) AS l, max(p) AS m, avg(q) AS a
    FROM {W} GROUP BY window_start, window_end, k";

#[tokio::test]
async fn plain_aggregates() {
    for (seed, window) in [HOP, UNEVEN, CUMULATE, HOP].iter().enumerate() {
        check(window, PLAIN, seed as u64 + 1).await;
    }
}

/// By one bound or the other, over all rows or many keys.
#[tokio::test]
async fn other_keys() {
    let by_start = "SELECT window_start, count(*) AS n, sum(q) AS s FROM {W} GROUP BY window_start";
    let by_end = "SELECT window_end, u, g['c'] AS c, sum(q) AS s FROM {W} GROUP BY window_end, u, g['c']";
    for (seed, window) in [HOP, UNEVEN, CUMULATE].iter().enumerate() {
        if *window != CUMULATE {
            check(window, by_start, seed as u64 + 20).await;
        }
        check(window, by_end, seed as u64 + 30).await;
    }
}

/// What grows with its rows, and what each key is told of once.
#[tokio::test]
async fn states_that_do_not_shrink() {
    let lists = "SELECT window_end, k, median(q) AS m, percentile_cont(q, 0.9) AS p, stddev(q) AS d
        FROM {W} GROUP BY window_end, k";
    let distinct =
        "SELECT window_end, k, count(*) AS n, count(DISTINCT u) AS users, count(DISTINCT q) AS many
        FROM {W} GROUP BY window_end, k";
    for (seed, window) in [HOP, CUMULATE].iter().enumerate() {
        check(window, lists, seed as u64 + 40).await;
        check(window, distinct, seed as u64 + 50).await;
    }
}

/// Rows that are kept as they are, beside aggregates or alone.
#[tokio::test]
async fn kept_rows() {
    let over = "SELECT window_start, u, q, row_number() OVER (PARTITION BY window_start, u ORDER BY q, ts, p) AS r FROM {W}";
    check(HOP, over, 60).await;
    let joined = "SELECT a.window_start, a.k, a.n, b.q FROM
        (SELECT window_start, window_end, k, count(*) AS n FROM {W} GROUP BY window_start, window_end, k) AS a
        JOIN (SELECT window_start, window_end, k, q FROM {W} WHERE q > 48) AS b
        ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k";
    check(HOP, joined, 61).await;
}
