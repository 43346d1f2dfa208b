//! A subquery that looks at the row outside is made a join by DataFusion, which for most shapes is not what SQL says: what
//! aggregates loses its row where nothing is found, OVER and LIMIT look at the rows of all, and a comparison within ON
//! lets each row come several times. So a subquery is one of the shapes that are planned right, or refused (INV-21).
//!
//! Right are: filters and projections over relations, where WHERE compares with the row outside; of EXISTS, IN, ANY and ALL
//! also with GROUP BY, if by equality; a value that is an aggregate without GROUP BY and HAVING; and such an aggregate, or
//! one with GROUP BY, in a LATERAL. What does not look outside is planned as any query.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{InSubquery, SetComparison};
use datafusion::logical_expr::utils::{merge_schema, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, FetchType, Join, JoinType, Limit, LogicalPlan, Operator, SkipType,
    Subquery,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr as AstExpr, Query, Spanned, Visitor};

use crate::error::{Error, Position, Result};
use crate::parse::walk;

const JOIN_AGGREGATE: &str = "aggregate in a subquery of FROM or in WITH, and join that: … LEFT JOIN (SELECT k, count(*) AS n \
                              FROM … GROUP BY k) AS a ON a.k = …, where coalesce(n, 0) is the number of none";
const UNNEST: &str = "write it in the SELECT list, and what asks for its rows around that: \
    SELECT … FROM (SELECT *, unnest(tags) AS tag FROM …)";
const JOIN: &str = "write it as a JOIN of what it reads";

/// Refuses the first subquery that would be planned to something else than it says.
pub(crate) fn check(plan: &LogicalPlan, query: &Query) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        found = check_node(node).err();
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match found {
        None => Ok(()),
        Some(Refusal { what, hint, outside }) => {
            Err(Error::invalid(what).at(outside.and_then(|column| mention(&column, query))).hint(hint))
        }
    }
}

struct Refusal {
    what: String,
    hint: String,
    /// By which the place is found.
    outside: Option<Box<Column>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// EXISTS.
    Whether,
    /// IN, ANY and ALL.
    Members,
    Value,
    /// LATERAL; of a LEFT JOIN whose ON may fail, `outer`.
    Rows {
        outer: bool,
    },
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Asked::Whether => "EXISTS (SELECT …)",
            Asked::Members => "IN, ANY or ALL (SELECT …)",
            Asked::Value => "a value (SELECT …)",
            Asked::Rows { .. } => "LATERAL (SELECT …)",
        }
    }

    fn is_rows(self) -> bool {
        matches!(self, Asked::Rows { .. })
    }
}

fn check_node(node: &LogicalPlan) -> Result<(), Refusal> {
    let schema = merge_schema(&node.inputs());
    if let LogicalPlan::Join(join) = node {
        if let Some(subquery) = lateral(&join.right) {
            let outer = join.join_type != JoinType::Inner;
            check_subquery(subquery, Asked::Rows { outer }, join.left.schema())?;
            check_condition(join, subquery)?;
        }
        if let Some(subquery) = lateral(&join.left) {
            return Err(
                Shape { asked: Asked::Rows { outer: false }, subquery }.refused("stands first in FROM", JOIN)
            );
        }
    }
    let mut outcome = Ok(());
    let walked = node.apply_expressions(|expr| {
        expr.apply(|each| {
            let asked = match each {
                Expr::Exists(exists) => Some((&exists.subquery, Asked::Whether)),
                Expr::InSubquery(InSubquery { subquery, .. })
                | Expr::SetComparison(SetComparison { subquery, .. }) => Some((subquery, Asked::Members)),
                Expr::ScalarSubquery(subquery) => Some((subquery, Asked::Value)),
                _ => None,
            };
            if let Some((subquery, asked)) = asked {
                outcome = check_subquery(subquery, asked, &schema);
            }
            Ok(if outcome.is_err() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    walked.map_err(|error| Refusal { what: error.to_string(), hint: JOIN.to_owned(), outside: None })?;
    outcome
}

/// What stands behind LATERAL.
fn lateral(plan: &LogicalPlan) -> Option<&Subquery> {
    match plan {
        LogicalPlan::Subquery(subquery) if looks_outside(&subquery.subquery) => Some(subquery),
        LogicalPlan::SubqueryAlias(alias) => lateral(&alias.input),
        _ => None,
    }
}

/// `outer` has what stands beside the subquery.
fn check_subquery(subquery: &Subquery, asked: Asked, outer: &DFSchema) -> Result<(), Refusal> {
    let plan = &subquery.subquery;
    let shape = Shape { asked, subquery };
    let unknown = subquery.outer_ref_columns.iter().find(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => !outer.has_column(column),
        _ => false,
    });
    if let Some(Expr::OuterReferenceColumn(_, column)) = unknown {
        let what = format!("{} looks at {column}, which is not of the query just outside", asked.name());
        let hint = "select that column in the query between, or JOIN what it reads".to_owned();
        return Err(Refusal { what, hint, outside: Some(Box::new(column.clone())) });
    }
    if !looks_outside(plan) {
        return Ok(());
    }
    if asked.is_rows() && unnests(plan) {
        return Err(
            shape.unplanned("FROM … UNNEST(…) of a column beside it is not planned".to_owned(), UNNEST)
        );
    }
    match (asked, plan.as_ref()) {
        // How many rows there are, if any, does not matter.
        (Asked::Whether, LogicalPlan::Limit(limit)) if keeps_one(limit) => shape.rows(&limit.input, false),
        (Asked::Value, _) => shape.value(plan),
        (Asked::Rows { .. }, _) if is_aggregate(plan) => shape.value(plan),
        _ => shape.rows(plan, false),
    }
}

/// Where a LATERAL that aggregates is kept by LEFT JOIN, what is of no row is told from what ON has refused by ON alone.
fn check_condition(join: &Join, subquery: &Subquery) -> Result<(), Refusal> {
    let always = match &join.filter {
        None => true,
        Some(condition) => matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(true)), _)),
    };
    let shape = Shape { asked: Asked::Rows { outer: true }, subquery };
    match join.join_type {
        JoinType::Inner => Ok(()),
        JoinType::Left if always && join.on.is_empty() => Ok(()),
        JoinType::Left if !is_aggregate(&subquery.subquery) => Ok(()),
        JoinType::Left => {
            Err(shape.refused("aggregates, and is kept by LEFT JOIN where a condition fails", JOIN_AGGREGATE))
        }
        _ => Err(shape.refused("is joined otherwise than by JOIN and LEFT JOIN", JOIN)),
    }
}

fn unnests(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Unnest(_) => true,
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) => plan.inputs().into_iter().any(unnests),
        _ => false,
    }
}

fn looks_outside(plan: &LogicalPlan) -> bool {
    !plan.all_out_ref_exprs().is_empty()
}

/// Whether it is one aggregate of all its rows.
fn is_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_aggregate(&projection.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}

fn keeps_one(limit: &Limit) -> bool {
    let skips = !matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)));
    let fetches = match limit.get_fetch_type() {
        Ok(FetchType::Literal(rows)) => rows.is_none_or(|rows| rows > 0),
        _ => false,
    };
    !skips && fetches
}

/// A subquery that looks outside.
#[derive(Clone, Copy)]
struct Shape<'a> {
    asked: Asked,
    subquery: &'a Subquery,
}

impl Shape<'_> {
    fn refused(self, what: &str, hint: &str) -> Refusal {
        let what = format!(
            "{} that looks at the row outside would be answered wrongly: it {what}",
            self.asked.name()
        );
        self.unplanned(what, hint)
    }

    fn unplanned(self, what: String, hint: &str) -> Refusal {
        let outside = self.subquery.outer_ref_columns.iter().find_map(|expr| match expr {
            Expr::OuterReferenceColumn(_, column) => Some(Box::new(column.clone())),
            _ => None,
        });
        Refusal { what, hint: hint.to_owned(), outside }
    }

    /// An aggregate without GROUP BY, which has a row where nothing is found too.
    fn value(self, plan: &LogicalPlan) -> Result<(), Refusal> {
        match plan {
            LogicalPlan::Projection(projection) if !has_outer(&projection.expr) => {
                // What stands beside aggregates is NULL where nothing is found.
                if !projection.expr.iter().all(Expr::any_column_refs) {
                    return Err(self.refused(
                        "has a constant beside an aggregate",
                        "give the constant in the query outside",
                    ));
                }
                self.value(&projection.input)
            }
            LogicalPlan::Projection(_) => Err(self.refused(
                "calculates with that row in its SELECT",
                "calculate with it in the query outside, and compare with it in WHERE alone",
            )),
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => self.aggregate(aggregate),
            LogicalPlan::Aggregate(_) => Err(self.refused("has GROUP BY", JOIN_AGGREGATE)),
            LogicalPlan::Filter(filter) if is_aggregate(&filter.input) => {
                Err(self.refused("has HAVING", JOIN_AGGREGATE))
            }
            LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Err(self.refused(
                "has ORDER BY, LIMIT or OFFSET",
                "take min(x), max(x) or first_value(x ORDER BY …) of it",
            )),
            LogicalPlan::Window(_) => Err(self.refused("has OVER", JOIN)),
            _ => Err(self.refused(
                "is not one aggregate, and so may have several rows",
                "aggregate it, such as max(x); or JOIN what it reads",
            )),
        }
    }

    fn aggregate(self, aggregate: &Aggregate) -> Result<(), Refusal> {
        if has_outer(&aggregate.group_expr) || has_outer(&aggregate.aggr_expr) {
            return Err(self.refused(
                "aggregates something of that row",
                "aggregate what the subquery reads, and compare with the row outside in WHERE; or JOIN, and aggregate the pairs",
            ));
        }
        self.rows(&aggregate.input, true)
    }

    /// Rows of relations, of which WHERE takes some; `together` if they come together above, by what they are compared with.
    fn rows(self, plan: &LogicalPlan, together: bool) -> Result<(), Refusal> {
        if !looks_outside(plan) {
            return Ok(());
        }
        match plan {
            LogicalPlan::Filter(filter) => {
                for condition in split_conjunction(&filter.predicate) {
                    self.condition(condition, together)?;
                }
                match filter.input.as_ref() {
                    input if is_aggregate(input) && looks_outside(input) => {
                        Err(self.refused("has HAVING, or aggregates within", JOIN_AGGREGATE))
                    }
                    input => self.rows(input, together),
                }
            }
            LogicalPlan::Projection(projection) if has_outer(&projection.expr) => Err(self.refused(
                "has that row in its SELECT",
                "compare with the row outside in WHERE alone; of EXISTS write SELECT 1",
            )),
            LogicalPlan::Projection(projection) => {
                let compared = compared(&projection.input);
                let takes_name = |expr: &&Expr| match expr {
                    Expr::Alias(alias) => {
                        let is_it = matches!(alias.expr.as_ref(), Expr::Column(it) if it.name == alias.name);
                        !is_it && compared.contains(alias.name.as_str())
                    }
                    _ => false,
                };
                if let Some(taken) = projection.expr.iter().find(takes_name) {
                    let what = format!("calls a column as one that it compares: {}", taken.schema_name());
                    return Err(self.refused(&what, "give the column another name with AS"));
                }
                self.rows(&projection.input, together)
            }
            LogicalPlan::Distinct(Distinct::All(input)) if !together => self.rows(input, self.asked.is_rows()),
            LogicalPlan::Aggregate(aggregate) if !together && is_grouped(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Aggregate(_) if together => Err(self.refused("aggregates twice", JOIN_AGGREGATE)),
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => Err(self.refused(
                "aggregates without GROUP BY, and so has a row where nothing is found",
                JOIN_AGGREGATE,
            )),
            LogicalPlan::Aggregate(_) => Err(self.refused("has grouping sets, or groups by a constant", JOIN_AGGREGATE)),
            LogicalPlan::Distinct(_) => Err(self.refused("has DISTINCT ON, or aggregates distinct rows", JOIN)),
            LogicalPlan::Window(_) => Err(self.refused(
                "has OVER, which would look at the rows of all",
                "take it in a subquery of FROM, OVER (PARTITION BY what is compared …), and compare above it",
            )),
            LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Err(self.refused(
                "has ORDER BY, LIMIT or OFFSET",
                "number the rows in a subquery of FROM, row_number() OVER (PARTITION BY … ORDER BY …) AS n, and compare n",
            )),
            LogicalPlan::Join(_) => Err(self.refused(
                "compares with it in ON, or within a relation of its FROM",
                "compare with the row outside in WHERE of the subquery, not in ON",
            )),
            LogicalPlan::SubqueryAlias(_) | LogicalPlan::Subquery(_) => Err(self.refused(
                "compares with it in a subquery of its FROM",
                "compare with the row outside in WHERE of the subquery itself",
            )),
            LogicalPlan::Union(_) => Err(self.refused(
                "is a UNION",
                "UNION ALL what is read in a subquery of FROM, and compare in the WHERE above it",
            )),
            _ => Err(self.refused("is not a plain SELECT … FROM … WHERE", JOIN)),
        }
    }

    fn condition(self, condition: &Expr, together: bool) -> Result<(), Refusal> {
        if !condition.contains_outer() {
            return Ok(());
        }
        let asks = condition.exists(|expr| Ok(asks_a_query(expr))).unwrap_or(true);
        if asks {
            return Err(self.refused(
                "compares with it and asks another query in one condition",
                "write them as conditions of their own, with AND between",
            ));
        }
        match together && !is_equality(condition) {
            true => Err(self.refused(
                "compares what it aggregates by something else than column = value",
                "JOIN what it reads, and aggregate the pairs: … LEFT JOIN b ON b.x > a.x GROUP BY …",
            )),
            false => Ok(()),
        }
    }
}

/// The columns that are compared with the row outside, which are carried along under their names.
fn compared(plan: &LogicalPlan) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    if !looks_outside(plan) {
        return names;
    }
    if let LogicalPlan::Filter(filter) = plan {
        let conditions = split_conjunction(&filter.predicate);
        let conditions = conditions.into_iter().filter(|condition| condition.contains_outer());
        names.extend(conditions.flat_map(Expr::column_refs).map(|column| column.name.as_str()));
    }
    plan.inputs().into_iter().for_each(|input| names.extend(compared(input)));
    names
}

fn has_outer(exprs: &[Expr]) -> bool {
    exprs.iter().any(Expr::contains_outer)
}

pub fn asks_a_query(expr: &Expr) -> bool {
    matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_))
}

/// By keys alone, so that there is no group where there is no row.
fn is_grouped(aggregate: &Aggregate) -> bool {
    let is_key = |expr: &Expr| !matches!(expr, Expr::GroupingSet(_)) && expr.any_column_refs();
    !aggregate.group_expr.is_empty() && aggregate.group_expr.iter().all(is_key)
}

/// Of a column with something of the row outside alone: rows that are equal in it are those of one row outside.
fn is_equality(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    (is_column(left) && !right.any_column_refs()) || (is_column(right) && !left.any_column_refs())
}

/// Where the column is first spoken of within a query of the query.
fn mention(column: &Column, query: &Query) -> Option<Position> {
    struct Find<'a> {
        column: &'a Column,
        depth: usize,
        bare: Option<Position>,
    }
    impl Visitor for Find<'_> {
        type Break = Option<Position>;

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Option<Position>> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Option<Position>> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &AstExpr) -> ControlFlow<Option<Position>> {
            let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
            match expr {
                _ if self.depth < 2 => {}
                AstExpr::CompoundIdentifier(parts) => {
                    if let ([.., relation, name], Some(of)) = (&parts[..], &self.column.relation)
                        && is(&name.value, &self.column.name)
                        && is(&relation.value, of.table())
                    {
                        return ControlFlow::Break(Position::of(expr.span().start));
                    }
                }
                AstExpr::Identifier(name) if is(&name.value, &self.column.name) && self.bare.is_none() => {
                    self.bare = Position::of(expr.span().start);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find { column, depth: 0, bare: None };
    match walk(query, &mut find) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => find.bare,
    }
}
