//! How far apart the rows of a pair are, by what a join says of their times.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, Operator};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::LAST_INSTANT;

use super::around::length;
use super::{Meaning, Shape, Unit};

/// A column of time, moved: by how much is known but for the lengths of months.
#[derive(Debug, Clone, Copy)]
struct Moved {
    column: usize,
    least: Micros,
    most: Micros,
}

/// How far apart the times of a pair are: `right - left`.
pub(super) struct Apart {
    pub left: usize,
    pub right: usize,
    least: Micros,
    most: Micros,
}

impl Apart {
    pub fn of(join: &Join, left: &Shape, right: &Shape) -> Option<Apart> {
        let on = join.on.iter().map(|(a, b)| (a, Operator::Eq, b));
        let mut compared: Vec<(&Expr, Operator, &Expr)> = on.collect();
        for condition in join.filter.iter().flat_map(split_conjunction) {
            match condition {
                // No time is NULL.
                Expr::BinaryExpr(it) if it.op == Operator::IsNotDistinctFrom => {
                    compared.push((&it.left, Operator::Eq, &it.right));
                }
                Expr::BinaryExpr(it) => compared.push((&it.left, it.op, &it.right)),
                Expr::Between(it) if !it.negated => {
                    compared.push((&it.expr, Operator::GtEq, &it.low));
                    compared.push((&it.expr, Operator::LtEq, &it.high));
                }
                _ => {}
            }
        }
        let of_left = |expr: &Expr| moved(expr, join.left.schema().as_ref(), left);
        let of_right = |expr: &Expr| moved(expr, join.right.schema().as_ref(), right);
        let mut found: Option<(usize, usize, Option<Micros>, Option<Micros>)> = None;
        for (a, operator, b) in compared {
            let (l, operator, r) = match (of_left(a), of_right(b), of_left(b), of_right(a)) {
                (Some(l), Some(r), ..) => (l, operator, r),
                (_, _, Some(l), Some(r)) => match operator.swap() {
                    Some(swapped) => (l, swapped, r),
                    None => continue,
                },
                _ => continue,
            };
            // left + l <= right + r, so right - left >= l - r.
            let least = matches!(operator, Operator::Eq | Operator::Lt | Operator::LtEq)
                .then(|| l.least.saturating_sub(r.most));
            let most = matches!(operator, Operator::Eq | Operator::Gt | Operator::GtEq)
                .then(|| l.most.saturating_sub(r.least));
            let known = found.get_or_insert((l.column, r.column, None, None));
            let (Some(l), Some(r)) = (left.behind(l.column, known.0), right.behind(r.column, known.1)) else {
                continue;
            };
            let least = least.map(|apart| apart.saturating_add(l.0).saturating_sub(r.1));
            let most = most.map(|apart| apart.saturating_add(l.1).saturating_sub(r.0));
            known.2 = known.2.max(least);
            known.3 = match (known.3, most) {
                (Some(known), Some(most)) => Some(known.min(most)),
                (known, most) => known.or(most),
            };
        }
        match found {
            Some((left, right, Some(least), Some(most))) if least <= most => {
                Some(Apart { left, right, least, most })
            }
            _ => None,
        }
    }

    /// Of sides whose windows are the units, between the starts of these.
    pub fn between_starts(&self, left: &Shape, right: &Shape, unit: Unit) -> (Micros, Micros) {
        let less = |side: &Shape, column: usize| match (side.time_in(unit, column), side.grid()) {
            (None, Some(grid)) => match side.columns[column] {
                Meaning::End => grid.longest(),
                Meaning::Last => grid.longest() - LAST_INSTANT,
                _ => 0,
            },
            _ => 0,
        };
        let moved = less(left, self.left) - less(right, self.right);
        (self.least.saturating_add(moved), self.most.saturating_add(moved))
    }
}

/// A column of time, and what is added to it.
fn moved(expr: &Expr, schema: &DFSchema, shape: &Shape) -> Option<Moved> {
    match expr {
        Expr::Column(column) => {
            let column = schema.maybe_index_of_column(column)?;
            shape.is_time(column).then_some(Moved { column, least: 0, most: 0 })
        }
        Expr::Alias(alias) => moved(&alias.expr, schema, shape),
        // One to days, or to seconds, is another moment.
        Expr::Cast(cast)
            if matches!(
                cast.field.data_type(),
                DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
            ) =>
        {
            moved(&cast.expr, schema, shape)
        }
        Expr::BinaryExpr(it) => {
            let (inner, by, sign) = match it.op {
                Operator::Plus => match literal(&it.right) {
                    Some(by) => (&it.left, by, 1),
                    None => (&it.right, literal(&it.left)?, 1),
                },
                Operator::Minus => (&it.left, literal(&it.right)?, -1),
                _ => return None,
            };
            let inner = moved(inner, schema, shape)?;
            let (least, most) = if sign == 1 { by } else { (-by.1, -by.0) };
            let (least, most) = (inner.least.saturating_add(least), inner.most.saturating_add(most));
            Some(Moved { least, most, ..inner })
        }
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<(Micros, Micros)> {
    match expr {
        Expr::Literal(value, _) => length(value),
        Expr::Alias(alias) => literal(&alias.expr),
        Expr::Cast(cast) => literal(&cast.expr),
        Expr::Negative(inner) => literal(inner).map(|(least, most)| (-most, -least)),
        _ => None,
    }
}
