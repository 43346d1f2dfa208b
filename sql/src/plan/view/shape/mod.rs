//! What a view can be, seen in its plan: where the window's bounds are among the columns of each step, whether every
//! step that looks at several rows stays within one window, and whether rows must be expanded per window.
//!
//! Works on the plan from its inputs upwards, as SQL was read, before anything is optimized; and once more on parts of
//! the plan when it is cut.

mod apart;
mod around;
mod group;
mod input;
mod meet;
mod unbound;

use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::ids::Micros;
use thalweg_engine::lookup::LookupNode;
use thalweg_engine::spec::{Layout, Reach, RowTime, ViewInput};

pub(in crate::plan) use self::around::length_of_time;
pub(super) use self::around::{Look, slices_for};
use self::group::window_functions;
use super::inputs::Inputs;
use crate::error::{Error, Result};
use crate::plan::window::WindowNode;

/// What was found out of one step.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub stage: Stage,
    pub unit: Unit,
    /// Something among rows that are not finished looks at the window other than as a bare key.
    pub looks_at_window: bool,
    /// Where the window's bounds are among the keys of the first aggregate, or the columns of rows that are kept: those
    /// that every grouping set names. A key that is a bound and none of these makes rows be expanded, for a pane's bounds
    /// differ from a window's.
    pub keys: BoundKeys,
    /// How far a unit looks around.
    pub reach: Reach,
    /// How many sides of FULL joins a row may lack.
    pub sides: usize,
    /// Of rows: what they come of.
    pub inputs: Vec<RowsOf>,
    columns: Vec<Meaning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Rows of inputs, each of its own: lower halves make them.
    Rows,
    /// Rows that come of many, made when a unit closes.
    Finished,
}

/// One input of rows.
#[derive(Debug, Clone)]
pub(super) struct RowsOf {
    /// What it tells of time, if it is a view.
    pub view: Option<ViewInput>,
    /// Windows are laid over its rows here.
    pub is_windowed: bool,
}

/// What rows are kept until.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Rows as they are.
    None,
    Window(Layout),
    Session {
        gap: Micros,
        /// How many columns tell sessions apart.
        keys: usize,
    },
    /// A slice of time, of rows that look around: of the windows that are asked for, or as is best.
    Slice(Option<Layout>),
    /// All rows since ever.
    Ever,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BoundKeys {
    pub start: Option<usize>,
    pub end: Option<usize>,
    /// Of sessions: what tells them apart.
    pub keys: Vec<usize>,
}

/// What a column is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    EventTime,
    Start,
    /// A start that several windows share, which so tells none of them.
    Opening,
    End,
    /// The last instant of the window.
    Last,
    /// When a row of a view was final, in such a way, which is all that is known of it.
    Final(RowTime),
    /// That of some sides of FULL joins, NULL where none of them has a row.
    OfSides(RowTime, Sides),
    /// What tells sessions apart, by number.
    Key(usize),
    Other,
}

/// Sides of FULL joins, by number: a bit for each.
pub(super) type Sides = u32;

impl Meaning {
    fn is_bound(self) -> bool {
        matches!(self, Meaning::Start | Meaning::End)
    }

    fn tells_window(self) -> bool {
        self.is_bound() || matches!(self, Meaning::Last | Meaning::Opening)
    }

    /// Whether it is still known above an aggregate by it.
    fn stays(self) -> bool {
        self.tells_window() || matches!(self, Meaning::Key(_))
    }
}

pub(super) struct Checker<'a> {
    pub query: &'a Query,
    pub inputs: Inputs<'a>,
}

impl Checker<'_> {
    pub fn shape(&self, plan: &LogicalPlan) -> Result<Shape> {
        match plan {
            LogicalPlan::TableScan(scan) => self.of_input(scan),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(lookup) = node.downcast_ref::<LookupNode>() {
                    return self.looked_up(lookup);
                }
                match node.downcast_ref::<WindowNode>() {
                    Some(window) => self.windowed(window),
                    None => Err(unsupported(plan)),
                }
            }
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
            LogicalPlan::Distinct(Distinct::On(distinct)) => self.distinct_on(distinct),
            LogicalPlan::Aggregate(aggregate) => self.aggregated(aggregate),
            LogicalPlan::Window(window) => {
                let mut shape = self.shape(&window.input)?;
                let functions = window_functions(&window.window_expr);
                match self.over_around(&shape, &functions, window.input.schema())? {
                    Some(around) => shape.look(around.look, around.unit),
                    None => {
                        self.check_over(&shape, &functions, window.input.schema())?;
                        shape.finish_rows();
                    }
                }
                shape.columns.extend(window.window_expr.iter().map(|_| Meaning::Other));
                Ok(shape)
            }
            LogicalPlan::Join(join) => self.joined(join),
            LogicalPlan::Union(union) => self.united(union),
            other => Err(unsupported(other)),
        }
    }

    /// What is found beside a row tells nothing of its time.
    fn looked_up(&self, lookup: &LookupNode) -> Result<Shape> {
        let mut shape = self.shape(&lookup.input)?;
        shape.note_use(&lookup.keys, lookup.input.schema());
        shape.columns.resize(shape.columns.len() + lookup.columns.len() + 1, Meaning::Other);
        Ok(shape)
    }

    fn projected(&self, mut shape: Shape, exprs: &[Expr], schema: &DFSchema) -> Shape {
        shape.note_use(exprs.iter().filter(|expr| column_of(expr).is_none()), schema);
        shape.columns = exprs.iter().map(|expr| shape.meaning(expr, schema)).collect();
        shape
    }
}

impl Shape {
    pub fn aggregated(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// What each column of the plan is known to be.
    pub fn row_times(&self) -> Vec<Option<RowTime>> {
        let time = |meaning: &Meaning| match meaning {
            Meaning::Start | Meaning::Opening => Some(RowTime::Start),
            Meaning::End => Some(RowTime::End),
            Meaning::Last => Some(RowTime::Last),
            Meaning::EventTime if matches!(self.unit, Unit::Slice(_)) => Some(RowTime::Own),
            Meaning::EventTime
            | Meaning::Final(_)
            | Meaning::OfSides(..)
            | Meaning::Key(_)
            | Meaning::Other => None,
        };
        self.columns.iter().map(time).collect()
    }

    /// What a column of a view's rows is known by.
    pub fn time_of_view(&self, column: usize) -> Option<RowTime> {
        match self.columns[column] {
            Meaning::Final(time) => Some(time),
            _ => self.row_times()[column],
        }
    }

    /// Of rows that are kept as they are: where their window's bounds are among the columns.
    pub fn bounds(&self) -> BoundKeys {
        let find = |wanted| self.columns.iter().position(|it| *it == wanted);
        let start = find(Meaning::Start).or_else(|| find(Meaning::Opening));
        BoundKeys { start, end: find(Meaning::End), keys: self.session_keys() }
    }

    fn session_keys(&self) -> Vec<usize> {
        let Unit::Session { keys, .. } = self.unit else { return vec![] };
        let find = |wanted| self.columns.iter().position(|it| *it == Meaning::Key(wanted));
        (0..keys).filter_map(find).collect()
    }

    fn meaning(&self, expr: &Expr, schema: &DFSchema) -> Meaning {
        if let Expr::Alias(alias) = expr {
            return self.meaning(&alias.expr, schema);
        }
        if let Expr::ScalarFunction(function) = expr
            && function.name() == "coalesce"
            && let Some((first, rest)) = function.args.split_first()
        {
            let together = rest.iter().fold(self.meaning(first, schema), |one, other| {
                match (one, self.meaning(other, schema)) {
                    (Meaning::OfSides(time, a), Meaning::OfSides(same, b)) if time == same => {
                        Meaning::OfSides(time, a | b)
                    }
                    _ => Meaning::Other,
                }
            });
            return match together {
                Meaning::OfSides(time, sides) if sides == all_of(self.sides) => bound_of(time),
                together => together,
            };
        }
        column_of(expr)
            .and_then(|column| schema.maybe_index_of_column(column))
            .map_or(Meaning::Other, |index| self.columns[index])
    }

    pub fn mentions_bound(&self, expr: &Expr, schema: &DFSchema) -> bool {
        expr.column_refs().into_iter().any(|column| {
            schema.maybe_index_of_column(column).is_some_and(|index| self.columns[index].tells_window())
        })
    }

    /// Rows of inputs are kept as they are, and go on as those of many.
    fn finish_rows(&mut self) {
        if self.stage == Stage::Rows {
            // Only bounds are made those of each window.
            self.looks_at_window |= self.columns.contains(&Meaning::Last);
            self.columns
                .iter_mut()
                .filter(|it| **it == Meaning::EventTime)
                .for_each(|it| *it = Meaning::Other);
        }
        self.stage = Stage::Finished;
        self.inputs.clear();
    }

    fn note_use<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>, schema: &DFSchema) {
        let looked = exprs.into_iter().any(|expr| self.mentions_bound(expr, schema));
        if looked && self.stage == Stage::Rows {
            self.looks_at_window = true;
        }
    }
}

/// All of so many sides.
fn all_of(sides: usize) -> Sides {
    (1 << sides) - 1
}

fn bound_of(time: RowTime) -> Meaning {
    match time {
        RowTime::Start => Meaning::Start,
        RowTime::End => Meaning::End,
        RowTime::Last => Meaning::Last,
        RowTime::Own => Meaning::Other,
    }
}

fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column_of(&alias.expr),
        _ => None,
    }
}
fn unsupported(plan: &LogicalPlan) -> Error {
    if let LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) = plan {
        return Error::invalid("a view reads streams, views and tables, and no values written in it")
            .hint("unnest lists in the SELECT; values of your own are a table: CREATE TABLE … WITH (path = 'values.csv')");
    }
    let name = plan.display().to_string();
    let name = name.split([':', ' ']).next().unwrap_or_default().to_lowercase();
    Error::invalid(format!("{name} is not supported in a view"))
        .hint("write it in the query that reads the view")
}
