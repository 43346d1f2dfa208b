//! Joins with tables. A table has one row a key at most, so such a join adds columns to a row, or takes it away, and is
//! no meeting of rows: it becomes a [`LookupNode`] with a filter and a projection above, which may stand anywhere in a
//! view, below its cuts too.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, cast, lit,
    try_cast, when,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::lookup::LookupNode;
use thalweg_engine::spec::LookupSpec;

use super::inputs::Inputs;
use super::syntax;
use crate::error::{Error, Result};
use crate::plan::type_text;

/// The plan with lookups in place of its joins with tables, and which tables these are.
pub(super) fn looked_up(
    plan: LogicalPlan,
    inputs: Inputs<'_>,
    query: &Query,
) -> Result<(LogicalPlan, Vec<String>)> {
    if !plan.exists(|node| Ok(table_of(node, inputs).is_some()))? {
        return Ok((plan, vec![]));
    }
    let mut rewriting =
        Rewriting { inputs, query, mentioned: mentioned(&plan)?, tables: BTreeSet::new(), lookups: 0 };
    let mut refusal = None;
    let rewritten = plan.transform_up(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        match rewriting.join(join) {
            Ok(Some(lookup)) => Ok(Transformed::yes(lookup)),
            Ok(None) => Ok(Transformed::no(node)),
            Err(error) => {
                refusal = Some(error);
                Err(DataFusionError::Internal("a join with a table was refused".into()))
            }
        }
    });
    match (rewritten, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (rewritten, None) => Ok((rewritten?.data, rewriting.tables.into_iter().collect())),
    }
}

fn table_of<'a>(plan: &LogicalPlan, inputs: Inputs<'a>) -> Option<&'a LookupSpec> {
    match plan {
        LogicalPlan::TableScan(scan) => inputs.table(scan.table_name.table()),
        _ => None,
    }
}

/// The names of all columns that some expression reads: a table's others need not be looked up.
fn mentioned(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            names.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    // What the query gives.
    names.extend(plan.schema().fields().iter().map(|field| field.name().clone()));
    Ok(names)
}

struct Rewriting<'a> {
    inputs: Inputs<'a>,
    query: &'a Query,
    mentioned: BTreeSet<String>,
    tables: BTreeSet<String>,
    lookups: usize,
}

/// A side of a join that reads a table and nothing else: its columns, and which rows it has, as expressions over a row of
/// the table.
struct Side<'a> {
    table: &'a LookupSpec,
    /// As which its columns are known in these.
    alias: TableReference,
    columns: Vec<Expr>,
    filters: Vec<Expr>,
}

/// What a join is about, apart from its type.
struct Matching {
    /// One for each column of the primary key.
    keys: Vec<Expr>,
    /// Conditions beside that.
    others: Vec<Expr>,
}

impl<'a> Rewriting<'a> {
    fn join(&mut self, join: &Join) -> Result<Option<LogicalPlan>> {
        let alias = TableReference::bare(format!("__table_{}", self.lookups));
        let (left, right) = (self.side(&join.left, &alias)?, self.side(&join.right, &alias)?);
        let (side, rows, of_table, table_is_left) = match (left, right) {
            (None, None) => return Ok(None),
            (None, Some(right)) => (right, &join.left, &join.right, false),
            (Some(left), None) => (left, &join.right, &join.left, true),
            (Some(left), Some(_)) => {
                return Err(self.refused(left.table, "two tables are joined before a stream or a view is").hint(
                    "JOIN them to the stream one after the other: FROM s JOIN a ON s.k = a.k JOIN b ON a.k = b.k",
                ));
            }
        };
        self.lookups += 1;
        self.tables.insert(side.table.name.clone());
        let matching = self.matching(join, &side, rows.schema(), of_table.schema())?;
        let keys = guarded(matching.keys, &matching.others, rows.schema())?;
        let fields = of_table.schema().iter().zip(&side.columns);
        let columns: Vec<_> = fields
            .map(|((qualifier, field), expr)| {
                let expr = match self.mentioned.contains(field.name()) {
                    true => expr.clone(),
                    false => lit(ScalarValue::try_from(field.data_type())?),
                };
                Ok((expr, qualifier.cloned(), field.name().clone()))
            })
            .collect::<datafusion::common::Result<_>>()?;
        let conditions = matching.others;
        let read: BTreeSet<String> = columns
            .iter()
            .map(|(expr, ..)| expr)
            .chain(&conditions)
            .flat_map(|expr| expr.column_refs())
            .filter(|column| column.relation.as_ref() == Some(&alias))
            .map(|column| column.name.clone())
            .collect();
        let added = side.table.schema.fields().iter().enumerate();
        let added = added.filter(|(_, field)| read.contains(field.name())).map(|(index, _)| index).collect();
        let node = LookupNode::try_new(rows.as_ref().clone(), side.table, alias.clone(), keys, added)?;
        let lookup = LogicalPlan::Extension(Extension { node: std::sync::Arc::new(node) });
        let found = Expr::Column(Column::new(Some(alias), LookupNode::FOUND));
        let is_bare = conditions.is_empty();
        let matches = conjunction(std::iter::once(found).chain(conditions))
            .ok_or_else(|| Error::internal("a lookup without a condition"))?;
        let of_rows = rows.schema().columns().into_iter().map(Expr::Column);
        let beside = |guarded: bool| {
            let matches = &matches;
            columns.iter().map(move |(expr, qualifier, name)| {
                let value = match expr {
                    // NULL where nothing was found.
                    Expr::Column(_) if is_bare => expr.clone(),
                    _ if guarded => when(matches.clone(), expr.clone()).end()?,
                    _ => expr.clone(),
                };
                Ok(value.alias_qualified(qualifier.clone(), name))
            })
        };
        let preserved = match (join.join_type, table_is_left) {
            (JoinType::Inner, _) => Kept::Found,
            (JoinType::Left, false) | (JoinType::Right, true) => Kept::All,
            (JoinType::LeftSemi, false) | (JoinType::RightSemi, true) => Kept::FoundAlone,
            (JoinType::LeftAnti, false) | (JoinType::RightAnti, true) if !join.null_aware => Kept::Missing,
            (JoinType::LeftMark, false) if !join.null_aware => Kept::Marked,
            (JoinType::LeftAnti, false) => {
                return Err(self
                    .refused(side.table, "NOT IN of a table is not supported in a view")
                    .hint("write NOT EXISTS (SELECT 1 FROM t WHERE t.key = …)"));
            }
            _ => {
                return Err(self
                    .refused(side.table, "the rows of a table alone have no time, so a view can't give them")
                    .hint("have the join keep the rows of the stream or view: INNER, or LEFT with the table on the right"));
            }
        };
        let builder = LogicalPlanBuilder::from(lookup);
        let (builder, of_table) = match preserved {
            Kept::Found => (builder.filter(matches.clone())?, beside(false).collect::<Exprs>()?),
            Kept::All => (builder, beside(true).collect::<Exprs>()?),
            Kept::FoundAlone => (builder.filter(matches.clone())?, vec![]),
            Kept::Missing => (builder.filter(matches.clone().is_not_true())?, vec![]),
            Kept::Marked => {
                let (qualifier, mark) = join.schema.qualified_field(join.schema.fields().len() - 1);
                let found = matches.clone().is_true().alias_qualified(qualifier.cloned(), mark.name());
                (builder, vec![found])
            }
        };
        let columns: Vec<Expr> = match table_is_left {
            true => of_table.into_iter().chain(of_rows).collect(),
            false => of_rows.chain(of_table).collect(),
        };
        Ok(Some(builder.project(columns)?.build()?))
    }

    /// What a plan is over a row of the table, if it reads a table and nothing else.
    fn side(&self, plan: &LogicalPlan, alias: &TableReference) -> Result<Option<Side<'a>>> {
        Ok(match plan {
            LogicalPlan::TableScan(scan) => table_of(plan, self.inputs).map(|table| {
                let names = scan.projected_schema.fields().iter().map(|field| field.name());
                let columns = names.map(|name| Expr::Column(Column::new(Some(alias.clone()), name)));
                Side { table, alias: alias.clone(), columns: columns.collect(), filters: vec![] }
            }),
            LogicalPlan::SubqueryAlias(named) => self.side(&named.input, alias)?,
            LogicalPlan::Projection(projection) => match self.side(&projection.input, alias)? {
                Some(side) => {
                    let schema = projection.input.schema();
                    let exprs = projection.expr.iter().map(|expr| side.over_row(expr, schema));
                    Some(Side { columns: exprs.collect::<Result<_>>()?, ..side })
                }
                None => None,
            },
            LogicalPlan::Filter(filter) => match self.side(&filter.input, alias)? {
                Some(mut side) => {
                    let predicate = side.over_row(&filter.predicate, filter.input.schema())?;
                    side.filters.push(predicate);
                    Some(side)
                }
                None => None,
            },
            other => {
                let mut tables = vec![];
                let mut others = false;
                other.apply(|node| {
                    match (node, table_of(node, self.inputs)) {
                        (_, Some(table)) => tables.push(table),
                        (LogicalPlan::TableScan(_) | LogicalPlan::Extension(_), None) => others = true,
                        _ => {}
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
                match tables.first() {
                    Some(table) if !others => {
                        let step = other.display().to_string();
                        let step = step.split([':', ' ']).next().unwrap_or_default().to_lowercase();
                        return Err(self
                            .refused(table, &format!("a view looks up the rows of a table as they are; {step} over them is not supported"))
                            .hint("leave columns out, compute some, and filter: JOIN (SELECT k, upper(name) AS n FROM t WHERE …)"));
                    }
                    _ => None,
                }
            }
        })
    }

    /// Which of the join's conditions tell the primary key.
    fn matching(
        &self,
        join: &Join,
        side: &Side<'_>,
        rows: &DFSchema,
        of_table: &DFSchema,
    ) -> Result<Matching> {
        let pairs = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
        let filters = join.filter.iter().flat_map(split_conjunction).cloned();
        let of_side = side.filters.iter().flat_map(split_conjunction).cloned();
        let mut keys: Vec<Option<Expr>> = vec![None; side.table.key.len()];
        let mut others = vec![];
        let of_join = pairs.chain(filters).map(|condition| side.over_row(&condition, of_table));
        for over in of_join.chain(of_side.map(Ok)) {
            let over = over?;
            let key = match &over {
                Expr::BinaryExpr(it) if it.op == Operator::Eq => {
                    let of_rows =
                        |expr: &Expr| expr.column_refs().into_iter().all(|column| rows.has_column(column));
                    let sides = [(&it.left, &it.right), (&it.right, &it.left)];
                    let named = sides.into_iter().find(|(_, asked)| of_rows(asked));
                    named.and_then(|(key, asked)| Some((side.key_of(key)?, asked.as_ref().clone())))
                }
                _ => None,
            };
            match key {
                Some((key, asked)) if keys[key].is_none() => {
                    keys[key] = Some(self.of_key_type(asked, side, key, rows)?);
                }
                _ => others.push(over),
            }
        }
        let lacking = keys.iter().position(Option::is_none);
        let name = |key: usize| side.table.schema.field(side.table.key[key]).name();
        if let Some(lacking) = lacking {
            let (table, key) = (&side.table.name, name(lacking));
            return Err(self
                .refused(side.table, &format!("table {table} is looked up by its whole primary key, and the join does not say what {key} is"))
                .hint(format!("add {table}.{key} = … to ON; a table of the same rows with another PRIMARY KEY may be looked up by that")));
        }
        Ok(Matching { keys: keys.into_iter().flatten().collect(), others })
    }

    /// A value of another type is made one of the key's where each of it is one.
    fn of_key_type(&self, asked: Expr, side: &Side<'_>, key: usize, rows: &DFSchema) -> Result<Expr> {
        let field = side.table.schema.field(side.table.key[key]);
        let (has, wanted) = (asked.get_type(rows)?, field.data_type());
        if has == *wanted {
            return Ok(asked);
        }
        // A constant is made one of the key's where it is the same.
        if let Expr::Literal(value, metadata) = &asked
            && let Ok(same) = value.cast_to(wanted)
            && same.cast_to(&has).is_ok_and(|back| back == *value)
        {
            return Ok(Expr::Literal(same, metadata.clone()));
        }
        if comparison_coercion(&has, wanted).as_ref() == Some(wanted) {
            return Ok(cast(asked, wanted.clone()));
        }
        if is_exact(&has, wanted)
            && let Some(common) = comparison_coercion(&has, wanted)
        {
            // Nothing has a key that the type of the key does not hold.
            let key = try_cast(asked.clone(), wanted.clone());
            let same = cast(key.clone(), common.clone()).eq(cast(asked, common));
            return Ok(when(same, key).end()?);
        }
        let (table, name) = (&side.table.name, field.name());
        Err(self
            .refused(
                side.table,
                &format!(
                    "{asked} is {}, and the key {name} of table {table} is {}",
                    type_text(&has),
                    type_text(wanted)
                ),
            )
            .hint(match crate::plan::table::is_exact(&has) {
                true => format!(
                    "declare {name} {} in CREATE TABLE {table}, or CAST what is compared with it",
                    type_text(&has)
                ),
                false => format!("CAST what is compared with it AS {}", type_text(wanted)),
            }))
    }

    fn refused(&self, table: &LookupSpec, text: &str) -> Error {
        Error::invalid(text).at(syntax::place_of_relation(self.query, &table.name))
    }
}

/// Whether no value of one type is as near to two of the other.
fn is_exact(one: &DataType, other: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Timestamp};
    (one.is_integer() && other.is_integer())
        || matches!(
            (one, other),
            (Timestamp(..) | Date32, Timestamp(..) | Date32) | (Decimal128(..), Decimal128(..))
        )
}

type Exprs = datafusion::common::Result<Vec<Expr>>;

/// Which rows of the other side a join gives.
enum Kept {
    Found,
    All,
    /// Without the table's columns.
    FoundAlone,
    Missing,
    /// All, with whether one was found.
    Marked,
}

/// A key that is computed is so behind the join's conditions on the same rows: where these do not hold, nothing is found.
fn guarded(keys: Vec<Expr>, others: &[Expr], rows: &DFSchema) -> Result<Vec<Expr>> {
    let of_rows = |expr: &Expr| expr.column_refs().into_iter().all(|column| rows.has_column(column));
    let Some(guard) = conjunction(others.iter().filter(|other| of_rows(other)).cloned()) else {
        return Ok(keys);
    };
    let key = |key: Expr| match key {
        Expr::Column(_) | Expr::Literal(..) => Ok(key),
        computed => when(guard.clone(), computed).end(),
    };
    Ok(keys.into_iter().map(key).collect::<datafusion::common::Result<_>>()?)
}

impl Side<'_> {
    /// With what the columns of this side are in place of their names.
    fn over_row(&self, expr: &Expr, schema: &DFSchema) -> Result<Expr> {
        let replaced = expr.clone().transform_up(|each| match &each {
            Expr::Column(column) => match schema.maybe_index_of_column(column) {
                Some(index) => Ok(Transformed::yes(self.columns[index].clone())),
                None => Ok(Transformed::no(each)),
            },
            _ => Ok(Transformed::no(each)),
        });
        Ok(replaced?.data.unalias())
    }

    /// Which column of the primary key it is.
    fn key_of(&self, expr: &Expr) -> Option<usize> {
        let Expr::Column(column) = expr else { return None };
        let is_it = |key: &usize| *self.table.schema.field(*key).name() == column.name;
        (column.relation.as_ref() == Some(&self.alias)).then(|| self.table.key.iter().position(is_it))?
    }
}
