//! Steps where rows of several inputs meet: joins and unions. What a join makes is of one window.

use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, JoinType, Operator, Union};

use thalweg_engine::spec::RowTime;

use super::around::widest;
use super::{BoundKeys, Checker, Meaning, Shape, Sides, Stage, Unit, all_of, unbound};
use crate::error::{Error, Result};
use crate::plan::view::syntax;

/// More than there are bits tell nothing.
const SIDES_MAX: usize = Sides::BITS as usize - 1;

impl Checker<'_> {
    /// Each pair that a join makes is of one window.
    pub(super) fn joined(&self, join: &Join) -> Result<Shape> {
        if let Some(around) = self.around(join)? {
            return self.joined_around(join, around);
        }
        let (mut left, mut right) = (self.shape(&join.left)?, self.shape(&join.right)?);
        let place = syntax::place_of_join(self.query);
        let (Unit::Window(of_left), Unit::Window(of_right)) = (left.unit, right.unit) else {
            if left.unit == Unit::Ever && right.unit == Unit::Ever {
                return Ok(left.beside(right, join.join_type));
            }
            return Err(unbound::refusal(join, &left, &right).at(place));
        };
        if of_left != of_right {
            return Err(Error::invalid("both sides of a join have the same windows").at(place).hint(
                "take the same size, and for HOP the same slide; or say how far apart their bounds are",
            ));
        }
        if !left.has_equal_bound(&right, join) {
            return Err(Error::invalid("the join would reach across windows").at(place).hint(
                "have it compare a bound too: ON a.window_start = b.window_start AND …, or = b.window_start - INTERVAL …",
            ));
        }
        left.finish_rows();
        right.finish_rows();
        Ok(left.beside(right, join.join_type))
    }

    pub(super) fn united(&self, union: &Union) -> Result<Shape> {
        let mut shapes = union.inputs.iter().map(|input| self.shape(input));
        let mut shape = shapes.next().ok_or_else(|| Error::internal("a union of nothing"))??;
        for other in shapes {
            let mut other = other?;
            let place = syntax::place_of_query(self.query);
            // Cut together, they would be sessions of what all of them did.
            let raw = shape.stage == Stage::Rows && other.stage == Stage::Rows;
            if matches!(shape.unit, Unit::Session { .. }) && raw {
                return Err(Error::invalid("each part of a UNION ALL would have sessions of its own")
                    .at(place)
                    .hint("lay them over the whole: WITH w AS (SELECT … UNION ALL SELECT …) SELECT … FROM SESSION(w PARTITION BY …); or group each part"));
            }
            if shape.unit != other.unit {
                return Err(Error::invalid("the parts of a UNION ALL have the same windows, or none")
                    .at(place)
                    .hint("write the same TUMBLE or HOP in each part"));
            }
            if shape.stage != other.stage {
                shape.finish_rows();
                other.finish_rows();
            }
            shape.inputs.append(&mut other.inputs);
            if shape.sides != other.sides {
                (shape.columns, other.columns) = (whole(shape.columns), whole(other.columns));
            }
            shape.looks_at_window |= other.looks_at_window;
            shape.reach = widest(shape.reach, other.reach);
            for (own, others) in shape.columns.iter_mut().zip(&other.columns) {
                *own = match (*own, *others) {
                    (own, others) if own == others => own,
                    // Of sessions, and of what looks around, it is when they were final.
                    (
                        Meaning::Final(RowTime::End | RowTime::Own),
                        Meaning::Final(RowTime::End | RowTime::Own),
                    ) => Meaning::Final(RowTime::Own),
                    _ => Meaning::Other,
                };
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
}

impl Shape {
    /// Whether the join has the sides be of one and the same window.
    pub(super) fn has_equal_bound(&self, right: &Shape, join: &Join) -> bool {
        let same_bound = |(a, b): (&Expr, &Expr)| {
            let (a, b) = (self.meaning(a, join.left.schema()), right.meaning(b, join.right.schema()));
            a == b && a.is_bound()
        };
        let in_filter = |filter: &Expr| {
            split_conjunction(filter).into_iter().any(|each| match each {
                // No bound is NULL.
                Expr::BinaryExpr(it) if matches!(it.op, Operator::Eq | Operator::IsNotDistinctFrom) => {
                    same_bound((&it.left, &it.right)) || same_bound((&it.right, &it.left))
                }
                _ => false,
            })
        };
        matches!((self.unit, right.unit), (Unit::Window(a), Unit::Window(b)) if a == b)
            && (join.on.iter().any(|(a, b)| same_bound((a, b)))
                || join.filter.as_ref().is_some_and(in_filter))
    }

    pub(super) fn beside(self, right: Shape, join: JoinType) -> Shape {
        // One that no FULL join made is one side itself.
        let (of_left, of_right) = (self.sides.max(1), right.sides.max(1));
        let sides = match join {
            JoinType::Full => of_left + of_right,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right.sides,
            _ => self.sides,
        };
        let columns = match join {
            JoinType::LeftSemi | JoinType::LeftAnti => self.columns,
            JoinType::RightSemi | JoinType::RightAnti => right.columns,
            JoinType::LeftMark => [self.columns, vec![Meaning::Other]].concat(),
            JoinType::RightMark => [right.columns, vec![Meaning::Other]].concat(),
            // A bound is NULL where its side has no row.
            JoinType::Left => [self.columns, other(right.columns)].concat(),
            JoinType::Right => [other(self.columns), right.columns].concat(),
            JoinType::Full if sides > SIDES_MAX => [other(self.columns), other(right.columns)].concat(),
            JoinType::Full => {
                [of_sides(self.columns, 0, of_left), of_sides(right.columns, of_left, of_right)].concat()
            }
            JoinType::Inner => [self.columns, whole(right.columns)].concat(),
        };
        Shape {
            stage: Stage::Finished,
            unit: self.unit,
            looks_at_window: self.looks_at_window || right.looks_at_window,
            reach: widest(self.reach, right.reach),
            keys: BoundKeys::default(),
            sides,
            inputs: vec![],
            columns,
        }
    }
}

/// What columns tell beside those of a FULL join, whose sides are so many from the first on.
fn of_sides(columns: Vec<Meaning>, first: usize, sides: usize) -> Vec<Meaning> {
    let all = all_of(sides) << first;
    let of_sides = |meaning| match meaning {
        Meaning::Start => Meaning::OfSides(RowTime::Start, all),
        Meaning::End => Meaning::OfSides(RowTime::End, all),
        Meaning::Last => Meaning::OfSides(RowTime::Last, all),
        Meaning::OfSides(time, some) => Meaning::OfSides(time, some << first),
        _ => Meaning::Other,
    };
    columns.into_iter().map(of_sides).collect()
}

/// Without what was of some sides of its own.
fn whole(columns: Vec<Meaning>) -> Vec<Meaning> {
    let whole = |meaning| if matches!(meaning, Meaning::OfSides(..)) { Meaning::Other } else { meaning };
    columns.into_iter().map(whole).collect()
}

fn other(columns: Vec<Meaning>) -> Vec<Meaning> {
    vec![Meaning::Other; columns.len()]
}
