//! What the server says of itself: the facts of GetSqlInfo and the SQL types of GetXdbcTypeInfo.

use std::sync::LazyLock;

use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction,
    XdbcDataType, XdbcDatetimeSubcode,
};
use tonic::Status;

static FACTS: LazyLock<Result<SqlInfoData>> = LazyLock::new(build_facts);
static TYPES: LazyLock<Result<XdbcTypeInfoData>> = LazyLock::new(build_types);

pub(crate) fn facts() -> std::result::Result<&'static SqlInfoData, Status> {
    FACTS.as_ref().map_err(|error| Status::internal(error.to_string()))
}

pub(crate) fn types() -> std::result::Result<&'static XdbcTypeInfoData, Status> {
    TYPES.as_ref().map_err(|error| Status::internal(error.to_string()))
}

fn build_facts() -> Result<SqlInfoData> {
    let mut facts = SqlInfoDataBuilder::new();
    facts.append(SqlInfo::FlightSqlServerName, "Thalweg");
    facts.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    facts.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    facts.append(SqlInfo::FlightSqlServerReadOnly, false);
    facts.append(SqlInfo::FlightSqlServerSql, true);
    facts.append(SqlInfo::FlightSqlServerSubstrait, false);
    facts.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    facts.append(SqlInfo::FlightSqlServerCancel, true);
    facts.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    facts.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    // Zero: neither statements nor transactions time out.
    facts.append(SqlInfo::FlightSqlServerStatementTimeout, 0i32);
    facts.append(SqlInfo::FlightSqlServerTransactionTimeout, 0i32);
    facts.append(SqlInfo::SqlDdlCatalog, false);
    facts.append(SqlInfo::SqlDdlSchema, false);
    facts.append(SqlInfo::SqlDdlTable, true);
    facts.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    facts.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    facts.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    facts.append(SqlInfo::SqlAllTablesAreSelectable, true);
    facts.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    facts.append(SqlInfo::SqlKeywords, &["STREAM", "WATERMARK", "TUMBLE", "HOP", "DESCRIPTOR"] as &[&str]);
    facts
        .append(SqlInfo::SqlNumericFunctions, &["abs", "ceil", "floor", "round", "sqrt", "power"] as &[&str]);
    facts.append(
        SqlInfo::SqlStringFunctions,
        &["concat", "length", "lower", "upper", "substr", "trim", "replace", "split_part"] as &[&str],
    );
    facts.append(SqlInfo::SqlSystemFunctions, &["coalesce", "nullif"] as &[&str]);
    facts.append(SqlInfo::SqlDatetimeFunctions, &["date_trunc", "date_part", "date_bin", "now"] as &[&str]);
    facts.append(SqlInfo::SqlSearchStringEscape, "\\");
    facts.append(SqlInfo::SqlExtraNameCharacters, "");
    append_yes_and_no(&mut facts);
    facts.append(SqlInfo::SqlSchemaTerm, "schema");
    facts.append(SqlInfo::SqlCatalogTerm, "catalog");
    facts.append(SqlInfo::SqlProcedureTerm, "");
    append_bitmasks(&mut facts);
    facts.append(SqlInfo::SqlMaxStatementLength, 65_536i64);
    facts.build()
}

fn append_yes_and_no(facts: &mut SqlInfoDataBuilder) {
    for supported in [
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCatalogAtStart,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
    ] {
        facts.append(supported, true);
    }
    for absent in [
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ] {
        facts.append(absent, false);
    }
}

/// Sets of things, a bit for each number of the enumeration named beside it in the specification.
fn append_bitmasks(facts: &mut SqlInfoDataBuilder) {
    // SqlSupportedGroupBy: unrelated, beyond select.
    facts.append(SqlInfo::SqlSupportedGroupBy, 0b11i32);
    // SupportedSqlGrammar: minimum, core, extended.
    facts.append(SqlInfo::SqlSupportedGrammar, 0b11i32);
    // SupportedAnsi92SqlGrammarLevel: entry.
    facts.append(SqlInfo::SqlAnsi92SupportedLevel, 0b1i32);
    // SqlOuterJoinsSupportLevel: unsupported, limited, full.
    facts.append(SqlInfo::SqlOuterJoinsSupportLevel, 0b100i32);
    // SqlSupportedSubqueries: comparisons, exists, ins, quantifieds.
    facts.append(SqlInfo::SqlSupportedSubqueries, 0b0111i32);
    // SqlSupportedUnions: union, union all.
    facts.append(SqlInfo::SqlSupportedUnions, 0b11i32);
    facts.append(SqlInfo::SqlDefaultTransactionIsolation, 0i32);
    facts.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, 0b1i32);
    // SqlSupportedResultSetType: unspecified, forward only.
    facts.append(SqlInfo::SqlSupportedResultSetTypes, 0b10i32);
    facts.append(SqlInfo::SqlSchemasSupportedActions, 0i32);
    facts.append(SqlInfo::SqlCatalogsSupportedActions, 0i32);
    facts.append(SqlInfo::SqlSupportedPositionedCommands, 0i32);
}

fn build_types() -> Result<XdbcTypeInfoData> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    let number = |name: &str, data_type, size| XdbcTypeInfo {
        unsigned_attribute: Some(false),
        num_prec_radix: Some(10),
        ..plain(name, data_type, Some(size))
    };
    types.append(plain("BOOLEAN", XdbcDataType::XdbcBit, Some(1)));
    types.append(number("TINYINT", XdbcDataType::XdbcTinyint, 3));
    types.append(number("SMALLINT", XdbcDataType::XdbcSmallint, 5));
    types.append(number("INT", XdbcDataType::XdbcInteger, 10));
    types.append(number("BIGINT", XdbcDataType::XdbcBigint, 19));
    types.append(number("REAL", XdbcDataType::XdbcReal, 7));
    types.append(number("DOUBLE", XdbcDataType::XdbcDouble, 15));
    types.append(XdbcTypeInfo {
        create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
        fixed_prec_scale: true,
        minimum_scale: Some(0),
        maximum_scale: Some(38),
        ..number("DECIMAL", XdbcDataType::XdbcDecimal, 38)
    });
    types.append(XdbcTypeInfo { case_sensitive: true, ..quoted("STRING", XdbcDataType::XdbcVarchar, "'") });
    types.append(quoted("BYTEA", XdbcDataType::XdbcVarbinary, "X'"));
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeYear),
        ..quoted("DATE", XdbcDataType::XdbcDate, "DATE '")
    });
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTime),
        ..quoted("TIME", XdbcDataType::XdbcTime, "TIME '")
    });
    types.append(XdbcTypeInfo {
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
        ..quoted("TIMESTAMP", XdbcDataType::XdbcTimestamp, "TIMESTAMP '")
    });
    types.build()
}

fn plain(name: &str, data_type: XdbcDataType, size: Option<i32>) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        local_type_name: Some(name.to_owned()),
        data_type,
        sql_data_type: data_type,
        column_size: size,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        ..XdbcTypeInfo::default()
    }
}

fn quoted(name: &str, data_type: XdbcDataType, prefix: &str) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..plain(name, data_type, None)
    }
}
