//! What a view can be, seen in its plan: where the window's bounds are among the columns of each step, whether every
//! step that looks at several rows stays within one window, and whether rows must be expanded per window.
//!
//! Works on the plan from its inputs upwards, as SQL was read, before anything is optimized; and once more on parts of
//! the plan when it is cut.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{GroupingSet, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Join, JoinType, LogicalPlan, TableScan, Union,
};
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{RowTime, ViewInput, Window};

use super::inputs::{Inputs, Known};
use super::syntax;
use crate::error::{Error, Position, Result};
use crate::plan::window::{LAST_INSTANT, WINDOW_END, WINDOW_START, WindowLength, WindowNode};

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
    /// Of rows of one view: that input, and what they tell of time.
    pub input: Option<ViewInput>,
    columns: Vec<Meaning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Rows of inputs, each of its own: lower halves make them.
    Rows,
    /// Rows that come of many, made when a unit closes.
    Finished,
}

/// What rows are kept until.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Rows as they are.
    None,
    Window(WindowLength),
    Session {
        gap: Micros,
        /// How many columns tell sessions apart.
        keys: usize,
    },
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
    End,
    /// The last instant of the window.
    Last,
    /// So long before a row of a view was final, which is all that is known of it.
    Final(Micros),
    /// What tells sessions apart, by number.
    Key(usize),
    Other,
}

impl Meaning {
    fn is_bound(self) -> bool {
        matches!(self, Meaning::Start | Meaning::End)
    }

    fn tells_window(self) -> bool {
        self.is_bound() || self == Meaning::Last
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
            LogicalPlan::Distinct(Distinct::On(distinct)) => self.distinct_on(distinct),
            LogicalPlan::Aggregate(aggregate) => self.aggregated(aggregate),
            LogicalPlan::Window(window) => {
                let mut shape = self.shape(&window.input)?;
                self.check_over(&shape, &window.window_expr, window.input.schema())?;
                shape.finish_rows();
                shape.columns.extend(window.window_expr.iter().map(|_| Meaning::Other));
                Ok(shape)
            }
            LogicalPlan::Join(join) => self.joined(join),
            LogicalPlan::Union(union) => self.united(union),
            other => Err(unsupported(other)),
        }
    }

    fn of_input(&self, scan: &TableScan) -> Result<Shape> {
        let name = scan.table_name.table();
        let known = self.inputs.find(name).ok_or_else(|| Error::internal(format!("{name} is unknown")))?;
        let place = syntax::place_of_relation(self.query, name);
        if known.is_ever() {
            return Err(Error::invalid(format!("the rows of {name} are never final, for it has no window"))
                .at(place)
                .hint("read what it reads, or a view with windows"));
        }
        let schema = known.schema();
        let event_time = known.event_time().map(|column| schema.field(column).name().as_str());
        let meaning = |column: &str| match known.row_time(column) {
            Some(RowTime::Start) if known.is_session() => Meaning::Other,
            Some(RowTime::End) if known.is_session() => Meaning::Final(0),
            Some(RowTime::Last) if known.is_session() => Meaning::Final(LAST_INSTANT),
            Some(RowTime::Start) => Meaning::Start,
            Some(RowTime::End) => Meaning::End,
            Some(RowTime::Last) => Meaning::Last,
            None if event_time == Some(column) => Meaning::EventTime,
            None => Meaning::Other,
        };
        let columns: Vec<_> =
            scan.projected_schema.fields().iter().map(|field| meaning(field.name())).collect();
        let window = known.window();
        if let Known::View(view) = known
            && view.times.iter().all(Option::is_none)
        {
            return Err(Error::invalid(format!("{name} does not tell the windows of its rows"))
                .at(place)
                .hint(format!("have {name} SELECT window_start too")));
        }
        Ok(Shape {
            stage: Stage::Rows,
            unit: window.map_or(Unit::None, |it| Unit::Window(length_of(it))),
            // Each of a view's rows is of one window.
            looks_at_window: window.is_some(),
            keys: BoundKeys::default(),
            input: matches!(known, Known::View(_)).then(|| ViewInput {
                name: name.to_owned(),
                window: None,
                before_end: 0,
            }),
            columns,
        })
    }

    fn windowed(&self, node: &WindowNode) -> Result<Shape> {
        let mut shape = self.shape(&node.input)?;
        let refuse = |text: String| Error::invalid(text).at(node.position);
        let schema = node.input.schema();
        let time = shape.meaning(&node.time, schema);
        let of_view = shape.input.as_ref().and_then(|input| self.inputs.find(&input.name));
        if let (Unit::Window(_), None) | (Unit::Session { .. } | Unit::Ever, _) = (shape.unit, of_view) {
            return Err(refuse("a window over a window is not supported".into())
                .hint("make the inner one a view of finer windows, and read that view here"));
        }
        if shape.stage == Stage::Finished {
            return Err(refuse(
                "a window takes the rows of a stream or a view, not those of a query over many".into(),
            )
            .hint("make the inner query a view, and read that view here"));
        }
        match of_view.map(|known| (known.name(), known.window())) {
            Some((name, None)) => {
                let Meaning::Final(before_end) = time else {
                    return Err(refuse(format!(
                        "{} does not tell when a row of {name} was final",
                        node.time
                    ))
                    .hint("the rows of sessions are windowed by window_end, or window_time"));
                };
                shape.input = Some(ViewInput { name: name.to_owned(), window: None, before_end });
            }
            Some((name, Some(window))) => {
                let before_end = match time {
                    Meaning::Start => window.size,
                    Meaning::End => 0,
                    Meaning::Last => LAST_INSTANT,
                    Meaning::EventTime | Meaning::Final(_) | Meaning::Key(_) | Meaning::Other => {
                        return Err(refuse(format!(
                            "{} does not tell the window of a row of {name}",
                            node.time
                        ))
                        .hint(format!(
                            "write the bound that {name} selects, such as DESCRIPTOR(window_start)"
                        )));
                    }
                };
                shape.input = Some(ViewInput { name: name.to_owned(), window: Some(window), before_end });
                // The view's own bounds are ordinary columns from here on.
                shape.looks_at_window = false;
                shape.columns.iter_mut().for_each(|it| *it = Meaning::Other);
            }
            None => self.check_event_time(node, time)?,
        }
        shape.unit = Unit::Window(node.length);
        if let Some(keys) = &node.session {
            for (number, key) in keys.iter().enumerate() {
                if let Some(column) = column_of(key).and_then(|column| schema.maybe_index_of_column(column)) {
                    shape.columns[column] = Meaning::Key(number);
                }
            }
            shape.unit = Unit::Session { gap: node.length.size, keys: keys.len() };
        }
        let kept = node.kept_columns();
        shape.columns = kept.iter().map(|index| shape.columns[*index]).collect();
        shape.columns.extend([Meaning::Start, Meaning::End]);
        if node.with_last {
            shape.columns.push(Meaning::Last);
        }
        Ok(shape)
    }

    /// The time of a window over streams is the event time of each.
    fn check_event_time(&self, node: &WindowNode, time: Meaning) -> Result<()> {
        let refuse = |text: String| Error::invalid(text).at(node.position);
        let mut streams = vec![];
        node.input.apply(|each| {
            if let LogicalPlan::TableScan(scan) = each
                && let Some(Known::Stream(stream)) = self.inputs.find(scan.table_name.table())
            {
                streams.push(stream);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for stream in &streams {
            let Some(event_time) = stream.event_time else {
                return Err(refuse(format!(
                    "stream {} has no event time, so it has no windows",
                    stream.name
                ))
                .hint("declare WATERMARK FOR column AS column - INTERVAL '5' SECOND in its CREATE STREAM"));
            };
            if time != Meaning::EventTime {
                let declared = stream.schema.field(event_time.column).name();
                return Err(refuse(format!("{} is not the event time of stream {}", node.time, stream.name))
                    .hint(format!("the watermark is declared for {declared}: write {declared}")));
            }
        }
        for name in [WINDOW_START, WINDOW_END] {
            if node.input.schema().has_column_with_unqualified_name(name) {
                return Err(refuse(format!("the rows already have a column {name}"))
                    .hint(format!("give it another name: WITH renamed AS (SELECT {name} AS …)")));
            }
        }
        Ok(())
    }

    fn projected(&self, mut shape: Shape, exprs: &[Expr], schema: &DFSchema) -> Shape {
        shape.note_use(exprs.iter().filter(|expr| column_of(expr).is_none()), schema);
        shape.columns = exprs.iter().map(|expr| shape.meaning(expr, schema)).collect();
        shape
    }

    fn distinct(&self, input: &LogicalPlan) -> Result<Shape> {
        let mut shape = self.shape(input)?;
        if let Unit::Session { keys, .. } = shape.unit {
            self.check_session(&shape.columns, keys, None)?;
        } else if !shape.columns.iter().any(|it| it.is_bound()) {
            if !self.may_be_ever(&shape) {
                return Err(self.no_window("SELECT DISTINCT", None));
            }
            shape.unit = Unit::Ever;
        }
        shape.aggregate_by_columns(&[Meaning::Start, Meaning::End]);
        Ok(shape)
    }

    fn distinct_on(&self, distinct: &DistinctOn) -> Result<Shape> {
        let schema = distinct.input.schema();
        let mut shape = self.shape(&distinct.input)?;
        if let Unit::Session { keys, .. } = shape.unit {
            let on: Vec<_> = distinct.on_expr.iter().map(|key| shape.meaning(key, schema)).collect();
            self.check_session(&on, keys, None)?;
        } else if !distinct.on_expr.iter().any(|key| shape.meaning(key, schema).is_bound()) {
            if !self.may_be_ever(&shape) {
                return Err(self.no_window("DISTINCT ON", None));
            }
            shape.unit = Unit::Ever;
        }
        if shape.stage == Stage::Rows {
            shape.note_use(distinct.on_expr.iter().filter(|it| column_of(it).is_none()), schema);
            shape.note_use(&distinct.select_expr, schema);
        }
        shape.columns = distinct.select_expr.iter().map(|_| Meaning::Other).collect();
        shape.stage = Stage::Finished;
        shape.input = None;
        Ok(shape)
    }

    /// Without a window, and over a view whose windows are not asked for, an aggregate is over all there ever was.
    fn may_be_ever(&self, shape: &Shape) -> bool {
        match shape.unit {
            Unit::None | Unit::Ever => true,
            Unit::Session { .. } => false,
            Unit::Window(_) => {
                shape.stage == Stage::Rows && shape.input.as_ref().is_some_and(|input| input.window.is_none())
            }
        }
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
        let derived = sets
            .iter()
            .flatten()
            .find(|expr| column_of(expr).is_none() && shape.mentions_bound(expr, schema));
        if let Unit::Session { keys, .. } = shape.unit {
            for set in &sets {
                let named: Vec<_> = set.iter().map(|key| shape.meaning(key, schema)).collect();
                self.check_session(&named, keys, syntax::place_of_grouping(self.query))?;
            }
        } else if in_each.is_empty() && shape.unit != Unit::Ever {
            let place = syntax::place_of_grouping(self.query);
            let ever = self.may_be_ever(&shape)
                && derived.is_none()
                && !sets.iter().flatten().any(|key| shape.meaning(key, schema).tells_window());
            if !ever {
                return Err(match derived {
                    Some(derived) => Error::invalid(format!(
                        "GROUP BY {derived} would put many windows into one group, which is final only when the last closes"
                    ))
                    .at(place)
                    .hint("take longer windows, such as INTERVAL '1' HOUR, or group in the query that reads the view"),
                    None if sets.len() > 1 => {
                        let is_bound = |expr: &&Expr| shape.meaning(expr, schema).is_bound();
                        let text = match sets.iter().all(|set| set.iter().any(is_bound)) {
                            true => "grouping sets name different bounds of the window",
                            false => "a grouping set leaves out the window",
                        };
                        Error::invalid(text)
                            .at(place)
                            .hint("write GROUP BY window_start, window_end, ROLLUP (…)")
                    }
                    None => self.no_window("an aggregate", place),
                });
            }
            shape.unit = Unit::Ever;
            shape.looks_at_window = false;
        }
        if shape.stage == Stage::Rows {
            let keys = sets.into_iter().flatten().filter(|expr| column_of(expr).is_none());
            shape.note_use(keys.chain(&aggregate.aggr_expr), schema);
        }
        shape.columns = (aggregate.schema.columns().iter())
            .map(|column| {
                schema.maybe_index_of_column(column).map_or(Meaning::Other, |index| shape.columns[index])
            })
            .map(|meaning| if meaning.stays() { meaning } else { Meaning::Other })
            .collect();
        shape.aggregate_by_columns(&in_each);
        Ok(shape)
    }

    /// What is of one session names both its bounds and what tells it apart.
    fn check_session(&self, named: &[Meaning], keys: usize, place: Option<Position>) -> Result<()> {
        let mut needed = [Meaning::Start, Meaning::End].into_iter().chain((0..keys).map(Meaning::Key));
        if needed.all(|it| named.contains(&it)) {
            return Ok(());
        }
        Err(Error::invalid("what is of one session names window_start, window_end and its keys")
            .at(place
                .or_else(|| syntax::place_of_grouping(self.query))
                .or_else(|| syntax::place_of_query(self.query)))
            .hint("write GROUP BY window_start, window_end, and the columns of PARTITION BY"))
    }

    /// Each pair that a join makes is of one window.
    fn joined(&self, join: &Join) -> Result<Shape> {
        let (mut left, mut right) = (self.shape(&join.left)?, self.shape(&join.right)?);
        let place = syntax::place_of_join(self.query);
        let (Unit::Window(of_left), Unit::Window(of_right)) = (left.unit, right.unit) else {
            if left.unit == Unit::Ever && right.unit == Unit::Ever {
                return Ok(left.beside(right, join.join_type));
            }
            return Err(Error::invalid("a join in a view is between rows of windows").at(place).hint(
                "window both sides, such as FROM TUMBLE(a, ts, INTERVAL '1 minute') AS x JOIN TUMBLE(b, ts, \
                       INTERVAL '1 minute') AS y ON x.window_start = y.window_start AND …",
            ));
        };
        if of_left != of_right {
            return Err(Error::invalid("both sides of a join have the same windows")
                .at(place)
                .hint("take the same size, and for HOP the same slide"));
        }
        let same_bound = |(a, b): &(Expr, Expr)| {
            let (a, b) = (left.meaning(a, join.left.schema()), right.meaning(b, join.right.schema()));
            a == b && a.is_bound()
        };
        let in_filter = |filter: &Expr| {
            datafusion::logical_expr::utils::split_conjunction(filter).into_iter().any(|each| match each {
                Expr::BinaryExpr(it) if it.op == datafusion::logical_expr::Operator::Eq => {
                    let pairs = [(&it.left, &it.right), (&it.right, &it.left)];
                    pairs.into_iter().any(|(a, b)| same_bound(&((**a).clone(), (**b).clone())))
                }
                _ => false,
            })
        };
        if !join.on.iter().any(same_bound) && !join.filter.as_ref().is_some_and(in_filter) {
            return Err(Error::invalid("the join would reach across windows")
                .at(place)
                .hint("have it compare a bound too: ON a.window_start = b.window_start AND …"));
        }
        left.finish_rows();
        right.finish_rows();
        Ok(left.beside(right, join.join_type))
    }

    fn united(&self, union: &Union) -> Result<Shape> {
        let mut shapes = union.inputs.iter().map(|input| self.shape(input));
        let mut shape = shapes.next().ok_or_else(|| Error::internal("a union of nothing"))??;
        for other in shapes {
            let mut other = other?;
            let place = syntax::place_of_query(self.query);
            if shape.unit != other.unit || (shape.input.is_some() != other.input.is_some()) {
                return Err(Error::invalid("the parts of a UNION ALL have the same windows, or none")
                    .at(place)
                    .hint("write the same TUMBLE or HOP in each part"));
            }
            if shape.stage != other.stage || shape.input != other.input {
                shape.finish_rows();
                other.finish_rows();
            }
            shape.looks_at_window |= other.looks_at_window;
            for (own, others) in shape.columns.iter_mut().zip(&other.columns) {
                if own != others {
                    *own = Meaning::Other;
                }
            }
        }
        if shape.stage == Stage::Finished
            && matches!(shape.unit, Unit::Window(_))
            && !shape.columns.iter().any(|it| it.is_bound())
        {
            return Err(Error::invalid(
                "the parts of a UNION ALL do not tell their window in the same column",
            )
            .at(syntax::place_of_query(self.query))
            .hint("SELECT window_start first in each of them"));
        }
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

    fn no_window(&self, what: &str, place: Option<Position>) -> Error {
        Error::invalid(format!("{what} must name its window, or it would never be final"))
            .at(place
                .or_else(|| syntax::place_of_grouping(self.query))
                .or_else(|| syntax::place_of_query(self.query)))
            .hint("write GROUP BY window_start, window_end, …")
    }

    /// OVER stays within a window if it is partitioned by it.
    fn check_over(&self, shape: &Shape, exprs: &[Expr], schema: &DFSchema) -> Result<()> {
        for expr in exprs {
            let Some(function) = window_function(expr) else { continue };
            let name = function.fun.name().to_lowercase();
            let place = syntax::place_of_function(self.query, |it| {
                it.over.is_some() && it.name.to_string().to_lowercase() == name
            });
            match shape.unit {
                Unit::Ever => {}
                Unit::None => {
                    return Err(Error::invalid(format!("{name}() OVER would wait for rows for ever"))
                        .at(place)
                        .hint(
                            "window the stream first: FROM TUMBLE(…), and OVER (PARTITION BY window_start …)",
                        ));
                }
                Unit::Session { keys, .. } => {
                    let by = function.params.partition_by.iter();
                    let mut by: Vec<_> = by.map(|key| shape.meaning(key, schema)).collect();
                    // Of one key, a start tells the session.
                    if by.iter().any(|it| it.is_bound()) {
                        by.extend([Meaning::Start, Meaning::End]);
                    }
                    self.check_session(&by, keys, place)?;
                }
                Unit::Window(_) => {
                    let by = &function.params.partition_by;
                    if !by.iter().any(|key| shape.meaning(key, schema).is_bound()) {
                        return Err(Error::invalid(format!("{name}() OVER would reach across windows"))
                            .at(place)
                            .hint("write OVER (PARTITION BY window_start …)"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn length_of(window: Window) -> WindowLength {
    WindowLength { size: window.size, slide: window.slide }
}

impl Shape {
    pub fn aggregated(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// What each column of the plan is known to be.
    pub fn row_times(&self) -> Vec<Option<RowTime>> {
        let time = |meaning: &Meaning| match meaning {
            Meaning::Start => Some(RowTime::Start),
            Meaning::End => Some(RowTime::End),
            Meaning::Last => Some(RowTime::Last),
            Meaning::EventTime | Meaning::Final(_) | Meaning::Key(_) | Meaning::Other => None,
        };
        self.columns.iter().map(time).collect()
    }

    /// Of rows that are kept as they are: where their window's bounds are among the columns.
    pub fn bounds(&self) -> BoundKeys {
        let find = |wanted| self.columns.iter().position(|it| *it == wanted);
        BoundKeys { start: find(Meaning::Start), end: find(Meaning::End), keys: self.session_keys() }
    }

    fn session_keys(&self) -> Vec<usize> {
        let Unit::Session { keys, .. } = self.unit else { return vec![] };
        let find = |wanted| self.columns.iter().position(|it| *it == Meaning::Key(wanted));
        (0..keys).filter_map(find).collect()
    }

    fn meaning(&self, expr: &Expr, schema: &DFSchema) -> Meaning {
        column_of(expr)
            .and_then(|column| schema.maybe_index_of_column(column))
            .map_or(Meaning::Other, |index| self.columns[index])
    }

    fn mentions_bound(&self, expr: &Expr, schema: &DFSchema) -> bool {
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
        self.input = None;
    }

    fn beside(self, right: Shape, join: JoinType) -> Shape {
        let columns = match join {
            JoinType::LeftSemi | JoinType::LeftAnti => self.columns,
            JoinType::RightSemi | JoinType::RightAnti => right.columns,
            JoinType::LeftMark => [self.columns, vec![Meaning::Other]].concat(),
            JoinType::RightMark => [right.columns, vec![Meaning::Other]].concat(),
            // A bound is NULL where its side has no row.
            JoinType::Left => [self.columns, other(right.columns)].concat(),
            JoinType::Right => [other(self.columns), right.columns].concat(),
            JoinType::Full => [other(self.columns), other(right.columns)].concat(),
            JoinType::Inner => [self.columns, right.columns].concat(),
        };
        Shape {
            stage: Stage::Finished,
            unit: self.unit,
            looks_at_window: self.looks_at_window || right.looks_at_window,
            keys: BoundKeys::default(),
            input: None,
            columns,
        }
    }

    /// The columns are those of an aggregate now; of the first one, the bounds are remembered.
    fn aggregate_by_columns(&mut self, in_each_set: &[Meaning]) {
        if self.stage == Stage::Rows {
            let find = |wanted| {
                let position = self.columns.iter().position(|it| *it == wanted);
                position.filter(|_| in_each_set.contains(&wanted))
            };
            self.keys =
                BoundKeys { start: find(Meaning::Start), end: find(Meaning::End), keys: self.session_keys() };
            let bounds = self.columns.iter().filter(|it| it.tells_window()).count();
            let kept = self.keys.start.iter().chain(&self.keys.end).count();
            self.looks_at_window |= bounds > kept;
        }
        self.stage = Stage::Finished;
        self.input = None;
    }

    fn note_use<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>, schema: &DFSchema) {
        let looked = exprs.into_iter().any(|expr| self.mentions_bound(expr, schema));
        if looked && self.stage == Stage::Rows {
            self.looks_at_window = true;
        }
    }
}

fn other(columns: Vec<Meaning>) -> Vec<Meaning> {
    vec![Meaning::Other; columns.len()]
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
