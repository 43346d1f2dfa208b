//! Clicks without a broker: partitions of [`Clicks`], given out at a rate or as fast as they are read.
//!
//! With a rate and a start the generator is like a topic that has been written to at that rate since then: what was
//! due while nobody read is waiting, and event times are about now. With a rate alone it begins when the reader opens
//! it, at any offset; at rate 0 it is silent. A generator with a number of rows ends; any other never does.

use std::sync::Arc;
use std::time::Duration;

use super::clicks::Clicks;
use super::{
    Assignment, BatchLimit, Discovery, END_IS_TOLD_EVERY, PartitionRange, Polled, RawBatch, Reader, Reading,
};
use crate::clock::{Clock, SystemClock};
use crate::ids::{Micros, Offset, PartitionId};
use crate::spec::{GeneratorSpec, Start};
use crate::{Error, Result};

/// A paced reader with nothing due sleeps at least this long, so that it gives batches and not single clicks.
const SLEEP_MIN: Duration = Duration::from_millis(1);

pub(super) struct Generator {
    shared: Arc<Shared>,
}

struct Shared {
    spec: GeneratorSpec,
    clicks: Clicks,
    clock: Arc<dyn Clock>,
}

struct GeneratorReader {
    shared: Arc<Shared>,
    pace: Pace,
    with_keys: bool,
    lanes: Vec<Lane>,
}

/// When clicks may be given out.
#[derive(Clone, Copy)]
enum Pace {
    Unbounded,
    /// None ever.
    Silent,
    /// A click that arrives at instant `t` is due at wall time `t`.
    Wall,
    /// The click with the earliest arrival was due when the reader began; arrivals run beside the time elapsed.
    SinceOpen {
        elapsed: Duration,
        arrival: Option<Micros>,
    },
}

/// One partition being read.
struct Lane {
    partition: PartitionId,
    next: i64,
    /// On the clock's elapsed time: when the caller was told that the lane is at its end, for now or for ever.
    told: Option<Duration>,
}

impl Generator {
    pub(super) fn new(spec: &GeneratorSpec) -> Result<Generator> {
        Generator::with_clock(spec, Arc::new(SystemClock::new()))
    }

    fn with_clock(spec: &GeneratorSpec, clock: Arc<dyn Clock>) -> Result<Generator> {
        if spec.partitions < 1 {
            let partitions = spec.partitions;
            return Err(Error::Invalid(format!(
                "a generator needs at least one partition. partitions={partitions}"
            )));
        }
        if let Some(rate) = spec.rate.filter(|rate| !(rate.is_finite() && *rate >= 0.0)) {
            return Err(Error::Invalid(format!("a generator's rate is a number from 0 on. rate={rate}")));
        }
        let rate = spec.rate.filter(|rate| *rate > 0.0);
        let clicks = Clicks::new(spec.seed, spec.partitions, rate, spec.start_micros);
        Ok(Generator { shared: Arc::new(Shared { spec: spec.clone(), clicks, clock }) })
    }
}

impl Shared {
    /// Where the partition ends for good.
    fn last(&self, partition: PartitionId) -> Option<i64> {
        let (rows, partitions) = (self.spec.rows?, self.spec.partitions as u64);
        Some((rows / partitions + u64::from((partition.0 as u64) < rows % partitions)) as i64)
    }

    /// The end of what has been written so far, as far as that can be said: an endless generator writes when it is
    /// read.
    fn end(&self, partition: PartitionId) -> Option<i64> {
        let last = self.last(partition);
        match (self.spec.rate, self.spec.start_micros) {
            (Some(0.0), _) => Some(0),
            (Some(_), Some(_)) => {
                let due = self.clicks.first_at(partition, self.clock.wall().saturating_add(1));
                Some(last.map_or(due, |last| last.min(due)))
            }
            _ => last,
        }
    }
}

impl Discovery for Generator {
    fn partitions(&mut self) -> Result<Vec<PartitionRange>> {
        let range = |partition| {
            let end = Offset(self.shared.end(partition).unwrap_or(0));
            PartitionRange { partition, first: Offset(0), end }
        };
        Ok((0..self.shared.spec.partitions).map(|partition| range(PartitionId(partition))).collect())
    }

    fn resolve(&mut self, partition: PartitionId, start: Start) -> Result<Offset> {
        let end = self.shared.end(partition);
        Ok(Offset(match start {
            Start::Earliest => 0,
            Start::Latest => end.unwrap_or(0),
            Start::Timestamp(time) => {
                let first = self.shared.clicks.first_at(partition, time);
                end.map_or(first, |end| first.min(end))
            }
        }))
    }

    fn open(&mut self, assignment: &[Assignment], reading: Reading) -> Result<Box<dyn Reader>> {
        let pace = match (self.shared.spec.rate, self.shared.spec.start_micros) {
            (None, _) => Pace::Unbounded,
            (Some(0.0), _) => Pace::Silent,
            (Some(_), Some(_)) => Pace::Wall,
            (Some(_), None) => Pace::SinceOpen { elapsed: self.shared.clock.elapsed(), arrival: None },
        };
        let shared = Arc::clone(&self.shared);
        let mut reader = GeneratorReader { shared, pace, with_keys: reading.with_keys, lanes: Vec::new() };
        for assigned in assignment {
            reader.add(assigned.partition, assigned.next_offset)?;
        }
        Ok(Box::new(reader))
    }

    fn publish(&mut self, _offsets: &[(PartitionId, Offset)]) {}
}

impl Reader for GeneratorReader {
    fn poll(&mut self, batch: &mut RawBatch, limit: BatchLimit, timeout: Duration) -> Result<Polled> {
        let asked = self.shared.clock.elapsed();
        loop {
            let now = self.now();
            // The lane that is furthest behind goes first, so that all advance together.
            let shared = &self.shared;
            let next = |lane: &Lane| shared.clicks.arrival(lane.partition, lane.next);
            let ended = |lane: &Lane| shared.last(lane.partition).is_some_and(|last| lane.next >= last);
            let lane = (0..self.lanes.len())
                .filter(|&i| !ended(&self.lanes[i]))
                .min_by_key(|&i| next(&self.lanes[i]));
            let due = lane.map(|lane| next(&self.lanes[lane]));
            if let (Some(lane), Some(due)) = (lane, due)
                && due <= now
            {
                self.read(batch, lane, now, limit);
                // A paced reader has few clicks due in each lane.
                if matches!(self.pace, Pace::Unbounded) || limit.reached_by(batch) {
                    return Ok(Polled::Records { more: true });
                }
                continue;
            }
            if !batch.is_empty() {
                return Ok(Polled::Records { more: false });
            }
            let elapsed = self.shared.clock.elapsed();
            let fresh = |lane: &Lane| {
                lane.told.is_some_and(|told| ended(lane) || elapsed.saturating_sub(told) < END_IS_TOLD_EVERY)
            };
            if let Some(lane) = (0..self.lanes.len()).find(|&i| !fresh(&self.lanes[i])) {
                let ended = ended(&self.lanes[lane]);
                let lane = &mut self.lanes[lane];
                lane.told = Some(elapsed);
                let (partition, next_offset) = (lane.partition, Offset(lane.next));
                return Ok(match ended {
                    true => Polled::Ended(partition),
                    false => Polled::AtEnd { partition, next_offset },
                });
            }
            let Some(left) = timeout.checked_sub(elapsed - asked).filter(|left| !left.is_zero()) else {
                return Ok(Polled::Nothing);
            };
            let wait = due.map_or(left, |due| Duration::from_micros(due.saturating_sub(now).max(0) as u64));
            std::thread::sleep(wait.max(SLEEP_MIN).min(left));
        }
    }

    fn add(&mut self, partition: PartitionId, offset: Offset) -> Result<()> {
        if !(0..self.shared.spec.partitions).contains(&partition.0) || offset.0 < 0 {
            let partitions = self.shared.spec.partitions;
            return Err(Error::BadData(format!(
                "the generator has no such place. partition={partition}, offset={offset}, partitions={partitions}"
            )));
        }
        let arrival = self.shared.clicks.arrival(partition, offset.0);
        if let Pace::SinceOpen { arrival: first, .. } = &mut self.pace {
            *first = Some(first.map_or(arrival, |first| first.min(arrival)));
        }
        self.lanes.push(Lane { partition, next: offset.0, told: None });
        Ok(())
    }

    fn ends(&self) -> Vec<(PartitionId, Offset)> {
        let end =
            |lane: &Lane| Some((lane.partition, Offset(self.shared.end(lane.partition)?.max(lane.next))));
        self.lanes.iter().filter_map(end).collect()
    }

    fn queued_bytes(&self) -> usize {
        0
    }
}

impl GeneratorReader {
    /// Clicks that arrive until this instant are due.
    fn now(&self) -> Micros {
        match self.pace {
            Pace::Unbounded => Micros::MAX,
            Pace::Silent => Micros::MIN,
            Pace::Wall => self.shared.clock.wall(),
            Pace::SinceOpen { elapsed, arrival } => {
                let since = self.shared.clock.elapsed() - elapsed;
                arrival.unwrap_or(0).saturating_add(since.as_micros() as Micros)
            }
        }
    }

    fn read(&mut self, batch: &mut RawBatch, lane: usize, now: Micros, limit: BatchLimit) {
        let shared = Arc::clone(&self.shared);
        let lane = &mut self.lanes[lane];
        let (partition, first) = (lane.partition, lane.next);
        let last = shared.last(partition).unwrap_or(i64::MAX);
        while !limit.reached_by(batch) && lane.next < last {
            let arrival = shared.clicks.arrival(partition, lane.next);
            if arrival > now {
                break;
            }
            let bytes = &mut batch.records.bytes;
            let start = bytes.len();
            shared.clicks.write(partition, lane.next, bytes);
            let len = (bytes.len() - start) as u32;
            batch.records.spans.push(super::Span { start: start as u32, len });
            batch.offsets.push(lane.next);
            batch.timestamps.push(arrival);
            if self.with_keys {
                batch.push_key(Some(&shared.clicks.key(partition, lane.next)));
            }
            lane.next += 1;
        }
        assert!(lane.next > first, "a batch of a click that is due holds it");
        batch.belong_to(partition);
        lane.told = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::source::clicks::{RATE, START};

    const ALL: BatchLimit = BatchLimit { rows: usize::MAX, bytes: 1 << 30 };

    /// Wall time and time elapsed are the same number.
    #[derive(Default)]
    struct HandClock(Mutex<Duration>);

    impl Clock for HandClock {
        fn wall(&self) -> Micros {
            self.elapsed().as_micros() as Micros
        }

        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    fn spec() -> GeneratorSpec {
        GeneratorSpec { seed: 1, partitions: 2, rate: None, rows: Some(101), start_micros: None }
    }

    fn open(spec: &GeneratorSpec, offsets: [i64; 2], clock: &Arc<HandClock>) -> Box<dyn Reader> {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
        let from = [(PartitionId(0), Offset(offsets[0])), (PartitionId(1), Offset(offsets[1]))];
        let from = from.map(Assignment::from);
        Generator::with_clock(spec, clock).unwrap().open(&from, Reading::little(true)).unwrap()
    }

    /// What a reader says until it has nothing to say, in short: `0:3..7` is a batch, `0@7` an end for now, `0.` for
    /// good.
    fn said(reader: &mut dyn Reader, limit: BatchLimit) -> String {
        let mut said = Vec::new();
        loop {
            let mut batch = RawBatch::default();
            match reader.poll(&mut batch, limit, Duration::ZERO).unwrap() {
                Polled::Records { .. } => {
                    let n = batch.len();
                    assert_eq!(
                        (batch.records.spans.len(), batch.timestamps.len(), batch.keys.len()),
                        (n, n, n)
                    );
                    for (partition, range) in batch.ranges() {
                        let offsets = &batch.offsets[range];
                        said.push(format!("{partition}:{}..{}", offsets[0], offsets[offsets.len() - 1] + 1));
                    }
                }
                Polled::AtEnd { partition, next_offset } => said.push(format!("{partition}@{next_offset}")),
                Polled::Ended(partition) => said.push(format!("{partition}.")),
                Polled::Nothing => return said.join(" "),
            }
        }
    }

    fn first_batch(reader: &mut dyn Reader, limit: BatchLimit) -> RawBatch {
        let mut batch = RawBatch::default();
        let polled = reader.poll(&mut batch, limit, Duration::ZERO).unwrap();
        assert!(matches!(polled, Polled::Records { .. }), "a batch comes first: {polled:?}");
        batch
    }

    #[test]
    fn a_bounded_generator_ends_once_per_partition() {
        let mut reader = open(&spec(), [0, 0], &Arc::default());
        assert_eq!(
            said(&mut *reader, BatchLimit { rows: 40, bytes: 1 << 20 }),
            "0:0..40 1:0..40 0:40..51 1:40..50 0. 1."
        );
        assert_eq!(said(&mut *reader, ALL), "");
        let ends = reader.ends();
        assert_eq!(ends, [(PartitionId(0), Offset(51)), (PartitionId(1), Offset(50))]);
    }

    #[test]
    fn a_reader_resumes_anywhere_with_the_same_bytes() {
        let whole = first_batch(&mut *open(&spec(), [0, 0], &Arc::default()), ALL);
        let rest = first_batch(&mut *open(&spec(), [37, 50], &Arc::default()), ALL);
        assert_eq!((rest.offsets[0], rest.offsets.len()), (37, 14));
        for (i, offset) in rest.offsets.iter().enumerate() {
            assert_eq!(rest.records.value(i), whole.records.value(*offset as usize));
            assert_eq!(rest.timestamps[i], whole.timestamps[*offset as usize]);
            assert_eq!(rest.keys[i], whole.keys[*offset as usize]);
            let key = String::from_utf8(rest.keys[i].clone().unwrap()).unwrap();
            let value = String::from_utf8(rest.records.value(i).unwrap().to_vec()).unwrap();
            assert!(value.contains(&format!("\"user_id\":\"{key}\"")), "{key} {value}");
        }
    }

    #[test]
    fn a_batch_stops_at_its_bytes() {
        let mut reader = open(&spec(), [0, 0], &Arc::default());
        let limit = BatchLimit { rows: 1000, bytes: 1000 };
        assert_eq!(first_batch(&mut *reader, limit).len(), 4);
    }

    #[test]
    fn a_rate_paces_from_where_the_reader_begins() {
        let clock = Arc::new(HandClock::default());
        let spec = GeneratorSpec { rate: Some(1000.0), rows: None, ..spec() };
        let mut reader = open(&spec, [500, 500], &clock);
        assert_eq!(said(&mut *reader, ALL), "0:500..501 0@501 1@500");
        *clock.0.lock().unwrap() = Duration::from_millis(9);
        assert_eq!(said(&mut *reader, ALL), "1:500..505 0:501..505 0@505 1@505");
        assert_eq!(reader.ends(), []);
    }

    #[test]
    fn at_rate_0_nothing_comes() {
        let spec = GeneratorSpec { rate: Some(0.0), rows: None, start_micros: Some(0), ..spec() };
        let mut reader = open(&spec, [0, 0], &Arc::default());
        assert_eq!(said(&mut *reader, ALL), "0@0 1@0");
        assert_eq!(reader.ends(), [(PartitionId(0), Offset(0)), (PartitionId(1), Offset(0))]);
    }

    #[test]
    fn an_end_is_told_again_and_the_last_one_once() {
        let clock = Arc::new(HandClock::default());
        let mut reader = open(&GeneratorSpec { rate: Some(0.2), rows: None, ..spec() }, [500, 500], &clock);
        assert_eq!(said(&mut *reader, ALL), "0:500..501 0@501 1@500");
        assert_eq!(said(&mut *reader, ALL), "");
        *clock.0.lock().unwrap() += END_IS_TOLD_EVERY;
        assert_eq!(said(&mut *reader, ALL), "0@501 1@500");
        let mut reader = open(&spec(), [51, 50], &clock);
        assert_eq!(said(&mut *reader, ALL), "0. 1.");
        *clock.0.lock().unwrap() += END_IS_TOLD_EVERY;
        assert_eq!(said(&mut *reader, ALL), "");
    }

    #[test]
    fn a_rate_with_a_start_follows_the_wall() {
        let clock = Arc::new(HandClock::default());
        *clock.0.lock().unwrap() = Duration::from_secs(60);
        let spec = GeneratorSpec { rate: Some(10.0), rows: None, start_micros: Some(59_000_000), ..spec() };
        let mut generator = Generator::with_clock(&spec, Arc::clone(&clock) as _).unwrap();
        let ends: Vec<i64> = generator.partitions().unwrap().iter().map(|range| range.end.0).collect();
        assert_eq!(ends, [6, 5]);
        assert_eq!(generator.resolve(PartitionId(0), Start::Latest).unwrap(), Offset(6));
        assert_eq!(generator.resolve(PartitionId(0), Start::Timestamp(59_100_000)).unwrap(), Offset(1));
        assert_eq!(generator.resolve(PartitionId(0), Start::Timestamp(i64::MAX)).unwrap(), Offset(6));
        let mut reader = open(&spec, [0, 0], &clock);
        assert_eq!(said(&mut *reader, ALL), "0:0..6 1:0..5 0@6 1@5");
        *clock.0.lock().unwrap() += Duration::from_millis(100);
        assert_eq!(said(&mut *reader, ALL), "1:5..6 1@6");
        assert_eq!(reader.ends(), [(PartitionId(0), Offset(6)), (PartitionId(1), Offset(6))]);
    }

    #[test]
    fn timestamps_resolve_by_arrival() {
        let mut generator = Generator::new(&spec()).unwrap();
        let micros_per_click = (1e6 / RATE) as Micros;
        let at = |generator: &mut Generator, time| {
            generator.resolve(PartitionId(0), Start::Timestamp(time)).unwrap()
        };
        assert_eq!(at(&mut generator, START - 1), Offset(0));
        assert_eq!(at(&mut generator, START + 1), Offset(1));
        assert_eq!(at(&mut generator, START + 4 * micros_per_click), Offset(2));
        assert_eq!(at(&mut generator, START + 1_000_000_000), Offset(51));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            GeneratorSpec { partitions: 0, ..spec() },
            GeneratorSpec { rate: Some(-1.0), ..spec() },
            GeneratorSpec { rate: Some(f64::NAN), ..spec() },
        ] {
            assert!(matches!(Generator::new(&bad), Err(Error::Invalid(_))), "{bad:?}");
        }
        let mut generator = Generator::new(&spec()).unwrap();
        assert!(generator.open(&[(PartitionId(2), Offset(0)).into()], Reading::little(false)).is_err());
    }
}
