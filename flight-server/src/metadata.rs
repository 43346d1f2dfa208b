//! What there is to query: catalogs, schemas, tables, types. Keys there are none.
//!
//! Each command is answered by one batch, whose schema serves FlightInfo and whose rows serve DoGet.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::error::FlightError;
use arrow_flight::sql::Command;
use tonic::Status;

use crate::backend::Backend;
use crate::service::not_supported;
use crate::sql_info;
use crate::wire::{Profile, wire_schema};

const TABLE_TYPES: [&str; 3] = ["SYSTEM TABLE", "TABLE", "VIEW"];

pub(crate) async fn answer(backend: &dyn Backend, command: Command) -> Result<RecordBatch, Status> {
    match command {
        Command::CommandGetCatalogs(query) => {
            let mut rows = query.into_builder();
            let mut catalogs: Vec<_> =
                backend.schemas().await?.into_iter().map(|(catalog, _)| catalog).collect();
            catalogs.sort();
            catalogs.dedup();
            catalogs.into_iter().for_each(|catalog| rows.append(catalog));
            rows.build().map_err(failed)
        }
        Command::CommandGetDbSchemas(query) => {
            let mut rows = query.into_builder();
            for (catalog, schema) in backend.schemas().await? {
                rows.append(catalog, schema);
            }
            rows.build().map_err(failed)
        }
        Command::CommandGetTables(query) => {
            let mut rows = query.into_builder();
            for table in backend.tables().await? {
                let columns = wire_schema(&table.columns, &Profile::default());
                rows.append(table.catalog, table.schema, table.name, table.kind, &columns).map_err(failed)?;
            }
            rows.build().map_err(failed)
        }
        Command::CommandGetTableTypes(query) => {
            let mut rows = query.into_builder();
            TABLE_TYPES.into_iter().for_each(|kind| rows.append(kind));
            rows.build().map_err(failed)
        }
        Command::CommandGetSqlInfo(query) => query.into_builder(sql_info::facts()?).build().map_err(failed),
        Command::CommandGetXdbcTypeInfo(query) => {
            query.into_builder(sql_info::types()?).build().map_err(failed)
        }
        Command::CommandGetPrimaryKeys(_) => Ok(no_rows(&PRIMARY_KEY)),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(no_rows(&FOREIGN_KEY)),
        other => Err(not_supported(&other)),
    }
}

/// A column of the keys: its name, type, and whether it may be null.
type KeyColumn = (&'static str, DataType, bool);

const PRIMARY_KEY: [KeyColumn; 6] = [
    ("catalog_name", DataType::Utf8, true),
    ("db_schema_name", DataType::Utf8, true),
    ("table_name", DataType::Utf8, false),
    ("column_name", DataType::Utf8, false),
    ("key_name", DataType::Utf8, true),
    ("key_sequence", DataType::Int32, false),
];

const FOREIGN_KEY: [KeyColumn; 13] = [
    ("pk_catalog_name", DataType::Utf8, true),
    ("pk_db_schema_name", DataType::Utf8, true),
    ("pk_table_name", DataType::Utf8, false),
    ("pk_column_name", DataType::Utf8, false),
    ("fk_catalog_name", DataType::Utf8, true),
    ("fk_db_schema_name", DataType::Utf8, true),
    ("fk_table_name", DataType::Utf8, false),
    ("fk_column_name", DataType::Utf8, false),
    ("key_sequence", DataType::Int32, false),
    ("fk_key_name", DataType::Utf8, true),
    ("pk_key_name", DataType::Utf8, true),
    ("update_rule", DataType::UInt8, false),
    ("delete_rule", DataType::UInt8, false),
];

fn no_rows(columns: &[KeyColumn]) -> RecordBatch {
    let fields = columns.iter().map(|(name, data_type, null)| Field::new(*name, data_type.clone(), *null));
    RecordBatch::new_empty(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn failed(error: FlightError) -> Status {
    Status::internal(format!("cannot list the metadata: {error}"))
}
