//! The columns of statements that were planned elsewhere before: whoever asks the same again and again, as dashboards do, is told
//! them without that being asked each time. They hold as long as all that a name can mean stays.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::Prepared;
use super::engine::Engine;

const STATEMENTS_MAX: usize = 1000;
/// Of one text; longer ones are planned each time.
const TEXT_BYTES_MAX: usize = 8 << 10;

#[derive(Default)]
pub(super) struct Known(Mutex<Statements>);

#[derive(Default)]
struct Statements {
    /// Of all that a statement may name.
    catalog: Vec<Uuid>,
    /// By the schema in which bare names are looked up, and the text.
    columns: HashMap<(String, String), Prepared>,
}

impl Known {
    fn statements(&self) -> MutexGuard<'_, Statements> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, engine: &dyn Engine, schema: &str, text: &str) -> Option<Prepared> {
        let statements = self.statements();
        let known = statements.columns.get(&(schema.to_owned(), text.to_owned()))?;
        (statements.catalog == catalog(engine)).then(|| known.clone())
    }

    /// `catalog` is as it was before the statement was planned.
    pub fn learn(&self, catalog: Vec<Uuid>, schema: &str, text: &str, prepared: &Prepared) {
        if text.len() > TEXT_BYTES_MAX {
            return;
        }
        let mut statements = self.statements();
        if statements.catalog != catalog || statements.columns.len() >= STATEMENTS_MAX {
            *statements = Statements { catalog, columns: HashMap::new() };
        }
        statements.columns.insert((schema.to_owned(), text.to_owned()), prepared.clone());
    }
}

pub(super) fn catalog(engine: &dyn Engine) -> Vec<Uuid> {
    let streams = engine.streams().into_iter().map(|stream| stream.id);
    let tables = engine.tables().into_iter().map(|table| table.id);
    let views = engine.views().into_iter().map(|view| view.id);
    let kept = engine.kept().into_iter().map(|kept| kept.id);
    streams.chain(tables).chain(views).chain(kept).collect()
}
