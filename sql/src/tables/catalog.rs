//! The names a statement can use: catalog `thalweg`, four schemas, and which table each name means.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;

use super::Pinned;
use super::part::{ContentTable, Part, PartTable};
use super::system::{SystemTable, SystemTableProvider};

pub(crate) const CATALOG: &str = "thalweg";
pub(crate) const PUBLIC: &str = "public";
pub(crate) const SCHEMAS: [&str; 4] = [PUBLIC, "live", "history", "system"];

/// The one catalog of a statement (and, as DataFusion wants it, the list of catalogs with that one).
#[derive(Debug, Clone)]
pub(crate) struct StatementCatalog {
    pub pinned: Arc<Pinned>,
}

#[derive(Debug)]
struct StatementSchema {
    pinned: Arc<Pinned>,
    tables: SchemaTables,
}

#[derive(Debug, Clone, Copy)]
enum SchemaTables {
    Views(Part),
    System,
}

impl CatalogProviderList for StatementCatalog {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for StatementCatalog {
    fn schema_names(&self) -> Vec<String> {
        SCHEMAS.map(str::to_owned).to_vec()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let tables = match name {
            PUBLIC => SchemaTables::Views(Part::Whole),
            "live" => SchemaTables::Views(Part::Live),
            "history" => SchemaTables::Views(Part::History),
            "system" => SchemaTables::System,
            _ => return None,
        };
        Some(Arc::new(StatementSchema { pinned: Arc::clone(&self.pinned), tables }))
    }
}

#[async_trait]
impl SchemaProvider for StatementSchema {
    fn table_names(&self) -> Vec<String> {
        match self.tables {
            SchemaTables::Views(part) => {
                let tables = self.pinned.lookups.keys().filter(|_| part == Part::Whole);
                let mut names: Vec<_> = self.pinned.views.keys().chain(tables).cloned().collect();
                names.sort();
                names
            }
            SchemaTables::System => {
                let status = SystemTable::ALL.iter().map(|table| table.name().to_owned());
                let mut names: Vec<_> = status.chain(self.pinned.system.keys().cloned()).collect();
                names.sort();
                names
            }
        }
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let (table, part) = match self.tables {
            SchemaTables::Views(part) => {
                if part == Part::Whole && self.pinned.lookups.contains_key(name) {
                    let pinned = Arc::clone(&self.pinned);
                    return Ok(Some(Arc::new(ContentTable { pinned, name: name.to_owned() })));
                }
                (self.pinned.views.get(name), part)
            }
            SchemaTables::System => {
                if let Some(&table) = SystemTable::ALL.iter().find(|table| table.name() == name) {
                    let pinned = Arc::clone(&self.pinned);
                    return Ok(Some(Arc::new(SystemTableProvider { pinned, table })));
                }
                (self.pinned.system.get(name), Part::Whole)
            }
        };
        Ok(table
            .map(|table| Arc::new(PartTable { table: Arc::clone(table), part }) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        match self.tables {
            SchemaTables::Views(part) => {
                self.pinned.views.contains_key(name)
                    || (part == Part::Whole && self.pinned.lookups.contains_key(name))
            }
            SchemaTables::System => {
                SystemTable::ALL.iter().any(|table| table.name() == name)
                    || self.pinned.system.contains_key(name)
            }
        }
    }
}
