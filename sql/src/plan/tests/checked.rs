//! Sums and arithmetic of views, at the ends of their types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use thalweg_engine::spec::{ViewShape, ViewSpec};
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::lower::LowerHalf;
use thalweg_engine::view::panes::Panes;
use thalweg_engine::view::part::Part;
use thalweg_engine::view::upper::reduce;
use thalweg_engine::view::{Above, Room};

use super::{STREAM, stream, view};

fn batch(quantities: &[i64]) -> RecordBatch {
    let schema = Arc::clone(&stream(STREAM).schema);
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "ts" => cast(&Int64Array::from(vec![1_000_000; quantities.len()]), field.data_type()).unwrap(),
            "q" => Arc::new(Int64Array::from(quantities.to_vec())),
            _ => new_null_array(field.data_type(), quantities.len()),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

async fn parts(spec: &ViewSpec, quantities: &[i64]) -> Result<Vec<Part>, String> {
    let mut half = LowerHalf::new(&spec.shape, 0).unwrap();
    let arrived = Arrived { batch: batch(quantities), observed: None };
    Ok(half.take_in(&arrived).await.map_err(|error| crate::Error::from(error).to_string())?.parts)
}

/// Why the only row that fails does.
async fn refusal(spec: &ViewSpec, quantities: &[i64]) -> String {
    let mut half = LowerHalf::new(&spec.shape, 0).unwrap();
    let arrived = Arrived { batch: batch(quantities), observed: None };
    let failed = half.take_in(&arrived).await.unwrap().failed;
    let [only] = &failed[..] else { panic!("{failed:?}") };
    only.fault.reason.clone()
}

/// Each list of quantities is a micro-batch; the first two are merged before the rest comes.
async fn sum_of(spec: &ViewSpec, batches: &[&[i64]], change: impl Fn(Part) -> Part) -> Result<i64, String> {
    let ViewShape::Units { unit, cuts, upper, .. } = &spec.shape else { panic!() };
    let mut filed = vec![];
    for quantities in batches {
        filed.extend(parts(spec, quantities).await?.into_iter().map(&change));
    }
    let rest = filed.split_off(2.min(filed.len()));
    let mut merged = reduce(cuts, *unit, &filed, &Room::unbounded()).await.unwrap();
    merged.extend(rest);
    let mut rows = vec![];
    let room = Room::unbounded();
    let panes = Panes::new(spec, None);
    let mut closing =
        panes.closing(Above { cuts, upper, only: None }, &merged, i64::MAX, &room).await.unwrap();
    while let Some(stretch) = closing.next().await.unwrap() {
        let finished = stretch.finish(cuts, upper, &room).await;
        rows.extend(finished.map_err(|error| crate::Error::from(error).to_string())?);
    }
    let rows = rows.iter().find(|rows| rows.num_rows() > 0).unwrap();
    Ok(rows.column(1).as_primitive::<Int64Type>().value(0))
}

const SUM: &str =
    "SELECT window_start, sum(q) AS s FROM TUMBLE(t, ts, INTERVAL '60 s') GROUP BY window_start";

#[tokio::test]
async fn a_sum_is_exact_in_whatever_order_its_parts_come() {
    let spec = view(SUM).await.unwrap();
    let same = |part| part;
    let (most, expected) = (i64::MAX, Ok(i64::MAX - 4));
    for order in [[most, 1, -5], [1, most, -5], [-5, 1, most], [1, -5, most]] {
        let alone = order.map(|it| [it]);
        assert_eq!(sum_of(&spec, &alone.each_ref().map(|it| &it[..]), same).await, expected, "{order:?}");
        assert_eq!(sum_of(&spec, &[&order], same).await, expected, "{order:?}");
    }
}

#[tokio::test]
async fn a_sum_that_does_not_fit_says_what_to_write() {
    let spec = view(SUM).await.unwrap();
    expect_test::expect![[r#"
        sum(t.q) does not fit in BIGINT
        hint: write sum(CAST(… AS DECIMAL(38, 0)))"#]]
    .assert_eq(&sum_of(&spec, &[&[i64::MAX], &[1]], |part| part).await.unwrap_err());
    let cast = SUM.replace("sum(q)", "CAST(sum(CAST(q AS DECIMAL(38, 0))) / 2 AS BIGINT)");
    let spec = view(&cast).await.unwrap();
    assert_eq!(sum_of(&spec, &[&[i64::MAX], &[1]], |part| part).await, Ok(1 << 62));
}

#[tokio::test]
async fn arithmetic_on_a_row_fails_rather_than_wraps() {
    let spec = view(&SUM.replace("sum(q)", "sum(q * 2)")).await.unwrap();
    assert_eq!(sum_of(&spec, &[&[3], &[4]], |part| part).await, Ok(14));
    expect_test::expect![[r#"
        an expression fails: 9223372036854775807 * 2 does not fit in BIGINT, in q * 2
        hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))"#]]
    .assert_eq(&refusal(&spec, &[1, i64::MAX]).await);
}

#[tokio::test]
async fn a_row_that_takes_long_is_refused() {
    let spec = view("SELECT ts, levenshtein(repeat('a', q), repeat('b', q)) AS d FROM t").await.unwrap();
    expect_test::expect!["an expression fails: levenshtein() would take 25000000 steps over a row, and 16777216 are the most: its arguments are too long, in levenshtein(repeat(a, q), repeat(b, q))"].assert_eq(&refusal(&spec, &[10, 5000, 100]).await);
}

/// What was kept when sums were added as they are is read on: the fingerprint is the same, and a sum is widened.
#[tokio::test]
async fn a_state_of_narrow_sums_is_read() {
    let spec = view(SUM).await.unwrap();
    assert!(spec.fingerprint.contains("\nInt64 null\n"), "{}", spec.fingerprint);
    let narrow = |part: Part| {
        let mut columns = part.batch.columns().to_vec();
        for column in columns.iter_mut().filter(|it| matches!(it.data_type(), DataType::Decimal128(..))) {
            *column = cast(column, &DataType::Int64).unwrap();
        }
        let names = part.batch.schema();
        let named = names.fields().iter().zip(columns).map(|(field, it)| (field.name().clone(), it));
        let batch = RecordBatch::try_from_iter(named).unwrap();
        assert!(batch.columns().iter().any(|it| *it.data_type() == DataType::Int64));
        Part::new(part.cut, part.after, batch, part.panes.clone())
    };
    assert_eq!(sum_of(&spec, &[&[1, 2], &[3], &[4]], narrow).await, Ok(10));
}

/// So a view with a percentile of the other tail is read on too: what is kept is the same.
#[tokio::test]
async fn a_percentile_keeps_the_same_in_both_directions() {
    let query = SUM.replace("sum(q)", "percentile_cont(0.9) WITHIN GROUP (ORDER BY q DESC)");
    let spec = view(&query).await.unwrap();
    assert!(spec.fingerprint.contains("percentile_cont(t.q, 0.9)"), "{}", spec.fingerprint);
}

/// What was accepted once is planned again, whatever CREATE refuses by now.
#[tokio::test]
async fn a_known_view_is_not_refused() {
    let text = "CREATE MATERIALIZED VIEW v AS SELECT ts, k FROM t TABLESAMPLE (10 PERCENT)";
    let crate::parse::Statement::CreateView(create) = crate::parse::statement(text).unwrap().statement else {
        panic!("no view")
    };
    let streams = [stream(STREAM)];
    assert!(
        crate::plan::plan_view(
            &create,
            uuid::Uuid::nil(),
            crate::plan::Inputs {
                streams: &streams,
                views: &[],
                tables: &[],
                plain: crate::parse::PlainViews::NONE
            }
        )
        .await
        .is_err()
    );
    assert!(
        crate::plan::view::plan_known_view(
            &create,
            uuid::Uuid::nil(),
            crate::plan::Inputs {
                streams: &streams,
                views: &[],
                tables: &[],
                plain: crate::parse::PlainViews::NONE
            }
        )
        .await
        .is_ok()
    );
}
