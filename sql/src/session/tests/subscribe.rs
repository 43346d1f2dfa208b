//! Subscriptions: at each mark what was told adds up to the view, and a token goes on where it was given.

use std::collections::BTreeMap;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int32Type, Int64Type};
use datafusion::execution::SendableRecordBatchStream;
use thalweg_engine::snapshot::TableSnapshot;
use thalweg_engine::view::OpenPanes;
use tokio::time::timeout;

use super::*;

const WITHIN: Duration = Duration::from_secs(20);

/// Rows by their counts: `n` tells them apart.
type Bag = BTreeMap<i64, i64>;

/// A view with these open rows, and those that closed in epochs.
async fn view(open: &[i64], closed: &[(u64, &[i64])]) -> TableSnapshot {
    let some = |of: &[i64]| rows(&of.iter().map(|n| (*n, "kind", *n)).collect::<Vec<_>>());
    let mut table = three_parts("counts").await;
    table.history = Arc::new(HistoryFiles { files: Arc::default(), ..HistoryFiles::clone(&table.history) });
    table.open = Arc::new(OpenPanes::of_rows(vec![some(open)]));
    let closed = closed.iter().map(|(epoch, of)| ClosedRows { epoch: Epoch(*epoch), rows: some(of) });
    table.tail = Arc::new(closed.collect());
    table
}

async fn subscribe(session: &Session, sql: &str) -> SendableRecordBatchStream {
    match session.execute(sql, &[]).await.unwrap() {
        Answer::Rows(stream) => stream,
        Answer::Done(message) => panic!("{message}"),
    }
}

/// Adds up what is told until a mark of that epoch. Gives the token, and what was told for good.
async fn follow(told: &mut SendableRecordBatchStream, sum: &mut Bag, epoch: i64) -> (String, Vec<i64>) {
    let mut closed = vec![];
    loop {
        let batch = timeout(WITHIN, told.next()).await.expect("it is told").expect("it has no end").unwrap();
        let changes = batch.column(0).as_primitive::<Int32Type>();
        let values = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            if changes.value(row) == 0 {
                sum.retain(|_, count| *count != 0);
                if batch.column(3).as_primitive::<Int64Type>().value(row) >= epoch {
                    return (batch.column(2).as_string::<i32>().value(row).to_owned(), closed);
                }
                continue;
            }
            *sum.entry(values.value(row)).or_default() += i64::from(changes.value(row));
            if batch.column(1).as_boolean().value(row) {
                assert_eq!(changes.value(row), 1, "what is final is not taken back");
                closed.push(values.value(row));
            }
        }
    }
}

fn bag(rows: &[i64]) -> Bag {
    let mut bag = Bag::new();
    rows.iter().for_each(|row| *bag.entry(*row).or_default() += 1);
    bag
}

#[tokio::test]
async fn what_is_told_adds_up() {
    let (database, engine) = database().await;
    let session = database.session(Client::default());
    engine.publish("counts", view(&[1, 2, 2], &[(1, &[7])]).await);
    let (mut told, mut sum) = (subscribe(&session, "SUBSCRIBE TO counts").await, Bag::new());
    let (_, closed) = follow(&mut told, &mut sum, 2).await;
    assert_eq!((&sum, closed), (&bag(&[1, 2, 2, 7]), vec![7]));
    engine.publish("counts", view(&[2, 3], &[(1, &[7]), (3, &[1])]).await);
    let (token, closed) = follow(&mut told, &mut sum, 3).await;
    assert_eq!((&sum, closed), (&bag(&[1, 2, 3, 7]), vec![1]));
    // Two states while nobody looks: they are told as one.
    engine.publish("counts", view(&[4, 5], &[(1, &[7]), (3, &[1]), (4, &[2, 3])]).await);
    engine.publish("counts", view(&[5], &[(1, &[7]), (3, &[1]), (4, &[2, 3]), (5, &[4, 4])]).await);
    let (_, closed) = follow(&mut told, &mut sum, 5).await;
    assert_eq!((&sum, closed), (&bag(&[1, 2, 3, 4, 4, 5, 7]), vec![2, 3, 4, 4]));
    // Whoever comes back with a token is told what closed since, and all that is open.
    let again = format!("SUBSCRIBE TO (SELECT n, kind FROM counts WHERE n <> 3) AFTER '{token}'");
    let (mut told, mut sum) = (subscribe(&session, &again).await, Bag::new());
    let (_, closed) = follow(&mut told, &mut sum, 5).await;
    assert_eq!((&sum, closed), (&bag(&[2, 4, 4, 5]), vec![2, 4, 4]));
    let running = "SELECT count(*) FROM system.subscriptions WHERE state = 'running'";
    assert_eq!(number(&session, running).await, 2);
    assert_eq!(number(&session, "SELECT count(*) FROM system.queries WHERE state = 'running'").await, 1);
    drop(told);
    assert_eq!(number(&session, running).await, 1);
}

#[tokio::test]
async fn final_rows_alone_are_never_taken_back() {
    let (database, engine) = database().await;
    let session = database.session(Client::default());
    engine.publish("counts", view(&[1, 2], &[(1, &[7])]).await);
    let sql = "SUBSCRIBE TO counts WITH (live = false, snapshot = false, every = '10ms')";
    let (mut told, mut sum) = (subscribe(&session, sql).await, Bag::new());
    follow(&mut told, &mut sum, 2).await;
    assert!(sum.is_empty());
    engine.publish("counts", view(&[3], &[(1, &[7]), (3, &[1, 2])]).await);
    let (_, closed) = follow(&mut told, &mut sum, 3).await;
    assert_eq!((sum, closed), (bag(&[1, 2]), vec![1, 2]));
    let mut failed = view(&[], &[(1, &[7]), (3, &[1, 2])]).await;
    failed.failure = Some(thalweg_engine::status::Failure { reason: "a row".to_owned(), since: 0 });
    failed.version.failed = true;
    engine.publish("counts", failed);
    let end = loop {
        match timeout(WITHIN, told.next()).await.unwrap().unwrap() {
            Ok(batch) => assert_eq!(batch.column(0).as_primitive::<Int32Type>().values(), &[0]),
            Err(error) => break Error::from(error).to_string(),
        }
    };
    assert!(end.starts_with("view counts has failed: a row"), "{end}");
    // A view that goes on is told of again, though somebody still holds what ended.
    engine.publish("counts", view(&[9], &[(1, &[7]), (3, &[1, 2])]).await);
    let (mut again, mut sum) = (subscribe(&session, "SUBSCRIBE TO counts").await, Bag::new());
    follow(&mut again, &mut sum, 5).await;
    assert_eq!(sum, bag(&[1, 2, 7, 9]));
}

#[tokio::test]
async fn parameters_are_bound_by_their_names() {
    let (database, engine) = database().await;
    let session = database.session(Client::default());
    engine.publish("counts", view(&[1, 2, 3], &[(1, &[7, 2])]).await);
    let given = |pairs: &[(&str, &str)]| -> Vec<_> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    let sql = "SUBSCRIBE TO counts WHERE n >= $least AND kind = $kind AND n < $least + 5";
    let bound = given(&[("kind", "kind"), ("least", "2")]);
    let (mut told, mut sum) = (session.subscribe(sql, None, &bound).await.unwrap(), Bag::new());
    let (token, _) = follow(&mut told, &mut sum, 2).await;
    assert_eq!(sum, bag(&[2, 2, 3]));
    let pasted = given(&[("kind", "kind' OR 1 = 1 --"), ("least", "2")]);
    let (mut told, mut sum) = (session.subscribe(sql, Some(&token), &pasted).await.unwrap(), Bag::new());
    follow(&mut told, &mut sum, 2).await;
    assert_eq!(sum, bag(&[]));
    let mut reasons = vec![];
    for pairs in [
        &[][..],
        &[("kind", "kind")],
        &[("kind", "kind"), ("least", "many")],
        &[("kind", "kind"), ("least", "2"), ("most", "3")],
    ] {
        reasons.push(session.subscribe(sql, None, &given(pairs)).await.err().unwrap().message);
    }
    expect![[r#"
        parameter $least has no value
        parameter $least has no value
        parameter "least" can't be 'many'
        the statement has no parameter "most"
    "#]]
    .assert_eq(&format!("{}\n", reasons.join("\n")));
}

#[tokio::test]
async fn what_is_no_subscription_says_why() {
    let session = database().await.0.session(Client::default());
    let mut told = vec![];
    for sql in [
        "SUBSCRIBE counts",
        "SUBSCRIBE TO nothing",
        "SUBSCRIBE TO system.views",
        "SUBSCRIBE TO live.counts",
        "SUBSCRIBE TO counts WITH (evry = '1s')",
        "SUBSCRIBE TO counts WITH (live = maybe)",
        "SUBSCRIBE TO counts AFTER 'yesterday'",
        "SUBSCRIBE TO counts AFTER '0197c0de000070008000000000000000-1'",
        "SUBSCRIBE TO (SELECT kind, sum(n) FROM counts GROUP BY kind)",
        "SUBSCRIBE TO (SELECT DISTINCT kind FROM counts)",
        "SUBSCRIBE TO (SELECT n FROM counts ORDER BY n LIMIT 1)",
        "SUBSCRIBE TO (SELECT a.n FROM counts a JOIN counts b ON a.n = b.n)",
        "SUBSCRIBE TO (SELECT n FROM counts WHERE n IN (SELECT n FROM counts))",
        "SUBSCRIBE TO (SELECT n FROM counts WHERE window_start > now())",
        "SUBSCRIBE TO (SELECT n AS change FROM counts)",
        "SUBSCRIBE TO (SELECT n FROM counts WHERE n = $1)",
        "SUBSCRIBE TO (SELECT 1 AS n)",
    ] {
        told.push(format!("{sql}\n  {}\n", rendered(&session, sql).await.replace('\n', "\n  ")));
    }
    expect![[r#"
        SUBSCRIBE counts
          error: line 1, column 11: expected TO, found counts
        SUBSCRIBE TO nothing
          error: line 1, column 14: no table "nothing"
          hint: tables are: counts
        SUBSCRIBE TO system.views
          error: line 1, column 14: the rows of schema system are not told as they change
          hint: read the view itself, and its final rows are told: ON LIVE tells those of a sink that may still change, and WITH (live = false) keeps them from a subscription
        SUBSCRIBE TO live.counts
          error: line 1, column 14: the rows of schema live are not told as they change
          hint: read the view itself, and its final rows are told: ON LIVE tells those of a sink that may still change, and WITH (live = false) keeps them from a subscription
        SUBSCRIBE TO counts WITH (evry = '1s')
          error: line 1, column 27: unknown option "evry"
          hint: did you mean "every"? options are: every, live, snapshot
        SUBSCRIBE TO counts WITH (live = maybe)
          error: line 1, column 34: option "live" can't be "maybe": it is true or false
        SUBSCRIBE TO counts AFTER 'yesterday'
          error: line 1, column 27: this is no token of a subscription
          hint: a token stands in the column of that name, in rows with change = 0
        SUBSCRIBE TO counts AFTER '0197c0de000070008000000000000000-1'
          error: the token is of another view, or of one of the same name that was dropped
          hint: leave out AFTER: all there is is told
        SUBSCRIBE TO (SELECT kind, sum(n) FROM counts GROUP BY kind)
          error: line 1, column 15: aggregate looks at several rows: a subscription is of one view, row by row
          hint: make the query a materialized view, and read that
        SUBSCRIBE TO (SELECT DISTINCT kind FROM counts)
          error: line 1, column 15: distinct looks at several rows: a subscription is of one view, row by row
          hint: make the query a materialized view, and read that
        SUBSCRIBE TO (SELECT n FROM counts ORDER BY n LIMIT 1)
          error: line 1, column 15: limit looks at several rows: a subscription is of one view, row by row
          hint: make the query a materialized view, and read that
        SUBSCRIBE TO (SELECT a.n FROM counts a JOIN counts b ON a.n = b.n)
          error: line 1, column 15: a join looks at several rows: a subscription is of one view, row by row
          hint: make the query a materialized view, and read that
        SUBSCRIBE TO (SELECT n FROM counts WHERE n IN (SELECT n FROM counts))
          error: line 1, column 15: a subquery looks at other rows: a subscription is of one view, row by row
          hint: make the query a materialized view, and read that
        SUBSCRIBE TO (SELECT n FROM counts WHERE window_start > now())
          error: line 1, column 15: a row would be told once, and be another one later: the query looks at the clock, at chance, or at other tables
          hint: read rows of one view by what they hold
        SUBSCRIBE TO (SELECT n AS change FROM counts)
          error: line 1, column 15: a subscription has a column change of its own
          hint: give the query's another name, such as change_of_view, with AS
        SUBSCRIBE TO (SELECT n FROM counts WHERE n = $1)
          error: line 1, column 15: a subscription has no parameters
          hint: write the value itself
        SUBSCRIBE TO (SELECT 1 AS n)
          error: line 1, column 15: the query reads no view: a subscription is of one view, row by row
          hint: make the query a materialized view, and read that
    "#]].assert_eq(&told.concat());
}

#[tokio::test]
async fn a_subscription_ends_at_an_instant() {
    let (database, engine) = database().await;
    let session = database.session(Client::default());
    let closed_through = |minutes: i64, mut table: TableSnapshot| {
        table.version.closed_through = Some(minutes * 60_000_000);
        table
    };
    rendered(&session, CREATE_STREAM).await;
    rendered(&session, CREATE_VIEW).await;
    engine.publish("per_minute", closed_through(1, view(&[1], &[(1, &[7])]).await));
    let sql = "SUBSCRIBE TO per_minute UP TO '1970-01-01T00:02:00Z'";
    let (mut told, mut sum) = (subscribe(&session, sql).await, Bag::new());
    follow(&mut told, &mut sum, 1).await;
    engine.publish("per_minute", closed_through(2, view(&[2], &[(1, &[7]), (4, &[1])]).await));
    follow(&mut told, &mut sum, 4).await;
    assert_eq!(sum, bag(&[1, 2, 7]));
    assert!(timeout(WITHIN, told.next()).await.expect("it ends").is_none());
    for (sql, said) in [
        ("SUBSCRIBE TO per_minute UP TO 'noon'", "'noon' is no instant"),
        ("SUBSCRIBE TO counts UP TO '1970-01-01T00:02:00Z'", "has no windows"),
    ] {
        let told = rendered(&session, sql).await;
        assert!(told.contains(said), "{told}");
    }
}
