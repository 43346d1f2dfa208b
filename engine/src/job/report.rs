//! The engine's word on itself, read off the tables under their lock.

use crate::ids::CALENDAR;
use crate::job::lookups::Lookup;
use crate::job::shared::{Stream, Table, Tables};
use crate::job::waits::wait_of;
use crate::spec::SourceSpec;
use crate::status::{PartitionStatus, Status, StreamStatus, ViewStatus};

pub fn status(tables: &Tables) -> Status {
    Status {
        streams: tables.streams.values().map(stream_status).collect(),
        partitions: tables.streams.values().flat_map(partitions).collect(),
        views: (tables.tables.values().filter(|table| !table.spec.is_system()))
            .map(|table| view_status(tables, table))
            .collect(),
        lookups: tables.lookups.values().map(Lookup::status).collect(),
        checkpoints: tables.checkpoints.iter().cloned().collect(),
        compactions: tables.compactions.iter().cloned().collect(),
        ledger: tables.ledger_rows.iter().cloned().collect(),
        memory: tables.memory().status(),
        interventions: tables.interventions.iter().cloned().collect(),
        ..Status::default()
    }
}

fn stream_status(stream: &Stream) -> StreamStatus {
    StreamStatus {
        stream: stream.spec.name.clone(),
        connector: match &stream.spec.source {
            SourceSpec::Kafka(_) => "kafka",
            SourceSpec::Generator(_) => "generator",
            SourceSpec::Files(_) => "files",
            SourceSpec::Log(_) => "log",
            SourceSpec::Unplanned(_) => "unknown",
        },
        records: stream.records,
        rejected: stream.rejected,
        bytes: stream.bytes,
        frontier: stream.frontier,
        failure: stream.failure.clone(),
        next_try: stream.failure.as_ref().and(stream.tries.next),
        effort: stream.effort,
    }
}

fn partitions(stream: &Stream) -> Vec<PartitionStatus> {
    let active =
        stream.partitions.values().filter(|partition| partition.idle_since.is_none() && !partition.ended);
    let least = active.map(|partition| partition.time.watermark()).min();
    let status = |(id, partition): (&crate::ids::PartitionId, &crate::job::shared::Partition)| {
        let watermark = partition.time.watermark();
        let active = partition.idle_since.is_none() && !partition.ended;
        PartitionStatus {
            stream: stream.spec.name.clone(),
            partition: *id,
            offset: partition.next_offset,
            end_offset: partition.end_offset,
            watermark,
            idle_since: partition.idle_since,
            ended: partition.ended,
            holds_frontier: active && Some(watermark) == least,
        }
    };
    stream.partitions.iter().map(status).collect()
}

fn view_status(tables: &Tables, table: &Table) -> ViewStatus {
    ViewStatus {
        view: table.spec.name.clone(),
        stream: table.spec.inputs().join(", "),
        failure: table.failure.clone(),
        open_windows: table.panes.open_windows() as u64,
        state_bytes: table.panes.bytes() as u64,
        spilled_bytes: table.panes.mapped_bytes() as u64,
        state_rows: table.panes.rows() as u64,
        tail_rows: table.tail.row_count() as u64,
        history_files: table.history.files.len() as u64,
        history_rows: table.history.files.iter().map(|file| file.rows).sum(),
        late_rows: table.late,
        failed_rows: table.failed,
        // Once nothing can come, all has closed through the end of time, which is no moment.
        closed_through: table.panes.closed_through.filter(|through| CALENDAR.contains(through)),
        born_after: table.panes.born_after,
        waits_for: wait_of(tables, table),
    }
}
