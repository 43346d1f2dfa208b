//! Both halves against the whole: every query runs Partial per micro-batch, PartialReduce, Final and its upper half, with
//! other cuts of batches, window by window, and must give the rows of the plain query over a table of all rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListBuilder, RecordBatch, StringViewArray,
    StringViewBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type, Schema, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::UnboundedMemoryPool;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use thalweg_engine::spec::{Cut, Layout, TIME_COLUMN, Unit, Upper, ViewShape, ViewSpec, Window};
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::lower::LowerHalf;
use thalweg_engine::view::panes::Panes;
use thalweg_engine::view::part::Part;
use thalweg_engine::view::sieve::{Faults, sift};
use thalweg_engine::view::upper::reduce;
use thalweg_engine::view::{Above, Room};

use super::{STREAM, stream, view};

pub(super) const ROWS: usize = 1500;
/// Two windows before the rows begin, and two after they end.
pub(super) const BEGIN: i64 = 1_700_000_000_000_000;
pub(super) const SECOND: i64 = 1_000_000;

pub(super) fn rows() -> RecordBatch {
    let schema = Arc::clone(&stream(STREAM).schema);
    let mut seed: u64 = 88172645463325252;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let times =
        (0..ROWS as i64).map(|row| BEGIN + (row / 10 * 10 + row * 7 % 10) * 200_000).collect::<Vec<_>>();
    let mut text = |prefix: &str, of: u64, nulls: u64| -> ArrayRef {
        let values = (0..ROWS).map(|_| (random() % nulls != 0).then(|| format!("{prefix}{}", random() % of)));
        Arc::new(StringViewArray::from_iter(values))
    };
    let (key, user, country) =
        (text("key", 3, 20), text("a_rather_long_user_number_", 80, 1000), text("c", 4, 10));
    let floats = |random: &mut dyn FnMut() -> u64| -> ArrayRef {
        Arc::new(Float64Array::from_iter((0..ROWS).map(|_| match random() % 17 {
            0 => None,
            1 => Some(0.0),
            2 => Some(-0.0),
            _ => Some((random() % 64) as f64 / 64.0),
        })))
    };
    let (price, depth) = (floats(&mut random_of(3)), floats(&mut random_of(4)));
    let mut random = random_of(5);
    let quantity: ArrayRef =
        Arc::new(Int64Array::from_iter_values((0..ROWS).map(|_| (random() % 50) as i64)));
    let mut tags = ListBuilder::new(StringViewBuilder::new());
    for _ in 0..ROWS {
        for _ in 0..random() % 3 {
            tags.values().append_value(format!("tag{}", random() % 4));
        }
        tags.append(true);
    }
    let DataType::Struct(fields) = schema.field(5).data_type() else { panic!() };
    let nested: ArrayRef = Arc::new(StructArray::new(fields.clone(), vec![country, depth], None));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
    let tags = cast(&(Arc::new(tags.finish()) as ArrayRef), schema.field(6).data_type()).unwrap();
    RecordBatch::try_new(schema, vec![times, key, user, price, quantity, nested, tags]).unwrap()
}

pub(super) fn random_of(mut seed: u64) -> impl FnMut() -> u64 {
    seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

/// Rows as text, with floats rounded, since their sums depend on the order of merging.
pub(super) fn told(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = vec![];
    for batch in batches {
        let columns: Vec<ArrayRef> = batch.columns().iter().map(rounded).collect();
        let formats: Vec<_> =
            columns.iter().map(|it| ArrayFormatter::try_new(it, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(formats.iter().map(|it| it.value(row).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    rows.sort();
    rows
}

fn rounded(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<arrow::datatypes::Float64Type>();
            Arc::new(values.unary::<_, arrow::datatypes::Float64Type>(|it| (it * 1e6).round() / 1e6 + 0.0))
        }
        _ => Arc::clone(column),
    }
}

/// The plain query, over a table of all rows joined to a table of all windows.
async fn expected(query: &str, size: i64, slide: i64) -> (Arc<Schema>, Vec<RecordBatch>) {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    // DataFusion's own has six digits.
    context.register_udaf(crate::plan::percentile::exact().as_ref().clone());
    context.register_batch("t", rows()).unwrap();
    let first = (BEGIN - 2 * size).div_euclid(slide);
    let last = (BEGIN + ROWS as i64 * SECOND / 5 + 2 * size).div_euclid(slide);
    let starts = TimestampMicrosecondArray::from_iter_values((first..=last).map(|it| it * slide));
    let starts: ArrayRef = Arc::new(starts.with_timezone("UTC"));
    let windows = RecordBatch::try_from_iter([("window_start", starts)]).unwrap();
    context
        .register_table("w", Arc::new(MemTable::try_new(windows.schema(), vec![vec![windows]]).unwrap()))
        .unwrap();
    let windowed = format!(
        "(SELECT t.*, window_start, window_start + INTERVAL '{size} microseconds' AS window_end FROM t
          JOIN w ON ts >= window_start AND ts < window_start + INTERVAL '{size} microseconds')"
    );
    let frame = context.sql(&query.replace("{W}", &windowed)).await.unwrap();
    let schema = Arc::new(frame.schema().as_arrow().clone());
    (schema, frame.collect().await.unwrap())
}

pub(super) fn windowed(spec: &ViewSpec) -> (Window, &[Cut], &Upper) {
    match &spec.shape {
        ViewShape::Units { unit: Unit::Window(window), cuts, upper, .. } => (*window, cuts, upper),
        _ => panic!("a copy, or without a window"),
    }
}

async fn lowered(spec: &ViewSpec, batch: RecordBatch) -> Vec<Part> {
    let mut half = LowerHalf::new(&spec.shape, 0).unwrap();
    half.take_in(&Arrived { batch, observed: None }).await.unwrap().parts
}

/// Merging and closing take a few kilobytes at a time, as they take megabytes of what is much.
pub(super) fn in_pieces() -> Room {
    Room::of(Arc::new(UnboundedMemoryPool::default()), 4 << 10)
}

/// What the view files, in micro-batches of `batch_rows`, reduced a few at a time.
async fn parts(spec: &ViewSpec, batch_rows: usize) -> Vec<Part> {
    let (window, cuts, _) = windowed(spec);
    let (all, mut filed) = (rows(), vec![]);
    for start in (0..ROWS).step_by(batch_rows) {
        filed.push(lowered(spec, all.slice(start, batch_rows.min(ROWS - start))).await);
    }
    let mut reduced = vec![];
    for few in filed.chunks(3) {
        reduced.extend(reduce(cuts, Unit::Window(window), &few.concat(), &in_pieces()).await.unwrap());
    }
    reduced
}

/// Most of it in one part, and of a few groups something newer.
async fn uneven_parts(spec: &ViewSpec) -> Vec<Part> {
    const NEW: usize = 8;
    let (window, cuts, _) = windowed(spec);
    let all = rows();
    let old = [all.slice(0, ROWS / 2), all.slice(ROWS / 2 + NEW, ROWS / 2 - NEW)];
    let old = [lowered(spec, old[0].clone()).await, lowered(spec, old[1].clone()).await].concat();
    let old = reduce(cuts, Unit::Window(window), &old, &Room::unbounded()).await.unwrap();
    let new = lowered(spec, all.slice(ROWS / 2, NEW)).await;
    [old, new].concat()
}

/// The rows of all windows that end by `through` and have not left yet, which leave.
async fn leave(spec: &ViewSpec, panes: &mut Panes, parts: &[Part], through: i64) -> Vec<RecordBatch> {
    let (_, cuts, upper) = windowed(spec);
    let (room, mut rows) = (in_pieces(), vec![]);
    let mut closing = panes.closing(Above { cuts, upper, only: None }, parts, through, &room).await.unwrap();
    while let Some(stretch) = closing.next().await.unwrap() {
        rows.extend(stretch.finish(cuts, upper, &room).await.unwrap());
    }
    drop(closing);
    panes.closed_through = Some(through);
    rows
}

async fn closed(spec: &ViewSpec, batch_rows: usize) -> Vec<RecordBatch> {
    let (window, ..) = windowed(spec);
    let Layout::Hop { size, slide, .. } = window.layout else { panic!("windows of {window:?}") };
    let parts = parts(spec, batch_rows).await;
    let (mut panes, mut found) = (Panes::new(spec, None), vec![]);
    let first = (BEGIN - 2 * size).div_euclid(slide);
    let last = (BEGIN + ROWS as i64 * SECOND / 5 + 2 * size).div_euclid(slide);
    for start in (first..=last).map(|it| it * slide) {
        for batch in leave(spec, &mut panes, &parts, start + size).await {
            let time = batch.column(batch.num_columns() - 1);
            let times = time.as_primitive::<TimestampMicrosecondType>();
            assert!(times.iter().all(|it| it == Some(start)), "rows tell another time than their window's");
            found.push(batch);
        }
    }
    found
}

fn without_time(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let columns = |batch: &RecordBatch| (0..batch.num_columns() - 1).collect::<Vec<_>>();
    batches.iter().map(|batch| batch.project(&columns(batch)).unwrap()).collect()
}

/// As the types of the view, in which a table holds the rows.
fn as_types_of(batches: &[RecordBatch], schema: &Schema) -> Vec<RecordBatch> {
    let cast_all = |batch: &RecordBatch| {
        let pairs = batch.columns().iter().zip(schema.fields());
        let columns: Vec<_> = pairs
            .map(|(column, field)| (field.name().clone(), cast(column, field.data_type()).unwrap()))
            .collect();
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, it)| (name, it, true)))
            .unwrap()
    };
    batches.iter().map(cast_all).collect()
}

fn seconds(window: &str) -> (i64, i64) {
    let numbers: Vec<i64> =
        window.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect();
    (numbers[numbers.len() - 1] * SECOND, numbers[0] * SECOND)
}

/// `{W}` in the query stands for the window function over `t`.
async fn check_in(window: &str, query: &str) -> ViewSpec {
    check_against(window, query, query).await
}

/// The same, where the plain query must be written otherwise.
async fn check_against(window: &str, query: &str, plain: &str) -> ViewSpec {
    let spec = view(&query.replace("{W}", window)).await.unwrap_or_else(|error| panic!("{query}\n{error}"));
    let (size, slide) = seconds(window);
    let (schema, whole) = expected(plain, size, slide).await;
    let names = |schema: &Schema| schema.fields().iter().map(|it| it.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&spec.schema), names(&schema), "{query}");
    let whole = told(&as_types_of(&whole, &spec.schema));
    assert!(!whole.is_empty(), "{query}: the plain query has no rows");
    for batch_rows in [ROWS, 400, 61] {
        let found = closed(&spec, batch_rows).await;
        for batch in &found {
            assert_eq!(batch.schema().field(batch.num_columns() - 1).name(), TIME_COLUMN);
            assert_eq!(
                batch.project(&(0..spec.schema.fields().len()).collect::<Vec<_>>()).unwrap().schema(),
                spec.schema
            );
        }
        assert_eq!(told(&without_time(&found)), whole, "{query}\nin batches of {batch_rows} rows");
    }
    let at_once = leave(&spec, &mut Panes::new(&spec, None), &parts(&spec, 61).await, i64::MAX).await;
    assert_eq!(told(&without_time(&at_once)), whole, "{query}\nall windows at once");
    let uneven = uneven_parts(&spec).await;
    let (panes, (window, cuts, upper)) = (Panes::new(&spec, None), windowed(&spec));
    let mut room = Room::unbounded();
    room.few_rows = 0;
    let mut closing =
        panes.closing(Above { cuts, upper, only: None }, &uneven, i64::MAX, &room).await.unwrap();
    let (mut found, mut alone) = (vec![], false);
    while let Some(stretch) = closing.next().await.unwrap() {
        alone |= stretch.is_alone;
        found.extend(stretch.finish(cuts, upper, &room).await.unwrap());
    }
    drop(closing);
    assert_eq!(told(&without_time(&found)), whole, "{query}\nmost of it in one part");
    assert!(alone || !upper.by_group || !window.layout.tumbles(), "{query}");
    spec
}

const TUMBLE: &str = "TUMBLE(t, ts, INTERVAL '60 s')";
const HOP: &str = "HOP(t, ts, INTERVAL '20 s', INTERVAL '50 s')";

async fn check(query: &str) {
    check_in(TUMBLE, query).await;
    check_in(HOP, query).await;
}

#[tokio::test]
async fn plain_aggregates() {
    check(
        "SELECT window_start, window_end, k, count(*) AS n, count(p) AS np, sum(q) AS s, sum(p) AS sp, avg(p) AS a,
           min(q) AS least, max(u) AS most, stddev(p) AS sd, var_pop(p) AS v, median(q) AS med, bool_or(q > 48) AS any,
           bit_xor(q) AS x, approx_distinct(u) AS approx, corr(p, q) AS c
         FROM {W} GROUP BY window_start, window_end, k",
    )
    .await;
    check("SELECT window_end, sum(q) AS s FROM {W} GROUP BY window_end").await;
    check("SELECT count(*) AS n FROM {W} GROUP BY window_start").await;
}

#[tokio::test]
async fn ordered_aggregates() {
    check(
        "SELECT window_start, array_agg(q ORDER BY ts, q, u) AS a, array_agg(q ORDER BY ts DESC, q DESC, u DESC) AS b,
           first_value(q ORDER BY ts, q, u) AS f, last_value(u ORDER BY ts, q, u) AS l,
           string_agg(u, ',' ORDER BY ts, q, u) FILTER (WHERE q > 45) AS s, nth_value(q, 2 ORDER BY ts, q, u) AS n
         FROM {W} GROUP BY window_start",
    )
    .await;
    // DataFusion itself panics on some of these.
    let idle =
        "SELECT window_start, k, avg(q ORDER BY ts) AS a, count(q ORDER BY ts) AS c, max(q ORDER BY ts) AS m,
           median(q ORDER BY ts) AS e, stddev(p ORDER BY ts) AS s, bit_or(q ORDER BY ts DESC) AS b
         FROM {W} GROUP BY window_start, k";
    let plain = idle.replace(" ORDER BY ts DESC", "").replace(" ORDER BY ts", "");
    check_against(TUMBLE, idle, &plain).await;
    check_against(HOP, idle, &plain).await;
}

/// To a percentile the direction of its order is which tail it is of.
#[tokio::test]
async fn percentiles_of_both_tails() {
    check(
        "SELECT window_start, percentile_cont(0.9) WITHIN GROUP (ORDER BY q DESC) AS low,
           percentile_cont(0.9) WITHIN GROUP (ORDER BY q) AS high, quantile_cont(p, 0.25 ORDER BY p DESC) AS p,
           percentile_cont(1) WITHIN GROUP (ORDER BY q DESC) AS least, percentile_cont(q, 0.9) AS plain,
           abs(approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY q DESC) -
               approx_percentile_cont(0.1) WITHIN GROUP (ORDER BY q)) <= 1 AS approx,
           abs(approx_percentile_cont_with_weight(1, 0.9) WITHIN GROUP (ORDER BY q DESC) -
               approx_percentile_cont_with_weight(1, 0.1) WITHIN GROUP (ORDER BY q)) <= 1 AS weighed
         FROM {W} GROUP BY window_start",
    )
    .await;
}

#[tokio::test]
async fn filters_and_expressions() {
    check(
        "SELECT window_start, k, g['c'] AS country, sum(p * q) FILTER (WHERE p * q > 10) AS revenue,
           CASE WHEN count(*) > 3 THEN round(avg(p * q), 2) END AS average, max(g['d']) - min(g['d']) AS spread
         FROM {W} WHERE q > 5 AND p IS NOT NULL GROUP BY window_start, k, g['c'] HAVING count(*) > 1",
    )
    .await;
    check("SELECT upper(k) || '!' AS name, window_start AS w, q % 3 AS r, sum(q) AS s FROM {W} GROUP BY upper(k) || '!', window_start, q % 3").await;
    check("SELECT window_start, sum(p * q) AS a, avg(p * q) AS b, max(p * q) FILTER (WHERE p * q > 10) AS c FROM {W} WHERE p * q > 5 GROUP BY window_start").await;
}

#[tokio::test]
async fn distinct_of_all_kinds() {
    let spec = check_in(
        HOP,
        "SELECT window_start, window_end, k, count(*) AS n, count(DISTINCT u) AS users, sum(DISTINCT q) AS s, avg(p) AS a,
           count(DISTINCT u) FILTER (WHERE q > 25) AS buyers, max(DISTINCT q) AS m, count(DISTINCT abs(p)) AS prices
         FROM {W} GROUP BY window_start, window_end, k",
    )
    .await;
    assert_eq!(windowed(&spec).1.len(), 5, "plain, u, q, u of buyers, p");
    let spec =
        check_in(TUMBLE, "SELECT window_start, count(DISTINCT u) AS n FROM {W} GROUP BY window_start").await;
    assert_eq!(windowed(&spec).1.len(), 1);
    check("SELECT window_start, upper(k) AS k, count(DISTINCT u) AS a, count(DISTINCT k) AS b FROM {W} GROUP BY window_start, upper(k)").await;
    check("SELECT DISTINCT window_start, k FROM {W}").await;
    check("SELECT DISTINCT n, window_start FROM (SELECT window_start, k, count(*) / 10 AS n FROM {W} GROUP BY window_start, k)").await;
    check("SELECT window_start, k, p, count(*) AS n, count(DISTINCT q) AS d FROM {W} GROUP BY window_start, k, p").await;
}

#[tokio::test]
async fn windows_under_another_name() {
    check(
        "SELECT c.window_start, c.k, count(*) AS n FROM {W} AS c WHERE c.q > 3 GROUP BY c.window_start, c.k",
    )
    .await;
    check("SELECT c.window_end AS e, count(DISTINCT c.u) AS n, sum(c.q) AS s FROM {W} AS c GROUP BY c.window_end").await;
}

/// A bound beside the one by which panes are found can't be a pane's.
#[tokio::test]
async fn bounds_that_are_named_twice() {
    let twice = "SELECT a, b, count(*) AS n FROM (SELECT window_start AS a, window_start AS b FROM {W}) GROUP BY a, b";
    assert!(windowed(&check_in(HOP, twice).await).0.expanded);
    check(twice).await;
    check("SELECT window_start AS a, window_start AS b, k, count(*) AS n FROM {W} GROUP BY a, b, k").await;
    check("SELECT DISTINCT window_start AS a, window_end AS b, window_start AS c FROM {W}").await;
    check(
        "SELECT window_start, window_end, k, count(*) AS n FROM {W}
         GROUP BY GROUPING SETS ((window_start, window_end, k), (window_start))",
    )
    .await;
}

/// A state written by one is read by the other.
/// Of rows that a view can't take every one is found without running its plan over each.
#[tokio::test]
async fn rows_that_fail_are_found_by_their_expressions() {
    let query =
        "SELECT window_start, k, sum(100 / q) AS s, max(q % 7) AS m FROM TUMBLE(t, ts, INTERVAL '60 s')
                 WHERE u <> 'nobody' AND q < 40 GROUP BY window_start, k";
    let ViewShape::Units { cuts, .. } = view(query).await.unwrap().shape else { panic!("it has a window") };
    let batch = rows();
    let q = batch.column(4).as_primitive::<Int64Type>();
    let users = batch.column(2);
    let zero = |row: &u32| q.value(*row as usize) == 0 && users.is_valid(*row as usize);
    let expected: Vec<u32> = (0..ROWS as u32).filter(zero).collect();
    let mut found = Faults::new();
    sift(&cuts[0].lowers[0].plan, &batch, &mut found);
    assert!(expected.len() > 10);
    assert_eq!(found.into_keys().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn fingerprints_tell_states_apart() {
    let of = async |query: &str| view(query).await.unwrap().fingerprint;
    let query = "SELECT window_start, sum(q) AS s FROM TUMBLE(t, ts, INTERVAL '60 s') GROUP BY window_start";
    assert_eq!(of(query).await, of(query).await);
    assert_eq!(of(query).await, of(&query.replace(" AS s", " AS t")).await, "names of columns are no state");
    for (part, other) in [("60", "30"), ("sum(q)", "sum(p)"), ("sum(q)", "max(q)")] {
        assert_ne!(of(query).await, of(&query.replace(part, other)).await, "{part} became {other}");
    }
}

#[tokio::test]
async fn grouping_sets() {
    check(
        "SELECT window_start, k, g['c'] AS c, grouping(k) AS gk, count(*) AS n, sum(q) AS s
         FROM {W} GROUP BY window_start, ROLLUP (k, g['c'])",
    )
    .await;
    check("SELECT window_start, k, p, count(*) AS n, count(DISTINCT u) AS d FROM {W} GROUP BY window_start, CUBE (k, p)").await;
}

#[tokio::test]
async fn steps_above_the_aggregate() {
    check(
        "SELECT * FROM (SELECT window_start, k, n, row_number() OVER (PARTITION BY window_start ORDER BY n DESC, k) AS r
           FROM (SELECT window_start, k, count(*) AS n FROM {W} GROUP BY window_start, k)) WHERE r <= 2",
    )
    .await;
    check(
        "SELECT window_start, max(n) AS most, count(*) AS users FROM
           (SELECT window_start, u, count(*) AS n FROM {W} GROUP BY window_start, u) AS per_user
         GROUP BY window_start HAVING max(n) > 1",
    )
    .await;
    check("SELECT w FROM (SELECT window_start AS w, sum(q) AS s FROM {W} GROUP BY window_start) AS x").await;
    check(
        "WITH kept AS (SELECT ts, k, q * 2 AS q2, window_start AS ws FROM {W} WHERE q > 10), sums AS
           (SELECT ws, k, sum(q2) AS s FROM kept GROUP BY ws, k)
         SELECT ws, k, s, sum(s) OVER (PARTITION BY ws) AS total FROM sums",
    )
    .await;
}

#[tokio::test]
async fn windows_looked_at_below_the_aggregate() {
    let query = "SELECT window_start, count(*) FILTER (WHERE ts < window_start + INTERVAL '10 s') AS early,
                   min(ts - window_start) < INTERVAL '1 s' AS soon
                 FROM {W} GROUP BY window_start";
    assert!(windowed(&check_in(HOP, query).await).0.expanded);
    assert!(!windowed(&check_in(TUMBLE, query).await).0.expanded);
    check("SELECT window_start, count(*) AS n FROM {W} WHERE ts >= window_end - INTERVAL '15 s' GROUP BY window_start").await;
}

#[tokio::test]
async fn windows_over_subqueries_and_lists() {
    let over = "TUMBLE((SELECT ts, k, q FROM t WHERE q > 30), ts, INTERVAL '60 s')";
    let spec = view(&format!("SELECT window_start, k, sum(q) AS s FROM {over} GROUP BY window_start, k"))
        .await
        .unwrap();
    let (_, whole) = expected(
        "SELECT window_start, k, sum(q) AS s FROM {W} WHERE q > 30 GROUP BY window_start, k",
        60 * SECOND,
        60 * SECOND,
    )
    .await;
    assert_eq!(told(&without_time(&closed(&spec, 100).await)), told(&whole));
    let query = "WITH e AS (SELECT ts AS at, k FROM t) SELECT window_start, count(*) AS n FROM TUMBLE(e, at, INTERVAL '60 s') GROUP BY window_start";
    assert!(view(query).await.is_ok());
    check("SELECT window_start, tag, count(*) AS n FROM (SELECT window_start, unnest(tags) AS tag FROM {W}) GROUP BY window_start, tag").await;
}

#[tokio::test]
async fn tables_hold_other_types() {
    let query = "SELECT window_start, count(*)::BIGINT UNSIGNED AS big, arrow_cast(min(ts), 'Timestamp(Nanosecond, None)') AS first,
       arrow_cast(k, 'Dictionary(Int32, Utf8)') AS word FROM {W} GROUP BY window_start, k";
    let spec = check_in(TUMBLE, query).await;
    let types: Vec<_> = spec.schema.fields().iter().map(|it| it.data_type().to_string()).collect();
    assert_eq!(types[1..], ["Decimal128(20, 0)", "Timestamp(µs, \"UTC\")", "Utf8View"]);
}

#[tokio::test]
async fn copies() {
    let query = "SELECT ts, k AS key, p * q AS total, g['c'] AS c FROM t WHERE q > 10";
    let spec = view(query).await.unwrap();
    let ViewShape::Copy { lowers } = &spec.shape else { panic!() };
    let lower = &lowers[0];
    assert_eq!(spec.legs[0].columns, [0, 1, 3, 4, 5]);
    let found = run(lower, &rows()).await;
    let whole = expected(query, SECOND, SECOND).await.1;
    assert_eq!(told(&without_time(&found)), told(&as_types_of(&whole, &spec.schema)));
    for batch in &found {
        assert_eq!(batch.column(0), batch.column(batch.num_columns() - 1), "the time is the event's");
    }
    let hopped = view(&format!("SELECT u, window_start FROM {HOP}")).await.unwrap();
    let ViewShape::Copy { lowers } = &hopped.shape else { panic!() };
    let lower = &lowers[0];
    let (_, whole) = expected("SELECT u, window_start FROM {W}", 50 * SECOND, 20 * SECOND).await;
    assert_eq!(told(&without_time(&run(lower, &rows()).await)), told(&whole));
}

async fn run(lower: &Arc<dyn ExecutionPlan>, batch: &RecordBatch) -> Vec<RecordBatch> {
    use datafusion::execution::TaskContext;
    use thalweg_engine::view::MicroBatch;
    let config = SessionConfig::new().with_extension(Arc::new(MicroBatch(batch.clone())));
    let context = Arc::new(TaskContext::default().with_session_config(config));
    datafusion::physical_plan::collect(Arc::clone(lower), context).await.unwrap()
}

/// NaNs of other bits and both zeros are one key each, whatever batch they come in.
#[tokio::test]
async fn floats_are_canonical_keys() {
    let spec = view("SELECT window_start, p, count(*) AS n, count(DISTINCT p) AS d FROM TUMBLE(t, ts, INTERVAL '60 s') GROUP BY window_start, p").await.unwrap();
    let mut columns = rows().slice(0, 4).columns().to_vec();
    columns[0] = cast(&Int64Array::from(vec![BEGIN; 4]), columns[0].data_type()).unwrap();
    columns[3] = Arc::new(Float64Array::from(vec![
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(f64::NAN.to_bits() ^ (1 << 63) ^ 1),
    ]));
    let batch = RecordBatch::try_new(rows().schema(), columns).unwrap();
    let mut parts = lowered(&spec, batch.slice(0, 3)).await;
    parts.extend(lowered(&spec, batch.slice(3, 1)).await);
    let found = leave(&spec, &mut Panes::new(&spec, None), &parts, i64::MAX).await;
    let found = concat_batches(&found[0].schema(), &found).unwrap();
    let counts = found.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
    let distinct = found.column_by_name("d").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!((counts, distinct), (vec![2, 2], vec![1, 1]));
}
