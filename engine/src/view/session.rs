//! Sessions: rows of one key that follow one another within a gap. Partial rows are kept by key, with the start and end
//! of what they are of; merging them is finding out which belong together.
//!
//! Which session a row lands in depends on rows alone, not on how batches were cut or when an epoch ended: a row behind
//! its own partition's watermark is late, so nothing ever comes for a session that may have closed.
//!
//! One that goes on for long is cut (a robot makes no pauses). Where, is known only once it is known where it begins, so
//! what is merged until then stays apart at each place where it may be.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array,
    make_comparator,
};
use arrow::compute::{SortOptions, and, concat_batches, filter_record_batch, not, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::{RowConverter, Rows, SortField};

use crate::ids::Micros;
use crate::spec::{Cut, Session, Unit};
use crate::view::part::{Part, hashes_of};
use crate::view::run::Run;
use crate::view::upper::WindowPart;
use crate::{Error, Result};

/// Sessions end for the engine at multiples of this, or of less where the gap is short: so many panes there are.
const SLICE_MAX: Micros = 1_000_000;
const SLICES_PER_GAP: Micros = 16;

/// There are so many places within the longest session where one may be cut, at multiples of their distance.
const PLACES: Micros = 24;

impl Session {
    fn slice(&self) -> Micros {
        (self.gap / SLICES_PER_GAP).clamp(1, SLICE_MAX)
    }

    /// The pane of what ends at an instant: it lies within the slice, at its end at the latest.
    pub fn pane_of_end(&self, end: Micros) -> Micros {
        end.saturating_sub(1).div_euclid(self.slice()).saturating_mul(self.slice())
    }

    /// By when all of a pane has ended.
    pub fn last_end(&self, pane: Micros) -> Micros {
        pane.saturating_add(self.slice())
    }

    /// From where on rows are of the next session, whatever is between.
    fn limit(&self, start: Micros) -> Micros {
        self.place(start).saturating_add(PLACES).saturating_mul(self.between_places())
    }

    fn next_place(&self, time: Micros) -> Micros {
        self.place(time).saturating_add(1).saturating_mul(self.between_places())
    }

    /// The number of the place at or before an instant.
    fn place(&self, time: Micros) -> Micros {
        time.div_euclid(self.between_places())
    }

    fn between_places(&self) -> Micros {
        (self.longest / PLACES).max(1)
    }

    /// Sessions that start up to here may have begun before their view was born.
    pub fn born_after(&self, born: Micros) -> Micros {
        born.saturating_add(self.gap)
    }

    /// The last instant up to which whole slices have passed.
    pub fn closed_through(&self, instant: Micros) -> Micros {
        instant.div_euclid(self.slice()).saturating_mul(self.slice())
    }
}

/// What closing sessions up to an instant comes to.
#[derive(Debug, Default)]
pub struct Closing {
    pub closing: Vec<WindowPart>,
    /// What had ended, and goes on in sessions that have not: with the bounds of these.
    pub carried: Vec<Part>,
}

/// How far rows that follow one another are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Together {
    /// Between two places where their session may be cut.
    BetweenPlaces,
    /// As whole sessions: no row is to come that would begin one earlier.
    Sessions,
}

/// Rows of each cut with the bounds of the sessions that they are of now. Those of `born_after` and before may lack rows.
pub fn labelled(
    session: Session,
    cuts: &[Cut],
    parts: &[&Part],
    born_after: Option<Micros>,
) -> Result<Vec<WindowPart>> {
    let mut labelled = vec![];
    for (number, cut) in (0..).zip(cuts) {
        let batches: Vec<_> =
            parts.iter().filter(|part| part.cut == number).map(|part| part.batch.clone()).collect();
        if let Some(Labelled { batch, .. }) = label(session, cut, &batches, Together::Sessions)? {
            let batch = filter_record_batch(&batch, &bounds(cut, &batch)?.born(born_after))?;
            labelled.push(WindowPart { cut: number, batch, bounds: None });
        }
    }
    Ok(labelled)
}

/// All that a view without a window is finished from: where groups grow old, of each key its newest session.
pub fn of_ever(unit: Unit, cuts: &[Cut], parts: Vec<&Part>) -> Result<Vec<WindowPart>> {
    let Some(session) = unit.session() else {
        return Ok(parts.into_iter().map(WindowPart::of_itself).collect());
    };
    let mut found = vec![];
    for (number, cut) in (0..).zip(cuts) {
        let of_cut = parts.iter().filter(|part| part.cut == number);
        let batches: Vec<_> = of_cut.map(|part| part.batch.clone()).collect();
        if let Some(Labelled { batch, newest, .. }) = label(session, cut, &batches, Together::Sessions)? {
            let batch = filter_record_batch(&batch, &newest)?;
            found.push(WindowPart { cut: number, batch, bounds: None });
        }
    }
    Ok(found)
}

/// Which sessions have ended by `through`, and what of them goes on. What has not ended is looked at for its keys alone, so
/// this costs what ends and little of what is open.
pub fn close(
    unit: Unit,
    session: Session,
    cuts: &[Cut],
    parts: &[&Part],
    through: Micros,
    born_after: Option<Micros>,
) -> Result<Closing> {
    let mut outcome = Closing::default();
    for (number, cut) in (0..).zip(cuts) {
        let parts: Vec<&Part> = parts.iter().filter(|part| part.cut == number).copied().collect();
        let ended = |part: &&Part| part.pieces(|pane| session.last_end(pane) <= through);
        let ending: Vec<RecordBatch> = parts.iter().flat_map(ended).collect();
        if ending.is_empty() {
            continue;
        }
        let keys = Hashes::of(cut, &ending)?;
        // Of those that have not ended, the ones of the same keys say how the others go on.
        let mut concerned = vec![];
        for part in parts {
            let hashes = part.key_hashes(cut)?;
            let rows = (0..).zip(hashes).filter(|(_, hash)| keys.contains(**hash)).map(|(row, _)| row);
            let rows = UInt32Array::from_iter_values(rows);
            if !rows.is_empty() {
                concerned.push(take_record_batch(&part.batch, &rows)?);
            }
        }
        let Some(first) = concerned.first() else { continue };
        let all = concat_batches(first.schema_ref(), &concerned)?;
        let ended = bounds(cut, &all)?.ended(through);
        let Some(labelled) = label(session, cut, &[all], Together::Sessions)? else { continue };
        let now = bounds(cut, &labelled.batch)?;
        let closes = now.ended(through);
        let closing = filter_record_batch(&labelled.batch, &and(&closes, &now.born(born_after))?)?;
        outcome.closing.push(WindowPart { cut: number, batch: closing, bounds: None });
        let goes_on = filter_record_batch(&labelled.batch, &and(&ended, &not(&closes)?)?)?;
        outcome.carried.extend(Part::of_batches(number, &[goes_on], cut, unit)?);
    }
    Ok(outcome)
}

/// Whether merging runs would make them smaller by a good part. Small ones are merged in any case, for there would be many;
/// large ones of as many keys as rows would be copied for nothing.
pub fn are_worth_merging(cuts: &[Cut], runs: &[Arc<Run>]) -> Result<bool> {
    const SMALL: usize = 100_000;
    /// One key of so many is looked at.
    const SAMPLED: u64 = 16;
    let parts = || runs.iter().flat_map(|run| run.parts());
    if parts().map(|part| part.batch.num_rows()).sum::<usize>() <= SMALL {
        return Ok(true);
    }
    let mut keys = vec![];
    for part in parts() {
        for hash in part.key_hashes(&cuts[part.cut as usize])?.iter().filter(|hash| *hash % SAMPLED == 0) {
            keys.push((part.cut, *hash));
        }
    }
    let rows = keys.len();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys.len() * 4 < rows * 3)
}

/// The hashes of some keys: most of what is asked for is none of them.
struct Hashes {
    /// Ascending.
    some: Vec<u64>,
    /// By the lowest bits.
    likely: Vec<bool>,
}

impl Hashes {
    const LIKELY: u64 = 1 << 16;

    fn of(cut: &Cut, batches: &[RecordBatch]) -> Result<Hashes> {
        let mut hashes = Hashes { some: vec![], likely: vec![false; Hashes::LIKELY as usize] };
        for batch in batches {
            for hash in hashes_of(cut, batch)? {
                hashes.likely[(hash % Hashes::LIKELY) as usize] = true;
                hashes.some.push(hash);
            }
        }
        hashes.some.sort_unstable();
        Ok(hashes)
    }

    fn contains(&self, hash: u64) -> bool {
        self.likely[(hash % Hashes::LIKELY) as usize] && self.some.binary_search(&hash).is_ok()
    }
}

/// All rows with bounds by which those can be merged that are of one session wherever that begins.
pub fn mergeable(session: Session, cut: &Cut, batches: &[RecordBatch]) -> Result<Option<Labelled>> {
    label(session, cut, batches, Together::BetweenPlaces)
}

/// Rows with the bounds of what they make together, in the order in which they came.
pub struct Labelled {
    pub batch: RecordBatch,
    /// Which of them have others beside them.
    pub together: BooleanArray,
    /// Which of them are of the newest of their key.
    pub newest: BooleanArray,
}

fn label(
    session: Session,
    cut: &Cut,
    batches: &[RecordBatch],
    together: Together,
) -> Result<Option<Labelled>> {
    let Some(first) = batches.first() else { return Ok(None) };
    let batch = concat_batches(first.schema_ref(), batches)?;
    let Bounds { starts, ends } = bounds(cut, &batch)?;
    let order = by_key_and_start(cut, &batch, starts.values())?;
    let (mut new_starts, mut new_ends) = (starts.values().to_vec(), ends.values().to_vec());
    let (mut beside, mut newest) = (vec![false; batch.num_rows()], vec![false; batch.num_rows()]);
    for of_key in order.chunk_by(|(one, _), (other, _)| one == other) {
        let mut rest = of_key;
        while let Some(&(_, first)) = rest.first() {
            let (start, mut end) = (starts.value(first), ends.value(first));
            let limit = match together {
                Together::BetweenPlaces => session.next_place(start),
                Together::Sessions => session.limit(start),
            };
            let mut members = 1;
            while let Some(&(_, next)) = rest.get(members)
                && starts.value(next) < end.min(limit)
            {
                end = end.max(ends.value(next));
                members += 1;
            }
            for &(_, row) in &rest[..members] {
                (new_starts[row], new_ends[row]) = (start, end);
                beside[row] = members > 1;
                newest[row] = members == rest.len();
            }
            rest = &rest[members..];
        }
    }
    let (start, end) = places(cut)?;
    let mut columns = batch.columns().to_vec();
    for (place, values) in [(start, new_starts), (end, new_ends)] {
        let moments = TimestampMicrosecondArray::from(values).with_timezone("UTC");
        columns[place] = Arc::new(moments) as ArrayRef;
    }
    let batch = RecordBatch::try_new(batch.schema(), columns)?;
    Ok(Some(Labelled { batch, together: beside.into(), newest: newest.into() }))
}

/// The rows, those of one key by their start, each with a number that is its key's alone.
fn by_key_and_start(cut: &Cut, batch: &RecordBatch, starts: &[Micros]) -> Result<Vec<(u64, usize)>> {
    let hashes = hashes_of(cut, batch)?;
    let mut order: Vec<(u64, usize)> = hashes.into_iter().zip(0..).collect();
    order.sort_unstable_by_key(|&(hash, row)| (hash, starts[row]));
    let mut same = vec![];
    for key in &cut.keys {
        let column = batch.column(*key);
        same.push(make_comparator(column, column, SortOptions::default())?);
    }
    let differ = |pair: &[(u64, usize)]| {
        let ((one_hash, one), (other_hash, other)) = (pair[0], pair[1]);
        one_hash == other_hash && same.iter().any(|same| same(one, other) != Ordering::Equal)
    };
    if order.windows(2).any(differ) {
        // Two keys with one hash, as good as never.
        let keys = keys_of(cut, batch)?;
        let mut numbers: Vec<usize> = (0..batch.num_rows()).collect();
        numbers.sort_unstable_by(|&a, &b| keys.row(a).cmp(&keys.row(b)).then(starts[a].cmp(&starts[b])));
        let mut number = 0;
        order.clear();
        for row in numbers {
            if order.last().is_some_and(|&(_, before)| keys.row(before) != keys.row(row)) {
                number += 1;
            }
            order.push((number, row));
        }
    }
    Ok(order)
}

struct Bounds {
    starts: TimestampMicrosecondArray,
    ends: TimestampMicrosecondArray,
}

impl Bounds {
    fn ended(&self, through: Micros) -> BooleanArray {
        self.ends.values().iter().map(|end| Some(*end <= through)).collect()
    }

    fn born(&self, after: Option<Micros>) -> BooleanArray {
        self.starts.values().iter().map(|start| Some(after.is_none_or(|after| *start > after))).collect()
    }
}

fn places(cut: &Cut) -> Result<(usize, usize)> {
    match (cut.window_start, cut.window_end) {
        (Some(start), Some(end)) => Ok((start, end)),
        _ => Err(Error::Internal("a cut of sessions lacks a bound".into())),
    }
}

fn bounds(cut: &Cut, batch: &RecordBatch) -> Result<Bounds> {
    let (start, end) = places(cut)?;
    let moments = |column: usize| {
        let column = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>();
        let column = column.filter(|column| column.null_count() == 0).cloned();
        column.ok_or_else(|| Error::Internal("a row without an event time reached a session".into()))
    };
    Ok(Bounds { starts: moments(start)?, ends: moments(end)? })
}

/// When the rows' sessions end, as far as is known.
pub fn ends(cut: &Cut, batch: &RecordBatch) -> Result<Vec<Micros>> {
    Ok(bounds(cut, batch)?.ends.values().to_vec())
}

/// The keys by which sessions are told apart.
fn keys_of(cut: &Cut, batch: &RecordBatch) -> Result<Rows> {
    let mut columns: Vec<ArrayRef> = cut.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
    if columns.is_empty() {
        // One and the same key for all.
        columns.push(Arc::new(BooleanArray::from(vec![true; batch.num_rows()])));
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(&columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::spec::Reach;
    use crate::spec::State;

    const GAP: Micros = 10;
    const UNCUT: Session = Session { gap: GAP, longest: 1_000_000 };

    fn cut() -> Cut {
        let schema = Arc::new(Schema::empty());
        let state = State::Rows(schema);
        Cut {
            lowers: vec![],
            state,
            window_start: Some(1),
            window_end: Some(2),
            keys: vec![0],
            reach: Reach::default(),
            whole: true,
        }
    }

    /// Each row a key and a time.
    fn rows(rows: &[(&str, Micros)]) -> RecordBatch {
        let moments = |values: Vec<Micros>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(key, _)| *key)));
        let starts = moments(rows.iter().map(|(_, time)| *time).collect());
        let ends = moments(rows.iter().map(|(_, time)| *time + GAP).collect());
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.len() as i64));
        RecordBatch::try_from_iter([("k", keys), ("start", starts), ("end", ends), ("n", numbers)])
            .expect("columns are equally long")
    }

    fn told(batch: &RecordBatch) -> Vec<(Micros, Micros)> {
        let Bounds { starts, ends } = bounds(&cut(), batch).expect("it has bounds");
        starts.values().iter().copied().zip(ends.values().iter().copied()).collect()
    }

    fn sessions(session: Session, batches: &[RecordBatch]) -> RecordBatch {
        let labelled = label(session, &cut(), batches, Together::Sessions);
        labelled.expect("it works").expect("there are rows").batch
    }

    #[test]
    fn one_that_does_not_end_is_cut() {
        let batch =
            rows(&[("a", 5), ("a", 14), ("a", 23), ("a", 29), ("a", 38), ("a", 47), ("a", 53), ("a", 70)]);
        let session = Session { gap: GAP, longest: 24 };
        // From 5 up to 29, and from there up to 53.
        let expected = [(5, 33), (5, 33), (5, 33), (29, 57), (29, 57), (29, 57), (53, 63), (70, 80)];
        assert_eq!(told(&sessions(session, &[batch])), expected);
    }

    #[test]
    fn one_exactly_a_gap_later_begins_the_next() {
        let batch = rows(&[("a", 0), ("b", 3), ("a", 19), ("a", 9), ("a", 30), ("b", 13), ("a", 29)]);
        let labelled = sessions(UNCUT, &[batch]);
        assert_eq!(told(&labelled), [(0, 19), (3, 13), (19, 29), (0, 19), (29, 40), (13, 23), (29, 40)]);
    }

    #[test]
    fn merging_what_is_merged_is_merging_all_at_once() {
        let mut seed = 7u64;
        let mut random = |of: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % of
        };
        for _ in 0..200 {
            let all: Vec<(&str, Micros)> =
                (0..30).map(|_| (["a", "b"][random(2) as usize], random(150) as Micros)).collect();
            let (first, second) = all.split_at(random(30) as usize);
            // Uncut, and cut after 20 to 24.
            for session in [UNCUT, Session { gap: GAP, longest: 24 }] {
                let once = sessions(session, &[rows(&all)]);
                let merge = |batch| {
                    let merged = mergeable(session, &cut(), &[batch]).expect("it works");
                    merged.map(|labelled| labelled.batch)
                };
                let pieces: Vec<RecordBatch> =
                    merge(rows(first)).into_iter().chain(merge(rows(second))).collect();
                assert_eq!(told(&once), told(&sessions(session, &pieces)));
            }
        }
    }

    #[test]
    fn what_has_ended_may_go_on() {
        let session = UNCUT;
        let unit = Unit::Session(session);
        let part = |batch| Part::of_batches(0, &[batch], &cut(), unit).expect("it works").expect("has rows");
        // Of a, 0 to 10 has ended at 12 and goes on with 8; b has ended, and c has not.
        let (old, new) = (part(rows(&[("a", 0), ("b", 1)])), part(rows(&[("a", 8), ("c", 5)])));
        let outcome = close(unit, session, &[cut()], &[&old, &new], 12, None).expect("it works");
        assert_eq!(told(&outcome.closing[0].batch), [(1, 11)]);
        assert_eq!(outcome.carried.iter().flat_map(|part| told(&part.batch)).collect::<Vec<_>>(), [(0, 18)]);
        let born = close(unit, session, &[cut()], &[&old, &new], 12, Some(1)).expect("it works");
        assert_eq!(born.closing[0].batch.num_rows(), 0);
    }
}
