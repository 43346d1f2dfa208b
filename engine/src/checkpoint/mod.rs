//! Makes epochs durable: state files, manifests, and the one put that commits.
//!
//! Order of an epoch: data files durable → its state file durable → the catalog, if it has changed → put-if-absent of the
//! manifest. That put is the only commit point. Whatever no manifest names is an orphan and means nothing. `docs/INVARIANTS.md` has the rules by
//! number.

mod data;
mod durable_local;
mod epoch_file;
mod failpoint;
mod garbage;
mod in_use;
mod log;
pub mod manifest;
mod names;
mod owner;
mod patience;
mod state_file;
mod watch;
mod whole_upload;
mod written;

#[cfg(test)]
mod simulation;

pub use data::{DataRoot, LakeLog, Retry};
pub use epoch_file::{EpochFile, StateFiles};
pub use failpoint::{Failpoints, Step};
pub use garbage::{Garbage, Orphans};
pub use log::{ManifestLog, newest_manifest};
pub use names::{FileNames, compacted_part, part_epoch, part_number, table_folder};
pub use owner::Owner;
pub use state_file::{read_batches, write_batches};
pub use watch::Watch;
