//! What a view waits for: which input, who holds that back, and when the next of its units closes.

use crate::ids::Micros;
use crate::job::shared::{Partition, Stream, Table, Tables};
use crate::spec::{Input, Unit, ViewInput, ViewShape};
use crate::status::Wait;

pub fn wait_of(tables: &Tables, table: &Table) -> Wait {
    if table.failure.is_some() {
        return Wait::Restart;
    }
    let reads = table.spec.legs.iter().map(|leg| &leg.input);
    if let Some(wait) = reads.clone().find_map(|input| stands_still(tables, input)) {
        return wait;
    }
    match &table.spec.shape {
        ViewShape::Copy { .. } | ViewShape::Units { unit: Unit::Ever(_), .. } => return Wait::Nothing,
        ViewShape::Units { .. } => {}
    }
    let Some(closes) = table.panes.next_end() else {
        return reads.clone().find_map(|input| has_open(tables, input)).unwrap_or(Wait::Rows);
    };
    let (lateness, hold) = (table.spec.shape.allowed_lateness(), table.spec.shape.hold());
    let through = closes.saturating_add(hold);
    for input in reads {
        match input {
            Input::Stream(name) => {
                let Some(stream) = tables.streams.get(name) else { continue };
                let needs = through.saturating_add(lateness);
                if stream.frontier.is_none_or(|frontier| frontier < needs) {
                    return waits_for_stream(stream, closes, needs);
                }
            }
            Input::View(input) => {
                let Some(read) = tables.tables.get(&input.name) else { continue };
                let closed_through = read.panes.closed_through;
                if input.frontier(closed_through).is_none_or(|frontier| frontier < through) {
                    let (view, needs) = (input.name.clone(), input.closed_for(through));
                    return Wait::View { view, closes, closed_through, needs };
                }
            }
        }
    }
    Wait::Checkpoint { closes }
}

/// An input from which nothing has come, or can come.
fn stands_still(tables: &Tables, input: &Input) -> Option<Wait> {
    match input {
        Input::Stream(name) => {
            let stream = tables.streams.get(name)?;
            if stream.failure.is_some() {
                let is_tried = stream.tries.next.is_some();
                return Some(Wait::FailedStream { stream: name.clone(), is_tried });
            }
            // Refused records say nothing of time.
            let timeless = || stream.partitions.values().all(|it| it.time.watermark().is_none());
            let waits = stream.records == 0 || (stream.spec.event_time.is_some() && timeless());
            waits.then(|| Wait::FirstRecord { stream: name.clone() })
        }
        Input::View(ViewInput { name, .. }) => {
            let failed = tables.tables.get(name)?.failure.is_some();
            failed.then(|| Wait::FailedView { view: name.clone() })
        }
    }
}

/// A view whose open rows are those that come next.
fn has_open(tables: &Tables, input: &Input) -> Option<Wait> {
    let Input::View(ViewInput { name, .. }) = input else { return None };
    let read = tables.tables.get(name)?;
    let closes = read.panes.next_end()?;
    let closed_through = read.panes.closed_through;
    Some(Wait::View { view: name.clone(), closes, closed_through, needs: closes })
}

/// Who holds the stream back: of those that are heard the one that is furthest behind.
fn waits_for_stream(stream: &Stream, closes: Micros, needs: Micros) -> Wait {
    let holds = |(_, partition): &(_, &Partition)| partition.idle_since.is_none() && !partition.ended;
    let active = stream.partitions.iter().filter(holds);
    let name = stream.spec.name.clone();
    match active.min_by_key(|(_, partition)| partition.time.watermark()) {
        Some((id, partition)) => Wait::Partition {
            stream: name,
            partition: *id,
            watermark: partition.time.watermark(),
            since: partition.risen.map(|(_, at)| at),
            closes,
            needs,
        },
        None => Wait::Silence { stream: name, closes, idle: stream.spec.options.idle },
    }
}
