//! How a manifest lies on the store: all of it, or what has changed since the one before. A chain of changes begins with a
//! whole one, and all in it are of one instance, for a claim is whole (INV-C13).
//!
//! What statements there are, and what plans their states were written by, lies in a catalog beside the manifests, which is
//! written when it changes: most of what is known of a table is its text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::manifest::{
    DeltaState, FORMAT, KeptState, LookupState, Manifest, ManifestKind, PartitionState, RunFile, StateFile,
    StreamState, TableKind, TableState,
};
use crate::ids::{Epoch, Micros};
use crate::status::{Failure, Intervention, LedgerRow};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub format: u32,
    pub epoch: Epoch,
    pub nonce: Uuid,
    pub kind: ManifestKind,
    pub committed_at: Micros,
    /// The whole manifest with which the chain begins that this one is the end of; none if it is whole itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Epoch>,
    /// Its path. Up to format 5 the texts stand where they belong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    pub streams: Vec<StreamState>,
    pub tables: Vec<WrittenTable>,
    /// Streams and tables that are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Uuid>,
    /// Those of before where there are none, as in all others below.
    #[serde(default, rename = "endpoints", skip_serializing_if = "Option::is_none")]
    pub kept: Option<Vec<KeptState>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookups: Option<Vec<LookupState>>,
    pub ledger: Vec<LedgerRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interventions: Option<Vec<Intervention>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTable {
    id: Uuid,
    name: String,
    kind: TableKind,
    runs: Vec<Listed<RunFile>>,
    tail: Vec<Listed<StateFile>>,
    tail_since: Option<Micros>,
    delta: DeltaState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

/// Of a list that has become another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Listed<T> {
    /// So many as they were, from this one on.
    Before(u32, u32),
    New(T),
}

impl Written {
    /// All of a manifest.
    pub fn whole(manifest: &Manifest) -> Written {
        let nothing = Manifest::empty(manifest.nonce);
        let written = Written::change(&nothing, manifest, None);
        Written {
            kept: Some(manifest.kept.iter().map(without_text).collect()),
            lookups: Some(manifest.lookups.iter().map(lookup_without_text).collect()),
            interventions: Some(manifest.interventions.clone()),
            ..written
        }
    }

    /// What has changed since the manifest `before`, in the chain that begins with epoch `since`.
    pub fn change(before: &Manifest, now: &Manifest, since: Option<Epoch>) -> Written {
        let streams = now.streams.iter().filter_map(|stream| {
            let known = before.streams.iter().find(|known| known.id == stream.id);
            stream_change(known, stream)
        });
        let known = before.tables_by_id();
        let changed = now.tables.iter().filter(|table| {
            known.get(&table.id).is_none_or(|known| !Arc::ptr_eq(known, table) && known != table)
        });
        let tables = changed.map(|table| WrittenTable::of(known.get(&table.id).copied(), table));
        Written {
            format: FORMAT,
            epoch: now.epoch,
            nonce: now.nonce,
            kind: now.kind,
            committed_at: now.committed_at,
            since,
            catalog: None,
            streams: streams.collect(),
            tables: tables.collect(),
            gone: gone(before, now),
            kept: (before.kept != now.kept).then(|| now.kept.iter().map(without_text).collect()),
            lookups: (before.lookups != now.lookups)
                .then(|| now.lookups.iter().map(lookup_without_text).collect()),
            ledger: now.ledger.clone(),
            interventions: (before.interventions != now.interventions).then(|| now.interventions.clone()),
        }
    }

    /// Makes the manifest before into this one, but for the texts.
    pub fn apply(self, manifest: &mut Manifest) -> Result<(), String> {
        (manifest.epoch, manifest.nonce, manifest.kind) = (self.epoch, self.nonce, self.kind);
        manifest.committed_at = self.committed_at;
        let stays = |id: &Uuid| !self.gone.contains(id) || self.streams.iter().any(|stream| stream.id == *id);
        manifest.streams.retain(|stream| stays(&stream.id));
        manifest.tables.retain(|table| !self.gone.contains(&table.id));
        for stream in self.streams {
            match manifest.streams.iter_mut().find(|known| known.id == stream.id) {
                Some(known) if self.gone.contains(&stream.id) => *known = stream,
                Some(known) => apply_stream(known, stream),
                None => manifest.streams.push(stream),
            }
        }
        let mut places: BTreeMap<Uuid, usize> =
            manifest.tables.iter().enumerate().map(|(at, table)| (table.id, at)).collect();
        for table in self.tables {
            let place = places.get(&table.id).copied();
            let table = Arc::new(table.table(place.map(|at| manifest.tables[at].as_ref()))?);
            match place {
                Some(at) => manifest.tables[at] = table,
                None => {
                    places.insert(table.id, manifest.tables.len());
                    manifest.tables.push(table);
                }
            }
        }
        manifest.kept = self.kept.unwrap_or_else(|| std::mem::take(&mut manifest.kept));
        manifest.lookups = self.lookups.unwrap_or_else(|| std::mem::take(&mut manifest.lookups));
        manifest.ledger = self.ledger;
        manifest.interventions =
            self.interventions.unwrap_or_else(|| std::mem::take(&mut manifest.interventions));
        Ok(())
    }
}

fn gone(before: &Manifest, now: &Manifest) -> Vec<Uuid> {
    let streams = before.streams.iter().filter(|before| {
        let still = now.streams.iter().find(|stream| stream.id == before.id);
        still.is_none_or(|now| has_lost_partitions(before, now))
    });
    let streams = streams.map(|stream| stream.id);
    let there = now.tables_by_id();
    let tables = before.tables.iter().map(|table| table.id).filter(|id| !there.contains_key(id));
    streams.chain(tables).collect()
}

/// Such a stream is told whole, as one that is gone and there again.
fn has_lost_partitions(before: &StreamState, now: &StreamState) -> bool {
    let is_there = |id| now.partitions.iter().any(|partition| partition.partition == id);
    before.partitions.iter().any(|partition| !is_there(partition.partition))
}

/// With the partitions alone that have come further.
fn stream_change(before: Option<&StreamState>, now: &StreamState) -> Option<StreamState> {
    if before == Some(now) {
        return None;
    }
    let before = before.filter(|before| !has_lost_partitions(before, now));
    let known: BTreeMap<_, &PartitionState> = before
        .into_iter()
        .flat_map(|before| before.partitions.iter().map(|known| (known.partition, known)))
        .collect();
    let changed = |partition: &&PartitionState| known.get(&partition.partition) != Some(partition);
    let partitions = now.partitions.iter().filter(changed).cloned().collect();
    Some(StreamState { sql: String::new(), partitions, ..now.clone() })
}

fn apply_stream(known: &mut StreamState, change: StreamState) {
    let mut partitions: BTreeMap<_, PartitionState> =
        known.partitions.drain(..).map(|partition| (partition.partition, partition)).collect();
    partitions.extend(change.partitions.into_iter().map(|partition| (partition.partition, partition)));
    *known = StreamState { partitions: partitions.into_values().collect(), ..change };
}

fn without_text(kept: &KeptState) -> KeptState {
    KeptState { sql: String::new(), ..kept.clone() }
}

fn lookup_without_text(lookup: &LookupState) -> LookupState {
    LookupState { sql: String::new(), ..lookup.clone() }
}

impl WrittenTable {
    fn of(before: Option<&Arc<TableState>>, now: &TableState) -> WrittenTable {
        let runs = before.map_or(&[][..], |before| &before.runs);
        let tail = before.map_or(&[][..], |before| &before.tail);
        let mut kind = now.kind.clone();
        if let TableKind::View { sql, inputs, fingerprint, .. } = &mut kind {
            (*sql, *inputs, *fingerprint) = (String::new(), vec![], String::new());
        }
        WrittenTable {
            id: now.id,
            name: now.name.clone(),
            kind,
            runs: listed(runs, &now.runs),
            tail: listed(tail, &now.tail),
            tail_since: now.tail_since,
            delta: now.delta.clone(),
            failure: now.failure.clone(),
        }
    }

    fn table(self, before: Option<&TableState>) -> Result<TableState, String> {
        let runs = before.map_or(&[][..], |before| &before.runs);
        let tail = before.map_or(&[][..], |before| &before.tail);
        Ok(TableState {
            id: self.id,
            runs: unlisted(&self.name, runs, self.runs)?,
            tail: unlisted(&self.name, tail, self.tail)?,
            name: self.name,
            kind: self.kind,
            tail_since: self.tail_since,
            delta: self.delta,
            failure: self.failure,
        })
    }
}

fn listed<T: Clone + PartialEq>(before: &[T], now: &[T]) -> Vec<Listed<T>> {
    let mut list: Vec<Listed<T>> = vec![];
    for item in now {
        let Some(at) = before.iter().position(|known| known == item) else {
            list.push(Listed::New(item.clone()));
            continue;
        };
        match list.last_mut() {
            Some(Listed::Before(from, many)) if (*from + *many) as usize == at => *many += 1,
            _ => list.push(Listed::Before(at as u32, 1)),
        }
    }
    list
}

fn unlisted<T: Clone>(table: &str, before: &[T], list: Vec<Listed<T>>) -> Result<Vec<T>, String> {
    let mut now = vec![];
    for item in list {
        match item {
            Listed::New(item) => now.push(item),
            Listed::Before(from, many) => {
                let known = before.get(from as usize..).and_then(|rest| rest.get(..many as usize));
                let known = known.ok_or_else(|| {
                    format!("it names files that the manifest before it does not. table=\"{table}\"")
                })?;
                now.extend_from_slice(known);
            }
        }
    }
    Ok(now)
}

/// The texts of all that a manifest names, by id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalog {
    texts: BTreeMap<Uuid, Text>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    sql: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    fingerprint: String,
}

impl Text {
    fn of(sql: &str) -> Text {
        Text { sql: sql.to_owned(), inputs: vec![], fingerprint: String::new() }
    }

    fn of_table(table: &TableState) -> Option<Text> {
        let TableKind::View { sql, inputs, fingerprint, .. } = &table.kind else { return None };
        Some(Text { sql: sql.clone(), inputs: inputs.clone(), fingerprint: fingerprint.clone() })
    }
}

impl Catalog {
    /// That of the manifest `now`, where this is that of `before`; none if it is the same.
    pub fn changed(&self, before: &Manifest, now: &Manifest) -> Option<Catalog> {
        let streams = now.streams.iter().map(|stream| (stream.id, Some(Text::of(&stream.sql))));
        let kept = now.kept.iter().map(|kept| (kept.id, Some(Text::of(&kept.sql))));
        let lookups = now.lookups.iter().map(|lookup| (lookup.id, Some(Text::of(&lookup.sql))));
        let known = before.tables_by_id();
        // The text of what has not changed is the same, where there is one: a manifest of an older format had no catalog.
        let tables = now.tables.iter().map(|table| match known.get(&table.id) {
            Some(known) if Arc::ptr_eq(known, table) && self.texts.contains_key(&table.id) => {
                (table.id, None)
            }
            _ => (table.id, Text::of_table(table)),
        });
        let (mut texts, mut differs) = (BTreeMap::new(), false);
        for (id, text) in streams.chain(kept).chain(lookups).chain(tables) {
            let known = self.texts.get(&id);
            differs |= text.is_some() && text.as_ref() != known;
            if let Some(text) = text.or_else(|| known.cloned()) {
                texts.insert(id, text);
            }
        }
        (differs || texts.len() != self.texts.len()).then_some(Catalog { texts })
    }

    /// Gives a manifest that was read its texts back.
    pub fn fill(&self, manifest: &mut Manifest) -> Result<(), String> {
        let text = |id: &Uuid, name: &str| {
            self.texts.get(id).ok_or_else(|| format!("the catalog has no text of {name:?}"))
        };
        for stream in &mut manifest.streams {
            stream.sql.clone_from(&text(&stream.id, &stream.name)?.sql);
        }
        for kept in &mut manifest.kept {
            kept.sql.clone_from(&text(&kept.id, &kept.name)?.sql);
        }
        for lookup in &mut manifest.lookups {
            lookup.sql.clone_from(&text(&lookup.id, &lookup.name)?.sql);
        }
        for table in &mut manifest.tables {
            let table = Arc::make_mut(table);
            if let TableKind::View { sql, inputs, fingerprint, .. } = &mut table.kind {
                let text = text(&table.id, &table.name)?;
                sql.clone_from(&text.sql);
                inputs.clone_from(&text.inputs);
                fingerprint.clone_from(&text.fingerprint);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Offset, PartitionId};

    #[test]
    fn a_partition_that_is_gone_stays_gone() {
        let stream = |name: &str, id: u128, partitions: &[i32]| StreamState {
            id: Uuid::from_u128(id),
            name: name.into(),
            sql: String::new(),
            topic_id: None,
            frontier: None,
            partitions: (partitions.iter())
                .map(|id| PartitionState {
                    partition: PartitionId(*id),
                    next_offset: Offset(7),
                    event_time_max: None,
                    floor: None,
                    idle: false,
                    ended: false,
                    last_record: None,
                })
                .collect(),
            records: 1,
            rejected: 0,
        };
        let manifest = |streams: Vec<StreamState>| Manifest { streams, ..Manifest::empty(Uuid::nil()) };
        let before = manifest(vec![stream("a", 1, &[0, 1]), stream("b", 2, &[0])]);
        for now in [
            manifest(vec![stream("a", 1, &[0]), stream("b", 2, &[0])]),
            manifest(vec![stream("a", 1, &[0, 1, 2]), stream("b", 2, &[0])]),
            manifest(vec![stream("a", 1, &[1, 2]), stream("b", 2, &[0, 1])]),
            manifest(vec![stream("b", 2, &[0])]),
        ] {
            let mut applied = before.clone();
            Written::change(&before, &now, None).apply(&mut applied).unwrap();
            assert_eq!(applied, now);
        }
    }

    #[test]
    fn a_list_that_has_become_another_is_told_by_what_stayed() {
        let told = |before: &[u64], now: &[u64]| {
            let list = listed(before, now);
            assert_eq!(unlisted("v", before, list.clone()).unwrap(), now);
            serde_json::to_string(&list).unwrap()
        };
        assert_eq!(told(&[1, 2, 3], &[1, 2, 3, 4]), "[[0,3],4]");
        assert_eq!(told(&[1, 2, 3], &[2, 9]), "[[1,1],9]");
        assert_eq!(told(&[1, 2, 3, 4], &[1, 7, 4]), "[[0,1],7,[3,1]]");
        assert_eq!(told(&[1], &[]), "[]");
        assert!(unlisted("v", &[1, 2], vec![Listed::Before(1, 2)]).unwrap_err().contains("\"v\""));
    }
}
