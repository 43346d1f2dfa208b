//! What the parser, DataFusion and the engine say is wrong, said of the statement.

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, TokenizerError};
use thalweg_engine::ErrorKind;

use super::plainly::{called_alike, lower_first, told_plainly, without_prefix};
use super::{Error, Position, nearest, suggestion};

impl From<thalweg_engine::Error> for Error {
    fn from(error: thalweg_engine::Error) -> Error {
        match error {
            thalweg_engine::Error::Plan(cause) => of_data_fusion(&cause),
            other => Error::new(other.kind(), other.to_string()),
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Error {
        of_data_fusion(&DataFusionError::from(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Error {
        of_data_fusion(&error)
    }
}

/// So that our own planners can speak through DataFusion: [`of_data_fusion`] finds the error again.
impl From<Error> for DataFusionError {
    fn from(error: Error) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

impl From<TokenizerError> for Error {
    fn from(error: TokenizerError) -> Error {
        Error::invalid(lower_first(&error.message)).at(Position::of(error.location))
    }
}

impl From<ParserError> for Error {
    fn from(error: ParserError) -> Error {
        match error {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => of_parser_text(&text),
            ParserError::RecursionLimitExceeded => {
                Error::invalid("the statement is nested too deeply").hint("split it with WITH … AS (…)")
            }
        }
    }
}

/// The parser appends ` at Line: 1, Column: 8` to what it says.
fn of_parser_text(text: &str) -> Error {
    let (message, place) = text.rsplit_once(" at Line: ").unwrap_or((text, ""));
    let position = place.split_once(", Column: ").and_then(|(line, column)| {
        Some(Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    let message = match message.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected}, but the text ends here"),
        Some((expected, found)) => format!("expected {expected}, found {found}"),
        None => lower_first(message),
    };
    Error::invalid(message).at(position)
}

fn of_data_fusion(error: &DataFusionError) -> Error {
    if let Some(own) = own_error(error) {
        return own;
    }
    if let Some(cause) = cause_of::<datafusion::object_store::Error>(error) {
        return of_store(cause);
    }
    if let Some(fault) = of_footer(error) {
        return fault;
    }
    match cause_of::<thalweg_engine::Error>(error) {
        Some(thalweg_engine::Error::Plan(cause)) => return of_data_fusion(cause),
        Some(other) => return Error::new(other.kind(), other.to_string()),
        None => {}
    }
    let root = error.find_root();
    let diagnostic = error.diagnostic();
    let position = diagnostic
        .and_then(|it| it.span)
        .and_then(|span| Position::of(Location { line: span.start.line, column: span.start.column }));
    let translated = match root {
        DataFusionError::SchemaError(cause, _) => of_schema(cause),
        DataFusionError::SQL(cause, _) => Error::from((**cause).clone()),
        _ => {
            let told = root.strip_backtrace();
            let text = diagnostic.map_or(told.as_str(), |it| it.message.as_str());
            told_plainly(text)
                .or_else(|| told_plainly(&told))
                .unwrap_or_else(|| Error::new(kind_of(root), lower_first(without_prefix(text))))
        }
    };
    let help = diagnostic.and_then(|it| it.helps.first()).map(|help| help.message.clone());
    let help = help.or_else(|| meant(&root.strip_backtrace()));
    let hint = translated.hint.clone().or(help);
    Error { hint, ..translated.at(position) }
}

/// `Invalid function 'f'.\nDid you mean 'g'?`, which names whatever is nearest, however far it is.
fn meant(text: &str) -> Option<String> {
    let (told, name) = text.split_once("Did you mean ")?;
    let given = told.split('\'').nth(1)?;
    nearest(given, [name.trim_matches(['\'', '?'])]).map(|name| format!("did you mean '{name}'?"))
}

/// An [`Error`] that travelled inside DataFusion's, or inside another of its wrappers.
fn own_error(error: &DataFusionError) -> Option<Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(own) = cause.downcast_ref::<Error>() {
            return Some(own.clone());
        }
        if let Some(DataFusionError::External(inner)) = cause.downcast_ref::<DataFusionError>()
            && let Some(own) = inner.downcast_ref::<Error>()
        {
            return Some(own.clone());
        }
        source = cause.source();
    }
    None
}

/// What is behind an error of DataFusion's, at whatever depth.
fn cause_of<T: std::error::Error + 'static>(error: &DataFusionError) -> Option<&T> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        source = match cause.downcast_ref::<DataFusionError>() {
            // Its `source` passes over what it holds.
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            _ => cause.source(),
        };
    }
    None
}

/// A file that is gone is lost; anything else of a store may be over soon.
fn of_store(error: &datafusion::object_store::Error) -> Error {
    match error {
        datafusion::object_store::Error::NotFound { path, .. } => file_is_gone(path),
        other => store_is_away(other),
    }
}

/// The same where a footer was to be read, of which DataFusion keeps the text alone.
fn of_footer(error: &DataFusionError) -> Option<Error> {
    let ParquetError::General(text) = cause_of(error)? else { return None };
    let (_, path_and_cause) = text.split_once("Failed to fetch metadata for file ")?;
    let (path, cause) = path_and_cause.split_once(": Object Store error: ")?;
    Some(match cause.starts_with("Object at location ") && cause.contains(" not found: ") {
        true => file_is_gone(path),
        false => store_is_away(cause),
    })
}

fn file_is_gone(path: &str) -> Error {
    let message = format!("a file that the answer is in is not in the store. path={path:?}");
    Error::new(ErrorKind::BadData, message)
}

fn store_is_away(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the store can't be read now. {cause}"))
        .hint("ask again when it is back; what ingest writes waits for it")
}

fn kind_of(error: &DataFusionError) -> ErrorKind {
    match error {
        DataFusionError::Internal(_) => ErrorKind::Internal,
        DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_)
        | DataFusionError::ResourcesExhausted(_) => ErrorKind::Unavailable,
        DataFusionError::ParquetError(_) => ErrorKind::BadData,
        _ => ErrorKind::Invalid,
    }
}

fn of_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut names: Vec<&str> = vec![];
            for valid in valid_fields {
                if !names.contains(&valid.name.as_str()) {
                    names.push(&valid.name);
                }
            }
            let position = first_span(field);
            let error = Error::invalid(format!("no column \"{}\"", field.flat_name())).at(position);
            if names.is_empty() { error } else { error.hint(suggestion(&field.name, "columns are", names)) }
        }
        SchemaError::AmbiguousReference { field } => {
            Error::invalid(format!("column \"{}\" is there more than once", field.name))
                .at(first_span(field))
                .hint("write its relation's name before it, or give one of them another name with AS")
        }
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => called_alike(name),
    }
}

fn first_span(column: &Column) -> Option<Position> {
    let span = column.spans().first()?;
    Position::of(Location { line: span.start.line, column: span.start.column })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::datasource::listing::PartitionedFile;
    use datafusion::datasource::physical_plan::parquet::{
        DefaultParquetFileReaderFactory, ParquetFileReaderFactory,
    };
    use datafusion::object_store::ObjectStoreExt;
    use datafusion::object_store::memory::InMemory;
    use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;

    use super::*;

    #[test]
    fn the_parsers_place_becomes_a_position() {
        let error = of_parser_text("Expected: ), found: EOF at Line: 2, Column: 7");
        assert_eq!(error.to_string(), "line 2, column 7: expected ), but the text ends here");
    }

    #[test]
    fn a_store_that_is_away_is_no_damaged_file() {
        use datafusion::object_store::Error as StoreError;
        let of = |error: StoreError| {
            let error = DataFusionError::from(ParquetError::External(Box::new(error)));
            Error::from(error.context("while reading"))
        };
        let away = of(StoreError::Generic { store: "S3", source: "connection refused".into() });
        assert_eq!(away.kind(), ErrorKind::Unavailable);
        assert!(away.to_string().starts_with("the store can't be read now. "), "{away}");
        let gone = of(StoreError::NotFound { path: "a.parquet".into(), source: "404".into() });
        assert_eq!(gone.kind(), ErrorKind::BadData);
        let damaged = DataFusionError::from(ParquetError::General("no footer".into()));
        assert_eq!(Error::from(damaged).kind(), ErrorKind::BadData);
    }

    #[tokio::test]
    async fn a_footer_that_cannot_be_read_is_no_damaged_file() {
        let store = Arc::new(InMemory::new());
        let factory = DefaultParquetFileReaderFactory::new(Arc::clone(&store) as _);
        let read = async |path: &str, size| {
            let metrics = ExecutionPlanMetricsSet::new();
            let mut reader =
                factory.create_reader(0, PartitionedFile::new(path, size), None, &metrics).unwrap();
            Error::from(DataFusionError::from(reader.get_metadata(None).await.unwrap_err()))
        };
        store.put(&"short.parquet".into(), "no footer, but long enough".into()).await.unwrap();
        let gone = read("gone.parquet", 100).await;
        let message = "a file that the answer is in is not in the store. path=\"gone.parquet\"";
        assert_eq!((gone.kind(), &*gone.to_string()), (ErrorKind::BadData, message));
        // More than there is of it: what any answer but *not found* is.
        let away = read("short.parquet", 1 << 20).await;
        assert_eq!(away.kind(), ErrorKind::Unavailable, "{away}");
        assert!(away.to_string().starts_with("the store can't be read now. "), "{away}");
        let damaged = read("short.parquet", 26).await;
        assert_eq!(damaged.kind(), ErrorKind::BadData, "{damaged}");
    }

    #[test]
    fn a_plan_of_the_engine_fails_as_a_query_does() {
        let inside = DataFusionError::Execution("division by zero, in 1 / n".into());
        let error = DataFusionError::External(Box::new(thalweg_engine::Error::from(inside)));
        assert_eq!(Error::from(error).to_string(), "division by zero, in 1 / n");
    }

    #[test]
    fn our_error_comes_back_out_of_data_fusion() {
        let inside = DataFusionError::from(Error::invalid("no").hint("yes")).context("while planning");
        assert_eq!(Error::from(inside).to_string(), "no\nhint: yes");
    }
}
