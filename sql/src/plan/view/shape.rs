//! What a view can be, seen in its plan: where the window's bounds are among the columns of each step, whether every
//! aggregate names one of them, and whether rows must be expanded per window.
//!
//! Works on the plan as SQL was read, before anything is optimized, from the stream upwards.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{GroupingSet, WindowFunction};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::spec::StreamSpec;

use super::syntax;
use crate::error::{Error, Position, Result};
use crate::plan::window::{WINDOW_END, WINDOW_START, WindowLength, WindowNode};

/// What was found out.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub window: Option<WindowLength>,
    pub aggregated: bool,
    /// Something below the aggregate looks at the window other than as a bare key.
    pub looks_at_window: bool,
    /// Where the window's bounds are among the keys of the aggregate over the stream: those that every grouping set
    /// names. A key that is a bound and none of these makes rows be expanded, for a pane's bounds differ from a window's.
    pub keys: BoundKeys,
    columns: Vec<Meaning>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BoundKeys {
    pub start: Option<usize>,
    pub end: Option<usize>,
}

/// What a column is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    EventTime,
    Start,
    End,
    Other,
}

impl Meaning {
    fn is_bound(self) -> bool {
        matches!(self, Meaning::Start | Meaning::End)
    }
}

pub(super) fn check(plan: &LogicalPlan, query: &Query, stream: &StreamSpec) -> Result<Shape> {
    Checker { query, stream }.shape(plan)
}

struct Checker<'a> {
    query: &'a Query,
    stream: &'a StreamSpec,
}

impl Checker<'_> {
    fn shape(&self, plan: &LogicalPlan) -> Result<Shape> {
        match plan {
            LogicalPlan::TableScan(scan) => Ok(self.of_stream(&scan.projected_schema)),
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowNode>() {
                Some(window) => self.windowed(window),
                None => Err(unsupported(plan)),
            },
            LogicalPlan::Projection(projection) => {
                let input = &projection.input;
                Ok(self.projected(self.shape(input)?, &projection.expr, input.schema()))
            }
            LogicalPlan::Filter(filter) => {
                let mut shape = self.shape(&filter.input)?;
                shape.note_use([&filter.predicate], filter.input.schema());
                Ok(shape)
            }
            LogicalPlan::SubqueryAlias(alias) => self.shape(&alias.input),
            LogicalPlan::Unnest(unnest) => {
                let mut shape = self.shape(&unnest.input)?;
                let unnested: Vec<_> = unnest.list_type_columns.iter().map(|(index, _)| *index).collect();
                shape.columns = (unnest.dependency_indices.iter())
                    .map(|index| {
                        match unnested.contains(index) || unnest.struct_type_columns.contains(index) {
                            true => Meaning::Other,
                            false => shape.columns[*index],
                        }
                    })
                    .collect();
                Ok(shape)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Aggregate(aggregate) => self.aggregated(aggregate),
            LogicalPlan::Window(window) => {
                let mut shape = self.shape(&window.input)?;
                self.check_over(&shape, &window.window_expr, window.input.schema())?;
                shape.columns.extend(window.window_expr.iter().map(|_| Meaning::Other));
                Ok(shape)
            }
            other => Err(unsupported(other)),
        }
    }

    fn of_stream(&self, schema: &DFSchema) -> Shape {
        let event_time = self.stream.event_time.map(|it| self.stream.schema.field(it.column).name().as_str());
        let columns = schema.fields().iter().map(|field| match Some(field.name().as_str()) == event_time {
            true => Meaning::EventTime,
            false => Meaning::Other,
        });
        Shape {
            window: None,
            aggregated: false,
            looks_at_window: false,
            keys: BoundKeys::default(),
            columns: columns.collect(),
        }
    }

    fn windowed(&self, window: &WindowNode) -> Result<Shape> {
        let mut shape = self.shape(&window.input)?;
        let refuse = |text: String| Error::invalid(text).at(window.position);
        if shape.window.is_some() {
            return Err(refuse("a window over a window is not supported".into()).hint(
                "make the inner one a view of finer windows, and sum it up in the query that reads it",
            ));
        }
        let Some(event_time) = self.stream.event_time else {
            return Err(refuse(format!(
                "stream {} has no event time, so it has no windows",
                self.stream.name
            ))
            .hint("declare WATERMARK FOR column AS column - INTERVAL '5' SECOND in its CREATE STREAM"));
        };
        if shape.meaning(&window.time, window.input.schema()) != Meaning::EventTime {
            let declared = self.stream.schema.field(event_time.column).name();
            return Err(refuse(format!(
                "{} is not the event time of stream {}",
                window.time, self.stream.name
            ))
            .hint(format!("the watermark is declared for {declared}: write {declared}")));
        }
        for name in [WINDOW_START, WINDOW_END] {
            if window.input.schema().has_column_with_unqualified_name(name) {
                return Err(refuse(format!("the rows already have a column {name}"))
                    .hint(format!("give it another name: WITH renamed AS (SELECT {name} AS …)")));
            }
        }
        shape.window = Some(window.length);
        shape.columns.extend([Meaning::Start, Meaning::End]);
        Ok(shape)
    }

    fn projected(&self, mut shape: Shape, exprs: &[Expr], schema: &DFSchema) -> Shape {
        shape.note_use(exprs.iter().filter(|expr| column_of(expr).is_none()), schema);
        shape.columns = exprs.iter().map(|expr| shape.meaning(expr, schema)).collect();
        shape
    }

    fn distinct(&self, input: &LogicalPlan) -> Result<Shape> {
        let mut shape = self.shape(input)?;
        if !shape.columns.iter().any(|it| it.is_bound()) {
            return Err(self.no_window(&shape, "SELECT DISTINCT", None));
        }
        shape.aggregate_by_columns(&[Meaning::Start, Meaning::End]);
        Ok(shape)
    }

    fn aggregated(&self, aggregate: &Aggregate) -> Result<Shape> {
        let schema = aggregate.input.schema();
        let mut shape = self.shape(&aggregate.input)?;
        let sets = grouping_sets(&aggregate.group_expr);
        let names = |bound: Meaning| {
            let names_it = |set: &Vec<&Expr>| set.iter().any(|expr| shape.meaning(expr, schema) == bound);
            !sets.is_empty() && sets.iter().all(names_it)
        };
        self.check_order(&aggregate.aggr_expr)?;
        let in_each: Vec<Meaning> =
            [Meaning::Start, Meaning::End].into_iter().filter(|bound| names(*bound)).collect();
        if in_each.is_empty() {
            let place = syntax::place_of_grouping(self.query);
            let derived = sets
                .iter()
                .flatten()
                .find(|expr| column_of(expr).is_none() && shape.mentions_bound(expr, schema));
            return Err(match derived {
                Some(derived) => Error::invalid(format!(
                    "GROUP BY {derived} would put many windows into one group, which is final only when the last closes"
                ))
                .at(place)
                .hint("take longer windows, such as INTERVAL '1' HOUR, or group in the query that reads the view"),
                None if sets.len() > 1 && shape.window.is_some() => {
                    let is_bound = |expr: &&Expr| shape.meaning(expr, schema).is_bound();
                    let text = match sets.iter().all(|set| set.iter().any(is_bound)) {
                        true => "grouping sets name different bounds of the window",
                        false => "a grouping set leaves out the window",
                    };
                    Error::invalid(text).at(place).hint("write GROUP BY window_start, window_end, ROLLUP (…)")
                }
                None => self.no_window(&shape, "an aggregate", place),
            });
        }
        if !shape.aggregated {
            let keys = sets.into_iter().flatten().filter(|expr| column_of(expr).is_none());
            shape.note_use(keys.chain(&aggregate.aggr_expr), schema);
        }
        shape.columns = (aggregate.schema.columns().iter())
            .map(|column| {
                schema.maybe_index_of_column(column).map_or(Meaning::Other, |index| shape.columns[index])
            })
            .map(|meaning| if meaning.is_bound() { meaning } else { Meaning::Other })
            .collect();
        shape.aggregate_by_columns(&in_each);
        Ok(shape)
    }

    /// Rows of several partitions come in no order of their own.
    fn check_order(&self, exprs: &[Expr]) -> Result<()> {
        for expr in exprs {
            let Expr::AggregateFunction(function) = expr.clone().unalias() else { continue };
            let name = function.func.name().to_owned();
            let picks = matches!(name.as_str(), "first_value" | "last_value" | "nth_value");
            if picks && function.params.order_by.is_empty() {
                let place = syntax::place_of_function(self.query, |it| {
                    it.name.to_string().eq_ignore_ascii_case(&name)
                });
                return Err(Error::invalid(format!(
                    "{name} without ORDER BY depends on the order in which rows come"
                ))
                .at(place)
                .hint(format!("write {name}(… ORDER BY …)")));
            }
        }
        Ok(())
    }

    fn no_window(&self, shape: &Shape, what: &str, place: Option<Position>) -> Error {
        if shape.window.is_some() {
            return Error::invalid(format!("{what} must name its window, or it would never be final"))
                .at(place
                    .or_else(|| syntax::place_of_grouping(self.query))
                    .or_else(|| syntax::place_of_query(self.query)))
                .hint("write GROUP BY window_start, window_end, …");
        }
        let stream = &self.stream.name;
        let time = self.stream.event_time.map_or("event_ts", |it| self.stream.schema.field(it.column).name());
        Error::invalid(format!("{what} over the whole stream {stream} would never be final"))
            .at(place.or_else(|| syntax::place_of_grouping(self.query)).or_else(|| syntax::place_of_query(self.query)))
            .hint(format!(
                "write FROM TUMBLE({stream}, {time}, INTERVAL '1 minute') GROUP BY window_start, window_end, …"
            ))
    }

    /// OVER stays within a window if it is partitioned by it, and needs the finished rows.
    fn check_over(&self, shape: &Shape, exprs: &[Expr], schema: &DFSchema) -> Result<()> {
        for expr in exprs {
            let Some(function) = window_function(expr) else { continue };
            let name = function.fun.name().to_lowercase();
            let place = syntax::place_of_function(self.query, |it| {
                it.over.is_some() && it.name.to_string().to_lowercase() == name
            });
            if !shape.aggregated {
                return Err(Error::invalid(format!(
                    "{name}() OVER needs all rows of its window, not those of one batch"
                ))
                .at(place)
                .hint("aggregate by window first, and write OVER above that"));
            }
            let partitioned =
                function.params.partition_by.iter().any(|key| shape.meaning(key, schema).is_bound());
            if !partitioned {
                return Err(Error::invalid(format!("{name}() OVER would reach across windows"))
                    .at(place)
                    .hint("write OVER (PARTITION BY window_start …)"));
            }
        }
        Ok(())
    }
}

impl Shape {
    fn meaning(&self, expr: &Expr, schema: &DFSchema) -> Meaning {
        column_of(expr)
            .and_then(|column| schema.maybe_index_of_column(column))
            .map_or(Meaning::Other, |index| self.columns[index])
    }

    fn mentions_bound(&self, expr: &Expr, schema: &DFSchema) -> bool {
        expr.column_refs().into_iter().any(|column| {
            schema.maybe_index_of_column(column).is_some_and(|index| self.columns[index].is_bound())
        })
    }

    /// The columns are those of an aggregate now; of the first one, the bounds are remembered.
    fn aggregate_by_columns(&mut self, in_each_set: &[Meaning]) {
        if !self.aggregated {
            let find = |wanted| {
                let position = self.columns.iter().position(|it| *it == wanted);
                position.filter(|_| in_each_set.contains(&wanted))
            };
            self.keys = BoundKeys { start: find(Meaning::Start), end: find(Meaning::End) };
            let bounds = self.columns.iter().filter(|it| it.is_bound()).count();
            let kept = self.keys.start.iter().chain(&self.keys.end).count();
            self.looks_at_window |= bounds > kept;
        }
        self.aggregated = true;
    }

    fn note_use<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>, schema: &DFSchema) {
        let looked = exprs.into_iter().any(|expr| self.mentions_bound(expr, schema));
        if looked && !self.aggregated {
            self.looks_at_window = true;
        }
    }
}

fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column_of(&alias.expr),
        _ => None,
    }
}

/// The keys of each grouping set; none of them is empty unless it is written so.
fn grouping_sets(exprs: &[Expr]) -> Vec<Vec<&Expr>> {
    match exprs {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => {
            sets.iter().map(|set| set.iter().collect()).collect()
        }
        // Both have the empty set among theirs.
        [Expr::GroupingSet(GroupingSet::Rollup(keys) | GroupingSet::Cube(keys))] => {
            vec![keys.iter().collect(), vec![]]
        }
        plain => vec![plain.iter().collect()],
    }
}

fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    let mut found = None;
    // The visitor has no errors of its own.
    let _ = expr.apply(|each| {
        if let Expr::WindowFunction(function) = each {
            found.get_or_insert(function.as_ref());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

fn unsupported(plan: &LogicalPlan) -> Error {
    let name = plan.display().to_string();
    let name = name.split([':', ' ']).next().unwrap_or_default().to_lowercase();
    Error::invalid(format!("{name} is not supported in a view"))
        .hint("write it in the query that reads the view")
}
