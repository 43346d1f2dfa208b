//! What the parser, DataFusion and the engine say is wrong, said of the statement.

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, TokenizerError};
use thalweg_engine::ErrorKind;

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

/// As a statement would have it.
fn plain_type(name: &str) -> String {
    match name {
        "Int64" => "BIGINT".to_owned(),
        "Int32" => "INT".to_owned(),
        "Float64" => "DOUBLE".to_owned(),
        "Utf8" | "Utf8View" => "STRING".to_owned(),
        _ => name.split('(').next().unwrap_or(name).to_uppercase(),
    }
}

/// Casts have no part in the name of what is cast.
fn called_alike(name: &str) -> Error {
    Error::invalid(format!("two columns are called \"{name}\"")).hint(
        "name one of them with AS; where calls or keys differ by a CAST alone, in a subquery: \
         SELECT sum(x), sum(y) FROM (SELECT *, CAST(x AS BIGINT) AS y FROM …)",
    )
}

fn first_span(column: &Column) -> Option<Position> {
    let span = column.spans().first()?;
    Position::of(Location { line: span.start.line, column: span.start.column })
}

/// What the planner says of its own insides, said of the statement.
pub(crate) fn told_plainly(text: &str) -> Option<Error> {
    const UNPLANNED: &str = "Physical plan does not support logical expression ";
    if let Some((before, after)) = text.split_once("' failed to match any signature") {
        let (_, function) = before.rsplit_once('\'')?;
        let received = after.split_once("but received ").and_then(|(_, rest)| rest.split_once(" (DataType"));
        let received =
            received.map_or_else(String::new, |(name, _)| format!(" of type {}", name.to_uppercase()));
        // Where there is but one signature, it says which type it is.
        let mut required = after.match_indices("' requires ").map(|(at, before)| &after[at + before.len()..]);
        let kind = match (required.next(), required.next()) {
            (Some(kind), None) if kind.starts_with("Int") => "BIGINT",
            (Some(kind), None) if kind.starts_with("String") => "STRING",
            (Some(kind), None) if kind.starts_with("Timestamp") => "TIMESTAMP",
            _ => "DOUBLE",
        };
        return Some(
            Error::invalid(format!("{function}() does not take a value{received}"))
                .hint(format!("CAST what it is given, such as CAST(x AS {kind})")),
        );
    }
    if let Some((told, candidates)) = text.split_once(" No function matches the given name") {
        let error = Error::invalid(lower_first(without_prefix(told)));
        let candidate = candidates.split_once("Candidate functions:").map(|(_, lines)| lines.trim());
        return Some(match candidate.and_then(|lines| lines.lines().next()) {
            Some(known) => error.hint(format!("it is {known}")),
            None => error,
        });
    }
    if let Some((_, types)) = text.split_once("annot infer common argument type for comparison operation ") {
        let mut words = types.split_whitespace();
        let (left, right) = (words.next().map(plain_type)?, words.next_back().map(plain_type)?);
        return Some(
            Error::invalid(format!("a value of type {left} is not compared with one of type {right}"))
                .hint(format!("CAST one of them, such as CAST(x AS {left})")),
        );
    }
    if text.contains("COUNT DISTINCT with multiple arguments") {
        return Some(
            Error::invalid("count(DISTINCT …) counts the values of one expression")
                .hint("count the rows of a subquery: SELECT count(*) FROM (SELECT DISTINCT a, b FROM …)"),
        );
    }
    if text.contains("onflicting ordering requirements in aggregate functions") {
        return Some(
            Error::invalid("two aggregates of one SELECT want its rows in different orders").hint(
                "array_agg orders for itself: array_to_string(array_agg(x ORDER BY x), ','); or aggregate in two subqueries, and join",
            ),
        );
    }
    if ["Arithmetic Overflow in AvgAccumulator", "Arithmetic overflow in avg"]
        .iter()
        .any(|it| text.contains(it))
    {
        return Some(
            Error::invalid("avg() of a DECIMAL has more digits than a DECIMAL can hold")
                .hint("CAST what it is given to DOUBLE, or to a DECIMAL of fewer digits"),
        );
    }
    if text.contains(" must be an INTEGER or NULL, got ") {
        return Some(
            Error::invalid(
                "a series begins, ends and steps by whole numbers that are written in the statement",
            )
            .hint("write an end that is far enough, and of the rows: WHERE value <= $n"),
        );
    }
    if text.contains("only support Literal types for field at idx") {
        return Some(
            Error::invalid("how many rows, or which, a function OVER is told by a constant")
                .hint("write a number, such as lag(x, 1)"),
        );
    }
    if text.contains("annot access field at argument 1") {
        return Some(Error::invalid("only a STRUCT has fields, and this is none").hint(
            "an element of a list is l[1], the first; a column of a relation is written after its alias",
        ));
    }
    if text.contains("subquery can only be used in Projection, Filter") {
        return Some(
            Error::invalid("IN, EXISTS, ANY and ALL of a query can't stand here")
                .hint("ask them in WHERE, or name the answer in a subquery, and use that name"),
        );
    }
    if text.contains("annot cast timezone to different timezone") {
        return Some(
            Error::invalid(
                "the clocks of that zone skip this time, or show it twice: it is no certain moment",
            )
            .hint("write the moment, with what it is ahead of UTC: TIMESTAMPTZ '2025-03-30 01:30:00+00:00'"),
        );
    }
    if text.contains("ot access not supported for non-string expr") {
        return Some(
            Error::invalid("a field is named behind the dot, and this is no name")
                .hint("write s.name or s['name'] of a STRUCT; an element of a list is l[1], the first"),
        );
    }
    if text.contains("DISTINCT ON expressions must match initial ORDER BY expressions") {
        return Some(
            Error::invalid(
                "DISTINCT ON takes the first row of each group, and ORDER BY does not begin with the groups",
            )
            .hint("write ORDER BY the columns of DISTINCT ON, and then what comes first"),
        );
    }
    if let Some((_, named)) =
        text.split_once("rojections require unique expression names but the expression \"")
    {
        let (name, _) = named.split_once('"')?;
        return Some(called_alike(name));
    }
    if let Some((_, function)) = text.split_once("ecimal overflow while applying ") {
        return Some(
            Error::invalid(format!("what {function}() gives has a digit more than its DECIMAL has room for"))
                .hint(format!("CAST what it is given, such as {function}(CAST(x AS DECIMAL(38, 2)))")),
        );
    }
    if let Some((_, call)) = text.split_once("`retract_batch` is not implemented: ") {
        let (function, _) = call.split_once('(')?;
        return Some(
            Error::invalid(format!("{function}() does not go with a frame that moves"))
                .hint("take another aggregate, such as min(CAST(x AS INT)) for bool_and(x); or join the rows by how far apart they are"),
        );
    }
    if text.contains("ggregate ORDER BY is not implemented for window functions") {
        return Some(
            Error::invalid("an aggregate with an ORDER BY of its own does not go with OVER")
                .hint("leave it out, or aggregate in a subquery and join"),
        );
    }
    if let Some((_, kind)) = text.split_once("annot run range queries on datatype: ") {
        let kind = kind.split('(').next().unwrap_or(kind).to_uppercase();
        return Some(
            Error::invalid(format!("a window's rows have no order by a value of type {kind}"))
                .hint("ORDER BY what it is made of, such as its fields: s.a, s.b"),
        );
    }
    // Told once, before there is a row.
    if text.contains("but input schema only has 0 columns") {
        return Some(
            Error::invalid("what an aggregate is told once has to be a constant, and this is a column")
                .hint("write a number, such as percentile_cont(0.9) WITHIN GROUP (ORDER BY x)"),
        );
    }
    let (_, expression) = text.split_once(UNPLANNED)?;
    Some(match expression {
        beside if beside.starts_with("OuterReferenceColumn") => Error::invalid(
            "a subquery in FROM can't look at the rows that stand beside it",
        )
        .hint("JOIN it ON what it compares; for the first of each, row_number() OVER (PARTITION BY …) = 1"),
        exists if exists.starts_with("Exists") => {
            Error::invalid("EXISTS is a condition of WHERE and HAVING, and no value")
                .hint("LEFT JOIN the query, and ask whether a column of it IS NOT NULL")
        }
        _ => Error::invalid("a subquery that looks at the row outside can compare with it by equality alone")
            .hint("JOIN what it reads instead: … LEFT JOIN b ON b.x > a.x GROUP BY …"),
    })
}

fn without_prefix(text: &str) -> &str {
    const PREFIXES: [&str; 7] = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Arrow error: ",
        "SQL error: ",
        "Schema error: ",
        "External error: ",
    ];
    // It asks for a report to others.
    let mut text = text.split("\nThis issue was likely caused by a bug in DataFusion").next().unwrap_or(text);
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    text
}

/// `Expected …` becomes `expected …`; a name in capitals (`TUMBLE …`) stays.
fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
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
    fn what_the_planner_says_of_itself_is_said_of_the_statement() {
        let text = "Internal error: Function 'sum' failed to match any signature, errors: Error during planning: \
                    Function 'sum' requires Int64, but received String (DataType: Utf8).,";
        let told = told_plainly(text).map(|error| error.to_string());
        let plain = "sum() does not take a value of type STRING\nhint: CAST what it is given, such as CAST(x AS BIGINT)";
        assert_eq!(told.as_deref(), Some(plain));
        assert!(told_plainly("Internal error: else").is_none());
        let series = "Error during planning: Argument #2 must be an INTEGER or NULL, got Cast(Cast { expr: Placeholder(";
        let told = told_plainly(series).map(|error| error.to_string()).unwrap_or_default();
        assert!(told.starts_with("a series begins, ends and steps by whole numbers"), "{told}");
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
