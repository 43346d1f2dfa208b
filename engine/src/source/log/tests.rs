//! What a log promises: what was put is read, in order, once, after kills and through retention; and what it refuses.

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::collect::Outgoing;
use crate::ids::Micros;
use crate::source::{BatchLimit, Polled, RawBatch};

const LIMIT: BatchLimit = BatchLimit { rows: 1000, bytes: 1 << 20 };
const SECOND: Micros = 1_000_000;

struct Place {
    folder: TempDir,
    spec: LogSpec,
}

impl Place {
    fn new(retention: Duration, size_max: u64) -> Place {
        let spec = LogSpec { stream: Uuid::from_u128(7), partitions: 3, retention, size_max };
        Place { folder: TempDir::new().unwrap(), spec }
    }

    fn day() -> Place {
        Place::new(Duration::from_secs(86_400), 1 << 30)
    }

    /// As after a restart.
    fn logs(&self) -> Logs {
        Logs::below(Some(self.folder.path().join("log")))
    }

    fn open(&self) -> Arc<Log> {
        self.logs().open(&self.spec).unwrap()
    }
}

/// Whoever commits for others holds the log for a moment longer than they do.
fn closed(log: Arc<Log>) {
    while Arc::strong_count(&log) > 1 {
        std::thread::yield_now();
    }
}

fn record(key: Option<&str>, value: &str) -> Outgoing {
    Outgoing { key: key.map(|key| key.as_bytes().to_vec()), value: value.as_bytes().to_vec() }
}

fn everything(log: &Arc<Log>) -> Vec<Assignment> {
    log.ranges()
        .into_iter()
        .zip(0..)
        .map(|(range, partition)| (PartitionId(partition), Offset(range.start)).into())
        .collect()
}

/// What there is, as `partition/offset key=value`.
fn read(log: &Arc<Log>, assignment: &[Assignment]) -> Vec<String> {
    let mut reader = LogSource::new(Arc::clone(log)).open(assignment, Reading::little(true)).unwrap();
    let mut found = vec![];
    loop {
        let mut batch = RawBatch::default();
        match reader.poll(&mut batch, LIMIT, Duration::ZERO).unwrap() {
            Polled::Records { .. } => found.extend((0..batch.len()).map(|index| {
                let text = |bytes: Option<&[u8]>| bytes.map(|it| String::from_utf8_lossy(it).into_owned());
                let key = text(batch.keys[index].as_deref()).unwrap_or_else(|| "-".into());
                let value = text(batch.records.value(index)).unwrap();
                format!("{}/{} {key}={value}", batch.partition(index).0, batch.offsets[index])
            })),
            _ => return found,
        }
    }
}

#[tokio::test]
async fn what_was_put_is_there_in_order_after_a_restart() {
    let place = Place::day();
    let log = place.open();
    for number in 0..20 {
        let records = (0..3).map(|user| record(Some(&format!("u{user}")), &format!("{number}"))).collect();
        log.put(records, number).await.unwrap();
    }
    log.put(vec![record(None, "nobody's")], 99).await.unwrap();
    let before = read(&log, &everything(&log));
    assert_eq!(before.len(), 61);
    closed(log);
    let log = place.open();
    assert_eq!(read(&log, &everything(&log)), before);
    for user in 0..3 {
        let mark = format!(" u{user}=");
        let own: Vec<&String> = before.iter().filter(|line| line.contains(&mark)).collect();
        let partition = own[0].split('/').next();
        assert!(
            own.iter().all(|line| line.split('/').next() == partition),
            "a key has one partition: {own:?}"
        );
        let values: Vec<i64> =
            own.iter().map(|line| line.rsplit('=').next().unwrap().parse().unwrap()).collect();
        assert_eq!(values, (0..20).collect::<Vec<_>>());
    }
}

/// A commit carries what came during the one before, so many at once are not many syncs; each is told for itself.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_each_there_once() {
    let place = Place::day();
    let log = place.open();
    let puts = (0..500).map(|number| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { log.put(vec![record(None, &number.to_string())], 0).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
    let mut found: Vec<i32> = read(&log, &everything(&log))
        .iter()
        .map(|line| line.rsplit('=').next().unwrap().parse().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_read_goes_when_it_is_old_and_nothing_else() {
    let place = Place::new(Duration::from_secs(10), 1 << 30);
    let log = place.open();
    let put = async |seconds: i64| {
        let records = vec![record(Some("a"), &seconds.to_string()), record(Some("b"), &seconds.to_string())];
        log.put(records, seconds * SECOND).await.unwrap();
    };
    for seconds in 0..30 {
        put(seconds).await;
    }
    let kept = |key: &str| read(&log, &everything(&log)).iter().filter(|line| line.contains(key)).count();
    assert_eq!((kept("a="), kept("b=")), (30, 30), "nobody has said that it was read");
    // All of one key's partition, and nothing of the other's.
    let mut other =
        everything(&log).into_iter().filter(|it| !read(&log, &[*it]).is_empty()).map(|it| it.partition);
    let (of_a, of_b) = (other.next().unwrap(), other.next());
    let committed: Vec<_> = (0..3)
        .map(|partition| {
            (PartitionId(partition), Offset(if PartitionId(partition) == of_a { 25 } else { 0 }))
        })
        .collect();
    log.committed(&committed);
    put(31).await;
    let lines = read(&log, &everything(&log));
    let first = |partition: PartitionId| {
        lines.iter().find(|line| line.starts_with(&format!("{}/", partition.0))).unwrap().clone()
    };
    // Older than ten seconds is what came before 21.
    assert!(first(of_a).starts_with(&format!("{}/21 ", of_a.0)) || of_b.is_none(), "{lines:?}");
    if let Some(of_b) = of_b {
        assert!(first(of_b).starts_with(&format!("{}/0 ", of_b.0)), "{lines:?}");
    }
}

#[tokio::test]
async fn a_full_log_takes_nothing_until_its_stream_has_read() {
    let place = Place::new(Duration::from_secs(86_400), 10_000);
    let log = place.open();
    let large = "x".repeat(1000);
    let mut taken = 0;
    let error = loop {
        match log.put(vec![record(Some("a"), &large)], taken).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 20, "it never fills");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(read(&log, &everything(&log)).len() as i64, taken, "what was taken is there");
    let read_to: Vec<_> =
        log.ranges().into_iter().zip(0..).map(|(range, id)| (PartitionId(id), Offset(range.end))).collect();
    log.committed(&read_to);
    log.put(vec![record(Some("a"), &large)], 2 * SECOND).await.unwrap();
    let ranges = log.ranges();
    assert!(ranges.iter().any(|range| range.start > 0), "{ranges:?}");
    assert_eq!(ranges.iter().map(|range| range.end).max(), Some(taken + 1), "offsets go on");
}

#[tokio::test]
async fn a_log_that_was_exchanged_is_not_gone_on_with() {
    let place = Place::day();
    let log = place.open();
    log.put(vec![record(Some("a"), "one"), record(Some("a"), "two")], 5).await.unwrap();
    let partition = log.ranges().iter().position(|range| range.end == 2).unwrap() as i32;
    let mut batch = RawBatch::default();
    let at = |offset| Assignment::from((PartitionId(partition), Offset(offset)));
    let mut source = LogSource::new(Arc::clone(&log));
    source.open(&[at(0)], Reading::little(true)).unwrap().poll(&mut batch, LIMIT, Duration::ZERO).unwrap();
    let last_record = Some(batch.fingerprint(1));
    source.open(&[Assignment { last_record, ..at(2) }], Reading::little(true)).unwrap();
    let error = source.open(&[at(3)], Reading::little(true)).err().unwrap();
    assert!(error.kind() == ErrorKind::BadData && error.to_string().contains("wanted offset=3"), "{error}");
    let mut other = batch.fingerprint(1);
    other.hash += 1;
    let error = source
        .open(&[Assignment { last_record: Some(other), ..at(2) }], Reading::little(true))
        .err()
        .unwrap();
    assert!(error.kind() == ErrorKind::BadData && error.to_string().contains("is another now"), "{error}");
}

#[tokio::test]
async fn a_reader_that_waits_hears_of_more_at_once_and_tells_the_end() {
    let place = Place::day();
    let log = place.open();
    let mut reader =
        LogSource::new(Arc::clone(&log)).open(&everything(&log), Reading::little(false)).unwrap();
    let mut batch = RawBatch::default();
    for partition in 0..3 {
        let end = Polled::AtEnd { partition: PartitionId(partition), next_offset: Offset(0) };
        assert_eq!(reader.poll(&mut batch, LIMIT, Duration::ZERO).unwrap(), end);
    }
    assert_eq!(reader.poll(&mut batch, LIMIT, Duration::ZERO).unwrap(), Polled::Nothing);
    let waiting = tokio::task::spawn_blocking(move || {
        let polled = reader.poll(&mut batch, LIMIT, Duration::from_millis(900)).unwrap();
        (polled, batch.len())
    });
    log.put(vec![record(None, "news")], 0).await.unwrap();
    assert_eq!(waiting.await.unwrap(), (Polled::Records { more: false }, 1));
}

#[test]
fn a_damaged_block_is_found() {
    let mut writer = block::Writer::default();
    writer.push(5, &record(Some("key"), "value"));
    writer.push(5, &record(None, ""));
    let block = writer.finish();
    let found: Vec<_> = block::records(&block)
        .unwrap()
        .map(|it| (it.timestamp, it.key.map(<[u8]>::to_vec), it.value.to_vec()))
        .collect();
    assert_eq!(found, [(5, Some(b"key".to_vec()), b"value".to_vec()), (5, None, vec![])]);
    for at in 0..block.len() {
        let mut damaged = block.clone();
        damaged[at] ^= 1;
        assert!(block::records(&damaged).is_err(), "byte {at}");
    }
    for length in 0..block.len() {
        assert!(block::records(&block[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn logs_go_with_their_streams() {
    let place = Place::day();
    let logs = place.logs();
    let files = || std::fs::read_dir(place.folder.path().join("log")).unwrap().count();
    let other = LogSpec { stream: Uuid::from_u128(8), ..place.spec.clone() };
    drop((logs.open(&place.spec).unwrap(), logs.open(&other).unwrap()));
    assert_eq!(files(), 2);
    logs.forget(other.stream);
    assert_eq!(files(), 1);
    logs.keep_only(&[place.spec.stream]);
    assert_eq!(files(), 1);
    logs.keep_only(&[]);
    assert_eq!(files(), 0);
    assert!(Logs::default().open(&other).is_err_and(|error| error.kind() == ErrorKind::Invalid));
}
