//! Views without a window that keep a group only as long as rows of it come: `WITH (keep = '7d')`.
//!
//! When a group leaves is decided when an epoch closes, by event time: its newest row, which is part of what is kept of it,
//! lies further back than that. To see it all that is kept of a group must be together, so groups are not looked at in each
//! epoch, but a few times while one could grow old.

use std::collections::HashSet;

use arrow::array::{AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::OwnedRow;

use crate::ids::Micros;
use crate::spec::{Cut, Ever};
use crate::view::compact::compacted;
use crate::view::part::Part;
use crate::view::session::keys_of;
use crate::{Error, Result};

const LOOKS: Micros = 8;

impl Ever {
    /// The last instant at which groups are looked at when time has come to `through`.
    pub fn looked_through(&self, through: Option<Micros>) -> Option<Micros> {
        let step = (self.keep? / LOOKS).max(1);
        Some(through?.div_euclid(step).saturating_mul(step))
    }
}

/// Merged parts without the groups that were too old at an instant; nothing where none of them was. Nor does that lie behind
/// the newest row of all: a stream that has ended has all time behind it.
///
/// The newest time of a group is the last column of cut 0, and all cuts have the same groups.
pub fn without_old(cuts: &[Cut], parts: &[Part], keep: Micros, at: Micros) -> Result<Option<Vec<Part>>> {
    let of_groups = || parts.iter().filter(|part| part.cut == 0);
    let mut newest = Micros::MIN;
    for part in of_groups() {
        newest = newest.max(newest_of(part)?.values().iter().copied().max().unwrap_or(newest));
    }
    let since = at.min(newest).saturating_sub(keep);
    // A group may be in several rows.
    let mut old: HashSet<OwnedRow> = HashSet::new();
    for young in [false, true] {
        for part in of_groups() {
            let keys = keys_of(&cuts[0], &part.batch)?;
            for (row, newest) in newest_of(part)?.values().iter().enumerate() {
                match young {
                    false if *newest < since => _ = old.insert(keys.row(row).owned()),
                    true if *newest >= since && !old.is_empty() => _ = old.remove(&keys.row(row).owned()),
                    _ => {}
                }
            }
        }
    }
    if old.is_empty() {
        return Ok(None);
    }
    let mut staying = vec![];
    for part in parts {
        let keys = keys_of(&cuts[part.cut as usize], &part.batch)?;
        let stays: BooleanArray = keys.iter().map(|key| Some(!old.contains(&key.owned()))).collect();
        let batch = filter_record_batch(&part.batch, &stays)?;
        if batch.num_rows() > 0 {
            staying.push(Part::of_one_pane(0, part.cut, compacted(batch)?));
        }
    }
    Ok(Some(staying))
}

fn newest_of(part: &Part) -> Result<&TimestampMicrosecondArray> {
    let newest = part.batch.columns().last();
    let newest = newest.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    newest.ok_or_else(|| Error::Internal("groups lack the time of their newest row".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_looked_at_a_few_times_while_one_grows_old() {
        let ever = Ever { keep: Some(80), snapshot: None };
        let looks: Vec<_> = [0, 9, 10, 19, 25, -1].map(|at| ever.looked_through(Some(at))).into();
        assert_eq!(looks, [Some(0), Some(0), Some(10), Some(10), Some(20), Some(-10)]);
        assert_eq!(ever.looked_through(None), None);
        assert_eq!(Ever::default().looked_through(Some(7)), None);
    }
}
