//! Steps that make one row of many, or look at many for one: aggregates, DISTINCT, OVER. Each stays within its unit.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{GroupingSet, WindowFunction};
use datafusion::logical_expr::{Aggregate, DistinctOn, Expr, LogicalPlan};

use super::{BoundKeys, Checker, Meaning, Shape, Stage, Unit, column_of};
use crate::error::{Error, Position, Result};
use crate::plan::view::syntax;

/// What of a window's bounds a key may be.
const BOUNDS: [Meaning; 3] = [Meaning::Start, Meaning::Opening, Meaning::End];

impl Checker<'_> {
    pub(super) fn distinct(&self, input: &LogicalPlan) -> Result<Shape> {
        let mut shape = self.shape(input)?;
        self.check_not_slices(&shape, "SELECT DISTINCT", None)?;
        if let Unit::Session { keys, .. } = shape.unit {
            self.check_session(&shape.columns, keys, None)?;
        } else if !shape.columns.iter().any(|it| it.is_bound()) {
            if !self.may_be_ever(&shape) {
                return Err(self.no_window("SELECT DISTINCT", None));
            }
            shape.unit = Unit::Ever;
        }
        shape.aggregate_by_columns(&BOUNDS);
        Ok(shape)
    }

    pub(super) fn distinct_on(&self, distinct: &DistinctOn) -> Result<Shape> {
        let schema = distinct.input.schema();
        let mut shape = self.shape(&distinct.input)?;
        self.check_not_slices(&shape, "DISTINCT ON", None)?;
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
        // All rows of a group are of its window.
        let of_window = |expr: &Expr| match shape.meaning(expr, schema) {
            bound if bound.is_bound() => bound,
            _ => Meaning::Other,
        };
        shape.columns = distinct.select_expr.iter().map(of_window).collect();
        shape.stage = Stage::Finished;
        shape.inputs.clear();
        Ok(shape)
    }

    /// What looks around is row by row.
    fn check_not_slices(&self, shape: &Shape, what: &str, place: Option<Position>) -> Result<()> {
        if !matches!(shape.unit, Unit::Slice(_)) {
            return Ok(());
        }
        Err(Error::invalid(format!("{what} over rows that look around has no window"))
            .at(place.or_else(|| syntax::place_of_query(self.query)))
            .hint("make the join, or the OVER, a view, and window that view by its event time"))
    }

    /// Without a window, and over a view whose windows are not asked for, an aggregate is over all there ever was.
    fn may_be_ever(&self, shape: &Shape) -> bool {
        match shape.unit {
            Unit::None | Unit::Ever => true,
            Unit::Session { .. } | Unit::Slice(_) => false,
            Unit::Window(_) => shape.has_windows_of_views(),
        }
    }

    pub(super) fn aggregated(&self, aggregate: &Aggregate) -> Result<Shape> {
        let schema = aggregate.input.schema();
        let mut shape = self.shape(&aggregate.input)?;
        self.check_not_slices(&shape, "an aggregate", syntax::place_of_grouping(self.query))?;
        let sets = grouping_sets(&aggregate.group_expr);
        let names = |bound: Meaning| {
            let names_it = |set: &Vec<&Expr>| set.iter().any(|expr| shape.meaning(expr, schema) == bound);
            !sets.is_empty() && sets.iter().all(names_it)
        };
        self.check_order(&aggregate.aggr_expr)?;
        let in_each: Vec<Meaning> = BOUNDS.into_iter().filter(|bound| names(*bound)).collect();
        let derived = sets
            .iter()
            .flatten()
            .find(|expr| column_of(expr).is_none() && shape.mentions_bound(expr, schema));
        if let Unit::Session { keys, .. } = shape.unit {
            for set in &sets {
                let named: Vec<_> = set.iter().map(|key| shape.meaning(key, schema)).collect();
                self.check_session(&named, keys, syntax::place_of_grouping(self.query))?;
            }
        } else if !in_each.iter().any(|it| it.is_bound()) && shape.unit != Unit::Ever {
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
        let keys = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
        let of_key = |column: &Column| match schema.maybe_index_of_column(column) {
            Some(index) if shape.columns[index].stays() => shape.columns[index],
            _ => Meaning::Other,
        };
        let named = aggregate.schema.columns();
        let values = aggregate.aggr_expr.iter().map(|_| Meaning::Other);
        shape.columns = named[..keys].iter().map(of_key).chain(values).collect();
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
    pub(super) fn check_over(
        &self,
        shape: &Shape,
        functions: &[&WindowFunction],
        schema: &DFSchema,
    ) -> Result<()> {
        for function in functions {
            let name = function.fun.name().to_lowercase();
            let place = self.place_of_over(function);
            match shape.unit {
                Unit::Ever => {}
                Unit::Slice(_) => {
                    return Err(Error::invalid(format!(
                        "{name}() OVER does not stand above rows that look around"
                    ))
                    .at(place)
                    .hint("make the join, or the other OVER, a view, and write this OVER over that view"));
                }
                Unit::None => {
                    return Err(Error::invalid(format!("{name}() OVER would wait for rows for ever"))
                        .at(place)
                        .hint(
                            "say how far it looks: OVER (… ORDER BY event_ts RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND \
                             CURRENT ROW), all of them alike; or window the stream first: FROM TUMBLE(…), and OVER \
                             (PARTITION BY window_start …)",
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
                            .hint(
                                "write OVER (PARTITION BY window_start …), or say how far it looks: OVER (… ORDER BY \
                                 window_start RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW)",
                            ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Shape {
    /// The columns are those of an aggregate now; of the first one, the bounds are remembered.
    fn aggregate_by_columns(&mut self, in_each_set: &[Meaning]) {
        if self.stage == Stage::Rows {
            let find = |wanted| {
                let position = self.columns.iter().position(|it| *it == wanted);
                position.filter(|_| in_each_set.contains(&wanted))
            };
            let start = find(Meaning::Start).or_else(|| find(Meaning::Opening));
            self.keys = BoundKeys { start, end: find(Meaning::End), keys: self.session_keys() };
            let bounds = self.columns.iter().filter(|it| it.tells_window()).count();
            let kept = self.keys.start.iter().chain(&self.keys.end).count();
            self.looks_at_window |= bounds > kept;
        }
        self.stage = Stage::Finished;
        self.inputs.clear();
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

/// The function OVER of each expression.
pub(super) fn window_functions(exprs: &[Expr]) -> Vec<&WindowFunction> {
    let mut found = vec![];
    for expr in exprs {
        // The visitor has no errors of its own.
        let _ = expr.apply(|each| {
            if let Expr::WindowFunction(function) = each {
                found.push(function.as_ref());
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }
    found
}
