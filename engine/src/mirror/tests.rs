//! There and back: what is told is what was there, once.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use chrono::NaiveDate;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use object_store::memory::InMemory;
use uuid::Uuid;

use super::*;
use crate::ids::Epoch;
use crate::sink::{ClosedRows, HistoryFile, HistoryFiles, Instants};
use crate::snapshot::{Snapshot, TableSnapshot, Version};
use crate::spec::{Input, Leg, LookupSpec, TIME_COLUMN, ViewShape, ViewSpec};
use crate::view::arrived::Arrived;
use crate::view::panes::Panes;
use crate::view::part::Part;
use crate::view::watermark::Observed;
use crate::view::{LeafExec, OpenInput, OpenPanes, Room};

/// `SELECT n`, with it for its time too.
fn copy() -> Arc<ViewSpec> {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let column = |alias: &str| ProjectionExpr {
        expr: col("n", &schema).expect("the column is declared"),
        alias: alias.to_string(),
    };
    let leaf = Arc::new(LeafExec::of_micro_batch(Arc::clone(&schema)));
    let lower = ProjectionExec::try_new(vec![column("n"), column(TIME_COLUMN)], leaf).expect("it is legal");
    Arc::new(ViewSpec {
        lookups: vec![],
        retention: None,
        id: Uuid::from_u128(1),
        name: "v".into(),
        sql: String::new(),
        legs: vec![Leg { input: Input::Stream("s".into()), columns: vec![0] }],
        times: vec![None],
        schema,
        shape: ViewShape::Copy { lowers: vec![Arc::new(lower)] },
        fingerprint: String::new(),
    })
}

struct One(Arc<ViewSpec>);

impl Catalog for One {
    fn view(&self, id: Uuid) -> Option<Arc<ViewSpec>> {
        (id == self.0.id).then(|| Arc::clone(&self.0))
    }

    fn opens(&self, _: Uuid) -> bool {
        true
    }

    fn lookup(&self, _: &str) -> Option<Arc<LookupSpec>> {
        None
    }
}

fn numbers(columns: &[&str], values: &[i64]) -> RecordBatch {
    let column = |name: &&str| {
        let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        (name.to_string(), values, true)
    };
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(column)).expect("columns are equally long")
}

/// A view with a part, rows that wait, a tail and a file.
fn snapshot(view: &Arc<ViewSpec>, parts: &Arc<Vec<Part>>, waiting: &[Arc<Arrived>]) -> Snapshot {
    let mut panes = Panes::new(view, None);
    panes.file(Epoch(3), Arc::clone(parts));
    let arrived = waiting.iter().map(|arrived| (Epoch(3), Arc::clone(arrived))).collect();
    let input = OpenInput::Stream { arrived: Arc::new(arrived), runs: Epoch(1)..=Epoch::MAX };
    let date = NaiveDate::from_ymd_opt(1969, 7, 20).expect("a day");
    let instants = vec![Instants { column: "at".into(), least: -7, most: 8 }];
    let file = HistoryFile { path: "tables/v/a.parquet".into(), bytes: 7, rows: 1, date, instants };
    let table = TableSnapshot {
        schema: Arc::clone(&view.schema),
        version: Version { view: view.id, ..Version::default() },
        open: Arc::new(OpenPanes::Panes {
            view: Arc::clone(view),
            panes: Arc::new(panes),
            inputs: vec![input],
        }),
        tail: Arc::new(vec![ClosedRows { epoch: Epoch(2), rows: numbers(&["n"], &[40]) }]),
        history: Arc::new(HistoryFiles {
            store: Arc::new(InMemory::new()),
            files: Arc::new(vec![file]),
            is_lost: false,
        }),
        failure: None,
        behind: None,
    };
    Snapshot { epoch: Epoch(2), views: [("v".to_owned(), Arc::new(table))].into(), ..Snapshot::default() }
}

async fn open_rows(snapshot: &Snapshot) -> Vec<RecordBatch> {
    snapshot.views["v"].open.finish(None, &Room::unbounded()).await.expect("it can be read")
}

fn wanted(parts: WantedParts) -> Wanted {
    Wanted { views: [("v".to_owned(), parts)].into(), ..Wanted::default() }
}

#[tokio::test]
async fn what_is_told_is_what_was_there_and_each_piece_crosses_once() {
    let view = copy();
    let part = Part::of_one_pane(0, 0, numbers(&["n", TIME_COLUMN], &[1, 2]));
    let parts = Arc::new(vec![part]);
    let observed = Observed::new(TimestampMicrosecondArray::from(vec![5, 6]), vec![1, 2]);
    let first = Arc::new(Arrived { batch: numbers(&["n"], &[3, 4]), observed: Some(observed) });
    let (mut teller, mut mirror) = (Teller::default(), Mirror::new(Arc::new(InMemory::new())));
    let catalog = One(Arc::clone(&view));
    let mut waiting = vec![first];
    for (round, crossing) in [4, 1 + 2, 1 + 2].into_iter().enumerate() {
        // The tail and the list of files are others each time, as this snapshot makes them anew.
        let taken = snapshot(&view, &parts, &waiting);
        let told = teller.tell(&taken, &wanted(WantedParts::ALL), Duration::ZERO).expect("it is told");
        let fresh = teller.fresh();
        assert_eq!(fresh.len(), crossing, "round {round}");
        for (number, piece) in fresh {
            mirror.take(number, piece.head, piece.batches, &catalog).expect("it is taken");
        }
        let told =
            serde_json::from_slice(&serde_json::to_vec(&told).expect("it is text")).expect("it is read");
        let (whole, missing) = mirror.snapshot(&told, &catalog).expect("it is whole");
        assert_eq!(missing, Missing::default());
        assert_eq!(open_rows(&whole).await, open_rows(&taken).await, "round {round}");
        assert_eq!(whole.views["v"].tail[0].rows, taken.views["v"].tail[0].rows);
        assert_eq!(whole.views["v"].history.files, taken.views["v"].history.files);
        waiting.push(Arc::new(Arrived { batch: numbers(&["n"], &[round as i64]), observed: None }));
    }
}

#[test]
fn what_has_gone_is_forgotten_and_its_place_means_nothing_else() {
    let view = copy();
    let mut teller = Teller::default();
    for _ in 0..100 {
        // What is made in the place of what has gone is not taken for it.
        let parts = Arc::new(vec![Part::of_one_pane(0, 0, numbers(&["n", TIME_COLUMN], &[1]))]);
        let taken = snapshot(&view, &parts, &[]);
        teller.tell(&taken, &wanted(WantedParts::ALL), Duration::ZERO).expect("it is told");
        assert_eq!(teller.fresh().len(), 3);
        drop((parts, taken));
        assert_eq!(teller.forget(Duration::ZERO).len(), 3);
    }
    let parts = Arc::new(vec![Part::of_one_pane(0, 0, numbers(&["n", TIME_COLUMN], &[1]))]);
    let taken = snapshot(&view, &parts, &[]);
    teller
        .tell(&taken, &wanted(WantedParts { closed: false, open: true }), Duration::ZERO)
        .expect("it is told");
    assert_eq!(teller.fresh().len(), 1);
    assert!(teller.forget(Duration::from_secs(59)).is_empty());
    assert_eq!(teller.forget(Duration::from_secs(60)).len(), 1, "nobody asks for it");
}

#[test]
fn what_was_not_asked_for_is_missing_and_not_empty() {
    let view = copy();
    let taken = snapshot(&view, &Arc::default(), &[]);
    let mut teller = Teller::default();
    let told = teller.tell(&taken, &Wanted::default(), Duration::ZERO).expect("it is told");
    assert!(teller.fresh().is_empty());
    let mut mirror = Mirror::new(Arc::new(InMemory::new()));
    let (whole, missing) = mirror.snapshot(&told, &One(view)).expect("it is whole");
    assert_eq!(whole.views["v"].schema, taken.views["v"].schema);
    assert!(missing.open.contains("v") && missing.closed.contains("v"));
}
