//! Reads `TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(t), INTERVAL '1' MINUTE))`, the same with named arguments, and the
//! short form `TUMBLE(clicks, t, INTERVAL '1 minute')`; HOP takes its slide before its size, as Flink does, and SESSION the
//! keys behind its table: `SESSION(clicks PARTITION BY user_id, t, INTERVAL '30 minutes')`.

use std::sync::Arc;

use datafusion::common::{Result as PlannerResult, not_impl_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, SetExpr, Spanned,
    TableAlias, TableFactor,
};
use thalweg_engine::ids::Micros;

use super::node::{WindowLength, WindowNode};
use crate::error::{Error, Position, Result};
use crate::parse::interval_micros;

#[derive(Debug)]
pub(crate) struct WindowFunctions {
    /// Whether windows have a column `window_time`: where the query names it, so that `*` is what it always was.
    pub with_last: bool,
}

impl RelationPlanner for WindowFunctions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<RelationPlanning> {
        let Some(call) = Call::of(&relation)? else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let (relation, keys) = call.relation()?;
        let input = context.plan(relation)?;
        let time = context.sql_to_expr(call.time()?, input.schema())?;
        let session = match call.kind {
            Kind::Session => {
                let keys = keys.into_iter().map(|key| context.sql_to_expr(key, input.schema()));
                Some(keys.collect::<PlannerResult<Vec<_>>>()?)
            }
            Kind::Tumble | Kind::Hop => None,
        };
        let node = WindowNode::try_new(input, time, call.length()?, session, self.with_last, call.position)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Session,
}

impl Kind {
    fn of(name: &ObjectName) -> Result<Option<Kind>> {
        match name.to_string().to_lowercase().as_str() {
            "tumble" => Ok(Some(Kind::Tumble)),
            "hop" => Ok(Some(Kind::Hop)),
            "session" => Ok(Some(Kind::Session)),
            "cumulate" => Err(Error::invalid(format!("{name} windows are not supported"))
                .at(Position::of(name.span().start))
                .hint("windows are TUMBLE, HOP and SESSION")),
            _ => Ok(None),
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Kind::Tumble => "TUMBLE(clicks, event_ts, INTERVAL '1 minute')",
            Kind::Hop => {
                "HOP(clicks, event_ts, INTERVAL '1 minute', INTERVAL '5 minutes'), the slide before the size"
            }
            Kind::Session => "SESSION(clicks PARTITION BY user_id, event_ts, INTERVAL '30 minutes')",
        }
    }

    /// The names of the arguments in their order.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Kind::Tumble => &["data", "timecol", "size"],
            Kind::Hop => &["data", "timecol", "slide", "size"],
            Kind::Session => &["data", "timecol", "gap"],
        }
    }
}

struct Call {
    kind: Kind,
    /// In the order of [`Kind::arguments`].
    arguments: Vec<Expr>,
    alias: Option<TableAlias>,
    position: Option<Position>,
}

impl Call {
    fn of(relation: &TableFactor) -> Result<Option<Call>> {
        let (name, arguments, alias) = match relation {
            TableFactor::Table { name, args: Some(arguments), alias, .. } => (name, &arguments.args, alias),
            TableFactor::TableFunction {
                expr: Expr::Function(Function { name, args: FunctionArguments::List(list), .. }),
                alias,
            } => (name, &list.args, alias),
            _ => return Ok(None),
        };
        let Some(kind) = Kind::of(name)? else { return Ok(None) };
        let position = Position::of(name.span().start);
        let arguments = in_order(kind, arguments)
            .map_err(|reason| Error::invalid(reason).at(position).hint(format!("write {}", kind.usage())))?;
        Ok(Some(Call { kind, arguments, alias: alias.clone(), position }))
    }

    /// The table, and the keys that it is partitioned by.
    fn relation(&self) -> PlannerResult<(TableFactor, Vec<Expr>)> {
        let Expr::Subquery(query) = &self.arguments[0] else {
            return not_impl_err!("{} is not a stream: write {}", self.arguments[0], self.kind.usage());
        };
        let mut subquery = query.clone();
        let keys = match subquery.body.as_mut() {
            SetExpr::Select(select) => std::mem::take(&mut select.distribute_by),
            _ => vec![],
        };
        if let (Kind::Tumble | Kind::Hop, Some(key)) = (self.kind, keys.first()) {
            return Err(Error::invalid(format!(
                "{:?} takes its table whole, without PARTITION BY",
                self.kind
            ))
            .at(Position::of(key.span().start))
            .hint(format!("write {}, and the key in GROUP BY", self.kind.usage()))
            .into());
        }
        Ok((TableFactor::Derived { lateral: false, subquery, alias: None, sample: None }, keys))
    }

    /// The column of `DESCRIPTOR(t)`, or a bare `t`.
    fn time(&self) -> Result<Expr> {
        let argument = &self.arguments[1];
        let column = match argument {
            Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
                if name.to_string().eq_ignore_ascii_case("descriptor") && list.args.len() == 1 =>
            {
                match &list.args[0] {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => expr,
                    _ => argument,
                }
            }
            other => other,
        };
        match column {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Ok(column.clone()),
            other => Err(Error::invalid(format!("{other} is not the column of an event time"))
                .at(Position::of(other.span().start).or(self.position))
                .hint(format!("write {}", self.kind.usage()))),
        }
    }

    fn length(&self) -> Result<WindowLength> {
        let lengths = self.arguments[2..].iter().map(interval_micros).collect::<Result<Vec<Micros>>>();
        let lengths = lengths.map_err(|error| error.at(self.position))?;
        let (slide, size) = (lengths[0], lengths[lengths.len() - 1]);
        let refuse = |reason: &str, hint: &str| Err(Error::invalid(reason).at(self.position).hint(hint));
        if slide <= 0 || size <= 0 {
            return refuse("a window has a length above zero", self.kind.usage());
        }
        if slide > size {
            return refuse(
                "the slide is longer than the size, so rows between windows would be lost",
                "HOP takes the slide first, then the size",
            );
        }
        Ok(WindowLength { size, slide })
    }
}

fn in_order(kind: Kind, given: &[FunctionArg]) -> Result<Vec<Expr>, String> {
    let names = kind.arguments();
    let mut slots: Vec<Option<Expr>> = vec![None; names.len()];
    for (position, argument) in given.iter().enumerate() {
        let (slot, value) = match argument {
            FunctionArg::Unnamed(value) => (position, value),
            FunctionArg::Named { name, arg, .. } => {
                let slot = names.iter().position(|known| name.value.eq_ignore_ascii_case(known));
                (
                    slot.ok_or_else(|| {
                        format!("{kind:?} has no argument {name}; it has {}", names.join(", "))
                    })?,
                    arg,
                )
            }
            FunctionArg::ExprNamed { .. } => return Err(format!("{argument} is not understood")),
        };
        let FunctionArgExpr::Expr(value) = value else { return Err(format!("{value} is not understood")) };
        let slot = slots.get_mut(slot).ok_or_else(|| format!("{kind:?} has {} arguments", names.len()))?;
        if slot.replace(value.clone()).is_some() {
            return Err(format!("{argument} is given twice"));
        }
    }
    let missing = slots.iter().position(Option::is_none).map(|slot| names[slot]);
    match missing {
        Some(name) => Err(format!("{kind:?} lacks its {name}")),
        None => Ok(slots.into_iter().flatten().collect()),
    }
}
