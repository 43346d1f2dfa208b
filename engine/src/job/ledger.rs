//! The ledger of conservation: for each epoch, where every record went. Each term is counted where it happens; this
//! file adds them up and compares, and an imbalance stops the commit (INV-9).

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::ids::{Epoch, PartitionId};
use crate::status::LedgerRow;
use crate::view::lower::Lowered;
use crate::{Error, Result};

#[derive(Debug, Clone, Default)]
pub struct EpochLedger {
    partitions: BTreeMap<(String, PartitionId), PartitionTerms>,
    /// By view and leg.
    views: BTreeMap<(String, usize), ViewTerms>,
}

/// Of one partition: `records = decoded + rejected`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionTerms {
    pub records: u64,
    pub decoded: u64,
    pub rejected: u64,
}

/// Of one place where a view reads an input: `decoded = aggregated + filtered + late + failed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewTerms {
    pub decoded: u64,
    pub aggregated: u64,
    pub filtered: u64,
    pub late: u64,
    pub failed: u64,
}

impl ViewTerms {
    pub fn of(rows: usize, lowered: &Lowered) -> ViewTerms {
        ViewTerms {
            decoded: rows as u64,
            aggregated: lowered.aggregated,
            filtered: lowered.filtered,
            late: lowered.late,
            failed: lowered.failed.len() as u64,
        }
    }

    pub fn balance(&self) -> bool {
        self.decoded == self.aggregated + self.filtered + self.late + self.failed
    }

    /// Of a view over `input`.
    pub fn row(&self, epoch: Epoch, input: &str, view: &str) -> LedgerRow {
        LedgerRow {
            epoch,
            stream: input.to_string(),
            view: Some(view.to_string()),
            decoded: self.decoded,
            aggregated: self.aggregated,
            filtered: self.filtered,
            late: self.late,
            failed: self.failed,
            ..LedgerRow::default()
        }
    }
}

impl AddAssign for ViewTerms {
    fn add_assign(&mut self, more: ViewTerms) {
        self.decoded += more.decoded;
        self.aggregated += more.aggregated;
        self.filtered += more.filtered;
        self.late += more.late;
        self.failed += more.failed;
    }
}

impl EpochLedger {
    pub fn add_partition(&mut self, stream: &str, partition: PartitionId, terms: PartitionTerms) {
        let sum = self.partitions.entry((stream.to_string(), partition)).or_default();
        sum.records += terms.records;
        sum.decoded += terms.decoded;
        sum.rejected += terms.rejected;
    }

    pub fn add_view(&mut self, view: &str, leg: usize, terms: ViewTerms) {
        *self.views.entry((view.to_string(), leg)).or_default() += terms;
    }

    /// Over all legs of the view.
    pub fn view(&self, view: &str) -> ViewTerms {
        let mut sum = ViewTerms::default();
        self.views.iter().filter(|((name, _), _)| name == view).for_each(|(_, terms)| sum += *terms);
        sum
    }

    /// The lines of the epoch, if they balance. `legs` says which stream each leg of a view reads: what it was given must
    /// be what its stream's partitions decoded.
    pub fn balanced(&self, epoch: Epoch, legs: &BTreeMap<(String, usize), String>) -> Result<Vec<LedgerRow>> {
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
        for (leg, stream) in legs {
            let view = &leg.0;
            let terms = self.views.get(leg).copied().unwrap_or_default();
            let given = decoded.get(stream.as_str()).copied().unwrap_or_default();
            if terms.decoded != given || !terms.balance() {
                return Err(imbalance(
                    epoch,
                    &format!("view={view:?}, decoded by its stream={given}, {terms:?}"),
                ));
            }
            if terms != ViewTerms::default() {
                rows.push(terms.row(epoch, stream, view));
            }
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
        ledger.add_view("v", 0, ViewTerms { decoded: 5, aggregated, filtered: 1, late: 1, failed: 1 });
        ledger
    }

    #[test]
    fn a_lost_row_is_an_imbalance() {
        let streams = BTreeMap::from([(("v".to_string(), 0), "clicks".to_string())]);
        assert_eq!(ledger(2).balanced(Epoch(1), &streams).expect("balances").len(), 2);
        let error = ledger(1).balanced(Epoch(1), &streams).expect_err("one row is missing");
        assert!(error.to_string().contains("not conserved"), "{error}");
    }
}
