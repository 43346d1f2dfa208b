//! The object stores that a query can reach: those of the tables it pinned, and no other.
//!
//! A table's store is known to DataFusion by a URL of our own, `thalweg://table-<n>/`. No file system, no bucket and no
//! web address resolves, whatever a statement names.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::{Result, exec_err};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::object_store::ObjectStore;
use url::Url;

use super::Pinned;
use super::pinned::PinnedTable;

#[derive(Debug)]
pub(crate) struct PinnedStores {
    /// By the table's number.
    stores: BTreeMap<usize, Arc<dyn ObjectStore>>,
}

impl PinnedStores {
    pub fn new(pinned: &Pinned) -> PinnedStores {
        let store = |table: &Arc<PinnedTable>| (table.store, Arc::clone(&table.snapshot.history.store));
        PinnedStores { stores: pinned.tables().map(store).collect() }
    }

    pub fn url(store: usize) -> Result<ObjectStoreUrl> {
        ObjectStoreUrl::parse(format!("thalweg://table-{store}/"))
    }
}

impl ObjectStoreRegistry for PinnedStores {
    /// Nothing can be added: a store given here is dropped.
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let number = match url.scheme() {
            "thalweg" => url.host_str().and_then(|host| host.strip_prefix("table-")),
            _ => None,
        };
        match number.and_then(|number| number.parse::<usize>().ok()).and_then(|n| self.stores.get(&n)) {
            Some(store) => Ok(Arc::clone(store)),
            None => exec_err!("a query reads tables only, not {url}"),
        }
    }
}
