//! The ledger of conservation: for each epoch, where every record went. Each term is counted where it happens; this
//! file adds them up and compares, and an imbalance stops the commit (INV-9).

use std::collections::BTreeMap;

use crate::ids::{Epoch, PartitionId};
use crate::status::LedgerRow;
use crate::{Error, Result};

#[derive(Debug, Clone, Default)]
pub struct EpochLedger {
    partitions: BTreeMap<(String, PartitionId), PartitionTerms>,
    views: BTreeMap<String, ViewTerms>,
}

/// Of one partition: `records = decoded + rejected`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionTerms {
    pub records: u64,
    pub decoded: u64,
    pub rejected: u64,
}

/// Of one view: `decoded = aggregated + filtered + late + failed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewTerms {
    pub decoded: u64,
    pub aggregated: u64,
    pub filtered: u64,
    pub late: u64,
    pub failed: u64,
}

impl EpochLedger {
    pub fn add_partition(&mut self, stream: &str, partition: PartitionId, terms: PartitionTerms) {
        let sum = self.partitions.entry((stream.to_string(), partition)).or_default();
        sum.records += terms.records;
        sum.decoded += terms.decoded;
        sum.rejected += terms.rejected;
    }

    pub fn add_view(&mut self, view: &str, terms: ViewTerms) {
        let sum = self.views.entry(view.to_string()).or_default();
        sum.decoded += terms.decoded;
        sum.aggregated += terms.aggregated;
        sum.filtered += terms.filtered;
        sum.late += terms.late;
        sum.failed += terms.failed;
    }

    pub fn view(&self, view: &str) -> ViewTerms {
        self.views.get(view).copied().unwrap_or_default()
    }

    /// The lines of the epoch, if they balance. `streams` says which stream each view reads: what a view was given
    /// must be what its stream's partitions decoded.
    pub fn balanced(&self, epoch: Epoch, streams: &BTreeMap<String, String>) -> Result<Vec<LedgerRow>> {
        let mut rows = vec![];
        let mut decoded: BTreeMap<&str, u64> = BTreeMap::new();
        for ((stream, partition), terms) in &self.partitions {
            if terms.records != terms.decoded + terms.rejected {
                return Err(imbalance(
                    epoch,
                    &format!("stream={stream:?}, partition={partition}, {terms:?}"),
                ));
            }
            *decoded.entry(stream).or_default() += terms.decoded;
            rows.push(LedgerRow {
                epoch,
                stream: stream.clone(),
                partition: Some(*partition),
                records: terms.records,
                decoded: terms.decoded,
                rejected: terms.rejected,
                ..LedgerRow::default()
            });
        }
        for (view, stream) in streams {
            let terms = self.view(view);
            let given = decoded.get(stream.as_str()).copied().unwrap_or_default();
            let accounted = terms.aggregated + terms.filtered + terms.late + terms.failed;
            if terms.decoded != given || terms.decoded != accounted {
                return Err(imbalance(
                    epoch,
                    &format!("view={view:?}, decoded by its stream={given}, {terms:?}"),
                ));
            }
            if terms == ViewTerms::default() {
                continue;
            }
            rows.push(LedgerRow {
                epoch,
                stream: stream.clone(),
                view: Some(view.clone()),
                decoded: terms.decoded,
                aggregated: terms.aggregated,
                filtered: terms.filtered,
                late: terms.late,
                failed: terms.failed,
                ..LedgerRow::default()
            });
        }
        Ok(rows)
    }
}

fn imbalance(epoch: Epoch, what: &str) -> Error {
    Error::Internal(format!("rows were not conserved, nothing was committed. epoch={epoch}, {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(aggregated: u64) -> EpochLedger {
        let mut ledger = EpochLedger::default();
        let partition = PartitionTerms { records: 6, decoded: 5, rejected: 1 };
        ledger.add_partition("clicks", PartitionId(0), partition);
        ledger.add_view("v", ViewTerms { decoded: 5, aggregated, filtered: 1, late: 1, failed: 1 });
        ledger
    }

    #[test]
    fn a_lost_row_is_an_imbalance() {
        let streams = BTreeMap::from([("v".to_string(), "clicks".to_string())]);
        assert_eq!(ledger(2).balanced(Epoch(1), &streams).expect("balances").len(), 2);
        let error = ledger(1).balanced(Epoch(1), &streams).expect_err("one row is missing");
        assert!(error.to_string().contains("not conserved"), "{error}");
    }
}
