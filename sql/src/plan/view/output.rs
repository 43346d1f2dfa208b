//! The columns that readers see: their names, and their types as a Delta table can hold them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::Result as PlannerResult;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::sqlparser::ast::{Query, SelectItem, SetExpr, Spanned};
use thalweg_engine::spec::TIME_COLUMN;

use super::carry::time_of;
use super::syntax::start;
use crate::error::{Error, Position, Result};
use crate::plan::column_type::moment;
use crate::plan::stream::RESERVED_COLUMNS;

/// Characters that a Delta table refuses in the name of a column.
const REFUSED_IN_NAMES: [char; 12] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=', '[', ']'];

/// Checks the columns of the query, before the hidden one is added.
pub(super) fn check(plan: &LogicalPlan, query: &Query) -> Result<()> {
    let mut seen = HashSet::new();
    for (index, field) in plan.schema().fields().iter().enumerate() {
        let place = place_of_column(query, index);
        let name = field.name();
        if name.is_empty() || name.contains(REFUSED_IN_NAMES) {
            return Err(Error::invalid(format!(
                "column {} of the view can't be called \"{name}\"",
                index + 1
            ))
            .at(place)
            .detail("a table of Delta has no column with blanks, or with any of ,;{}()=[]")
            .hint("give it a name with AS"));
        }
        if RESERVED_COLUMNS.contains(&name.as_str()) {
            return Err(Error::invalid(format!("a view's column can't be called \"{name}\"")).at(place));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(Error::invalid(format!("two columns of the view are called \"{name}\""))
                .at(place)
                .hint("name one of them with AS"));
        }
        table_type(field.data_type()).map_err(|reason| {
            Error::invalid(format!("column \"{name}\" is {}, {reason}", field.data_type()))
                .at(place)
                .hint("cast it, such as CAST(… AS BIGINT)")
        })?;
        check_fields(field.data_type()).map_err(|reason| {
            Error::invalid(format!("column \"{name}\" has {reason}"))
                .at(place)
                .hint("take its fields one by one: column['field'] AS name")
        })?;
    }
    Ok(())
}

/// The query's columns in types of the table, then the time.
pub(super) fn project(plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
    let time = time_of(&plan)?;
    let columns = plan.schema().columns().into_iter().zip(plan.schema().fields());
    let visible = columns.filter(|(column, _)| *column != time).map(|(column, field)| {
        let name = column.name.clone();
        let value = Expr::Column(column);
        match table_type(field.data_type()) {
            Ok(fitting) if &fitting != field.data_type() => cast(value, fitting).alias(name),
            _ => value.alias(name),
        }
    });
    let columns = visible.chain([Expr::Column(time.clone()).alias(TIME_COLUMN)]).collect::<Vec<_>>();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// The names within structs, at any depth. A table of Delta takes names that differ in their case for the same.
fn check_fields(kind: &DataType) -> Result<(), String> {
    match kind {
        DataType::Struct(fields) => {
            let mut seen = HashSet::new();
            for field in fields {
                let name = field.name();
                if name.is_empty() || name.contains(REFUSED_IN_NAMES) {
                    return Err(format!("a field called \"{name}\", which a table can't hold"));
                }
                if !seen.insert(name.to_lowercase()) {
                    return Err(format!("two fields called \"{name}\", which differ at most in their case"));
                }
                check_fields(field.data_type())?;
            }
            Ok(())
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            check_fields(item.data_type())
        }
        _ => Ok(()),
    }
}

/// The type of a table's column that holds every value of `from`, or why there is none.
fn table_type(from: &DataType) -> Result<DataType, String> {
    Ok(match from {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Utf8View
        | DataType::BinaryView => from.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::BinaryView,
        DataType::Timestamp(
            TimeUnit::Nanosecond | TimeUnit::Microsecond | TimeUnit::Millisecond | TimeUnit::Second,
            _,
        )
        | DataType::Date64 => moment(),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, values) => table_type(values)?,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(table_field(item)?))
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| table_field(field)).collect::<Result<Fields, String>>()?;
            DataType::Struct(fields)
        }
        DataType::Null => return Err("which has no type".into()),
        _ => return Err("which a table can't hold".into()),
    })
}

fn table_field(field: &Field) -> Result<Field, String> {
    Ok(field.clone().with_data_type(table_type(field.data_type())?))
}

/// Where the column stands in the outermost SELECT, unless a `*` before it hides that.
fn place_of_column(query: &Query, index: usize) -> Option<Position> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let plain =
        |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    let items = select.projection.get(..=index)?;
    items.iter().all(plain).then(|| items.last().and_then(|item| start(item.span()))).flatten()
}
