//! The names of files. Each carries (table id, epoch, the instance's nonce, number), so that an orphan of a killed run
//! can never be mistaken for, or stand in the way of, the file of the next one (INV-C5).

use chrono::NaiveDate;
use uuid::Uuid;

use crate::ids::Epoch;

/// Makes the names of one table's files of one epoch; no name twice.
#[derive(Debug)]
pub struct FileNames {
    table: Uuid,
    epoch: Epoch,
    nonce: Uuid,
    next: u32,
}

impl FileNames {
    pub fn new(table: Uuid, epoch: Epoch, nonce: Uuid) -> FileNames {
        FileNames { table, epoch, nonce, next: 0 }
    }

    /// Relative to the data's root.
    pub fn state(&mut self) -> String {
        let (table, epoch, nonce, number) = (self.table.simple(), self.epoch.0, self.nonce, self.number());
        format!("{STATE}/{table}/{epoch:020}-{}-{number}.state", nonce.simple())
    }

    /// Relative to the table's root.
    pub fn part(&mut self, date: NaiveDate) -> String {
        let (table, epoch, nonce, number) = (self.table.simple(), self.epoch.0, self.nonce, self.number());
        format!("window_date={date}/part-{table}-{epoch:020}-{}-{number}.parquet", nonce.simple())
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}

/// A file made of others whose rows had closed by that epoch; relative to the table's root.
pub fn compacted_part(table: Uuid, epoch: Epoch, nonce: Uuid, number: u64, date: NaiveDate) -> String {
    let (table, nonce) = (table.simple(), nonce.simple());
    format!("window_date={date}/part-{table}-{:020}-{nonce}-c{number}.parquet", epoch.0)
}

/// The epoch of a data file's name.
pub fn part_epoch(file_name: &str) -> Option<Epoch> {
    let digits = file_name.strip_prefix("part-")?.split('-').nth(1)?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Epoch))?
}

/// Which of its epoch's data files it is, by its name.
pub fn part_number(file_name: &str) -> Option<u64> {
    let number = file_name.strip_suffix(".parquet")?.rsplit('-').next()?;
    number.trim_start_matches('c').parse().ok()
}

/// The folder of a table, relative to the data's root. Whatever an object store or a URL could read otherwise is
/// spelled in hex, so that different names never share a folder.
pub fn table_folder(name: &str) -> String {
    let mut folder = format!("{TABLES}/");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => folder.push(byte as char),
            _ => folder.push_str(&format!(".{byte:02x}")),
        }
    }
    folder
}

pub(super) const MANIFESTS: &str = "manifests";

pub(super) const STATE: &str = "state";

pub(super) const TABLES: &str = "tables";

pub(super) const CATALOG: &str = "catalog";

/// What all tables keep of an epoch.
pub(super) fn epoch_file(epoch: Epoch, nonce: Uuid, number: u32) -> String {
    format!("{STATE}/{:020}-{}-{number}.state", epoch.0, nonce.simple())
}

/// The statements as they stand from an epoch on.
pub(super) fn catalog(epoch: Epoch, nonce: Uuid) -> String {
    format!("{CATALOG}/{:020}-{}.json", epoch.0, nonce.simple())
}

/// The epoch of the name of a state file, or of a catalog.
pub(super) fn state_epoch(file_name: &str) -> Option<Epoch> {
    let name = file_name.strip_suffix(".state").or_else(|| file_name.strip_suffix(".json"))?;
    let (digits, _) = name.split_once('-')?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Epoch))?
}

pub(super) fn manifest(epoch: Epoch) -> String {
    format!("{MANIFESTS}/{:020}.json", epoch.0)
}

/// The epoch of a manifest's file name.
pub(super) fn manifest_epoch(file_name: &str) -> Option<Epoch> {
    let digits = file_name.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Epoch))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_in_every_part() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut seen = std::collections::BTreeSet::new();
        for (table, epoch, nonce) in [(a, 1, a), (b, 1, a), (a, 2, a), (a, 1, b)] {
            let mut names = FileNames::new(table, Epoch(epoch), nonce);
            let state = names.state();
            assert_eq!(state_epoch(state.rsplit('/').next().unwrap()), Some(Epoch(epoch)));
            assert!(seen.insert(state) && seen.insert(names.state()));
            let part = names.part(NaiveDate::default());
            assert_eq!(part_epoch(part.rsplit('/').next().unwrap()), Some(Epoch(epoch)));
            let made = compacted_part(table, Epoch(epoch), nonce, 0, NaiveDate::default());
            assert_eq!(part_epoch(made.rsplit('/').next().unwrap()), Some(Epoch(epoch)));
            assert_eq!([&part, &made].map(|it| part_number(it)), [Some(2), Some(0)]);
            assert_ne!(made, part);
        }
    }

    #[test]
    fn manifest_names_sort_like_epochs_and_read_back() {
        assert!(manifest(Epoch(9)) < manifest(Epoch(10)));
        assert_eq!(manifest_epoch("00000000000000000042.json"), Some(Epoch(42)));
        assert_eq!(manifest_epoch("42.json"), None);
        assert_eq!(manifest_epoch("00000000000000000042.json.tmp"), None);
    }

    #[test]
    fn table_folders_keep_names_apart() {
        assert_eq!(table_folder("revenue_per_minute"), "tables/revenue_per_minute");
        assert_eq!(table_folder("a/../b c"), "tables/a.2f.2e.2e.2fb.20c");
        assert_ne!(table_folder("é"), table_folder("e"));
    }
}
