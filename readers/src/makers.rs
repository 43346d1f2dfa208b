//! Queries that make rows of rows, planned once for all the times that they do. Within a reader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_sql::Result;
use thalweg_sql::session::{Maker, Session};

use crate::mirror::Planned;

/// Others are planned each time.
const KEPT_MAX: usize = 256;

/// Schema, text, and values by name.
type Key = (String, String, Vec<(String, String)>);

pub struct Makers {
    planned: Arc<Planned>,
    kept: Mutex<Kept>,
}

/// Of one catalog: with another a name may mean something else.
#[derive(Default)]
struct Kept {
    catalog: u64,
    makers: BTreeMap<Key, Arc<Maker>>,
}

impl Makers {
    pub fn new(planned: Arc<Planned>) -> Makers {
        Makers { planned, kept: Mutex::default() }
    }

    pub async fn of(
        &self,
        session: &Session,
        schema: &str,
        text: String,
        given: Vec<(String, String)>,
    ) -> Result<Arc<Maker>> {
        let catalog = self.planned.catalogs();
        let key = (schema.to_owned(), text, given);
        if let Some(known) = self.known(catalog, &key) {
            return Ok(known);
        }
        let maker = Arc::new(session.maker(&key.1, &key.2).await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.catalog != catalog {
            *kept = Kept { catalog, makers: BTreeMap::new() };
        }
        if kept.makers.len() < KEPT_MAX {
            kept.makers.insert(key, Arc::clone(&maker));
        }
        Ok(maker)
    }

    fn known(&self, catalog: u64, key: &Key) -> Option<Arc<Maker>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.catalog == catalog).then(|| kept.makers.get(key).cloned()).flatten()
    }
}
