//! Reads `TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(t), INTERVAL '1' MINUTE))`, the same with named arguments, and the
//! short form `TUMBLE(clicks, t, INTERVAL '1 minute')`; HOP takes its slide before its size and CUMULATE its step, as Flink
//! does, and SESSION the keys behind its table: `SESSION(clicks PARTITION BY user_id, t, INTERVAL '30 minutes')`. Behind the
//! size an offset may follow, and behind that of TUMBLE a time zone, whose days and months these are.

use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::common::{Result as PlannerResult, not_impl_err};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, SetExpr, Spanned,
    TableAlias, TableFactor, Value,
};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{Calendar, CalendarLength, Layout};

use super::node::WindowNode;
use crate::error::{Error, Position, Result};
use crate::parse::{Length, interval, interval_micros};

const DAY: Micros = 86_400_000_000;
/// More would overflow nothing, and be nothing but a mistake.
const DAYS_MAX: i64 = 3_720;

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
            Kind::Tumble | Kind::Hop | Kind::Cumulate => None,
        };
        let node = WindowNode::try_new(input, time, call.layout()?, session, self.with_last, call.position)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl Kind {
    fn of(name: &ObjectName) -> Option<Kind> {
        match name.to_string().to_lowercase().as_str() {
            "tumble" => Some(Kind::Tumble),
            "hop" => Some(Kind::Hop),
            "cumulate" => Some(Kind::Cumulate),
            "session" => Some(Kind::Session),
            _ => None,
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Kind::Tumble => "TUMBLE(clicks, event_ts, INTERVAL '1 minute')",
            Kind::Hop => {
                "HOP(clicks, event_ts, INTERVAL '1 minute', INTERVAL '5 minutes'), the slide before the size"
            }
            Kind::Cumulate => {
                "CUMULATE(clicks, event_ts, INTERVAL '1 hour', INTERVAL '1 day'), the step before the size"
            }
            Kind::Session => "SESSION(clicks PARTITION BY user_id, event_ts, INTERVAL '30 minutes')",
        }
    }

    /// The names of the arguments in their order.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Kind::Tumble => &["data", "timecol", "size"],
            Kind::Hop => &["data", "timecol", "slide", "size"],
            Kind::Cumulate => &["data", "timecol", "step", "size"],
            Kind::Session => &["data", "timecol", "gap"],
        }
    }

    /// The names of what may follow.
    fn options(self) -> &'static [&'static str] {
        match self {
            Kind::Tumble => &["offset", "zone"],
            Kind::Hop | Kind::Cumulate => &["offset"],
            Kind::Session => &[],
        }
    }
}

struct Call {
    kind: Kind,
    /// In the order of [`Kind::arguments`].
    arguments: Vec<Expr>,
    /// In the order of [`Kind::options`].
    options: Vec<Option<Expr>>,
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
        let Some(kind) = Kind::of(name) else { return Ok(None) };
        let position = Position::of(name.span().start);
        let (arguments, options) = in_order(kind, arguments)
            .map_err(|reason| Error::invalid(reason).at(position).hint(format!("write {}", kind.usage())))?;
        Ok(Some(Call { kind, arguments, options, alias: alias.clone(), position }))
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
        if self.kind != Kind::Session
            && let Some(key) = keys.first()
        {
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

    fn layout(&self) -> Result<Layout> {
        if let Some(calendar) = self.calendar()? {
            return Ok(Layout::Calendar(calendar));
        }
        let lengths = self.arguments[2..].iter().map(interval_micros).collect::<Result<Vec<Micros>>>();
        let lengths = lengths.map_err(|error| error.at(self.position))?;
        let (slide, size) = (lengths[0], lengths[lengths.len() - 1]);
        if slide <= 0 || size <= 0 {
            return self.refuse("a window has a length above zero", self.kind.usage());
        }
        if slide > size && self.kind == Kind::Hop {
            return self.refuse(
                "the slide is longer than the size, so rows between windows would be lost",
                "HOP takes the slide first, then the size",
            );
        }
        let offset = self.options.first().and_then(Option::as_ref).map(interval_micros);
        let offset = offset.transpose().map_err(|error| error.at(self.position))?.unwrap_or(0);
        if self.kind == Kind::Cumulate {
            if size % slide != 0 {
                return self.refuse(
                    "the size is not a whole number of steps",
                    "CUMULATE takes the step first, then the size",
                );
            }
            return Ok(Layout::Cumulate { size, step: slide, offset: offset.rem_euclid(size) });
        }
        Ok(Layout::Hop { size, slide, offset: offset.rem_euclid(slide) })
    }

    /// Where the length is months, or a time zone is given.
    fn calendar(&self) -> Result<Option<Calendar>> {
        if self.kind != Kind::Tumble {
            return Ok(None);
        }
        let zone = match self.options.get(1).and_then(Option::as_ref) {
            Some(zone) => Some(self.zone(zone)?),
            None => None,
        };
        let length = match (interval(&self.arguments[2]).map_err(|error| error.at(self.position))?, zone) {
            (Length::Months(months), _) if months > 0 => CalendarLength::Months(months),
            (Length::Fixed(micros), Some(_)) if micros > 0 && micros % DAY == 0 => {
                CalendarLength::Days((micros / DAY) as i32)
            }
            (_, Some(_)) => {
                return self.refuse(
                    "only days and months are those of a time zone",
                    "hours and less are the same everywhere: leave the zone out, or give an offset",
                );
            }
            (_, None) => return Ok(None),
        };
        if length.days_at_most() > DAYS_MAX {
            return self.refuse("a window of a calendar is ten years long at most", "take a shorter one");
        }
        if self.options[0].is_some() {
            return self.refuse(
                "windows of a calendar have no offset",
                "leave it out; days and months begin at midnight of the zone, weeks on Monday",
            );
        }
        Ok(Some(Calendar { length, zone: zone.unwrap_or(Tz::UTC) }))
    }

    fn zone(&self, name: &Expr) -> Result<Tz> {
        let text = match name {
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) => text.as_str(),
                _ => return self.refuse("a time zone is a text", self.kind.usage()),
            },
            _ => return self.refuse("a time zone is a text", self.kind.usage()),
        };
        let unknown = || {
            Error::invalid(format!("there is no time zone '{text}'"))
                .at(Position::of(name.span().start).or(self.position))
                .hint("write its name of the IANA database, such as 'Europe/Berlin'")
        };
        text.parse().map_err(|_| unknown())
    }

    fn refuse<T>(&self, reason: &str, hint: &str) -> Result<T> {
        Err(Error::invalid(reason).at(self.position).hint(hint))
    }
}

type Arguments = (Vec<Expr>, Vec<Option<Expr>>);

fn in_order(kind: Kind, given: &[FunctionArg]) -> Result<Arguments, String> {
    let needed = kind.arguments().len();
    let names = [kind.arguments(), kind.options()].concat();
    let mut slots: Vec<Option<Expr>> = vec![None; names.len()];
    for (position, argument) in given.iter().enumerate() {
        let (slot, value) = match argument {
            // A text in place of the offset is the zone.
            FunctionArg::Unnamed(value) => {
                (position + usize::from(position == needed && is_text(value)), value)
            }
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
        let slot = slots.get_mut(slot).ok_or_else(|| format!("{kind:?} has {needed} arguments"))?;
        if slot.replace(value.clone()).is_some() {
            return Err(format!("{argument} is given twice"));
        }
    }
    let options = slots.split_off(needed);
    match slots.iter().position(Option::is_none) {
        Some(slot) => Err(format!("{kind:?} lacks its {}", names[slot])),
        None => Ok((slots.into_iter().flatten().collect(), options)),
    }
}

fn is_text(argument: &FunctionArgExpr) -> bool {
    matches!(argument, FunctionArgExpr::Expr(Expr::Value(value)) if matches!(value.value, Value::SingleQuotedString(_)))
}
