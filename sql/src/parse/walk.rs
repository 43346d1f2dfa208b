//! Walks through syntax trees. The parser's `visit` is compiled anew for each type of visitor, with the whole tree: a
//! dozen of them took rustc some minutes. These walks are compiled once, and find the visitor through `dyn`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor,
    VisitorMut,
};

macro_rules! walk {
    ($walk:ident, $visit:ident, $visitor:ident, $any:ident, $kept:ident, $through:ident, ($($mutable:ident)?), $($method:ident: $node:ty,)*) => {
        /// Gives what the visitor breaks with.
        pub(crate) fn $walk<B>(
            node: &$($mutable)? impl $visit,
            visitor: &mut impl $visitor<Break = B>,
        ) -> ControlFlow<B> {
            let mut kept = $kept { visitor, broken: None };
            // What it breaks with is kept.
            let _ = node.visit(&mut $through(&mut kept));
            kept.broken.map_or(ControlFlow::Continue(()), ControlFlow::Break)
        }

        trait $any {
            $(fn $method(&mut self, node: $node) -> ControlFlow<()>;)*
        }

        struct $kept<'a, V: $visitor> {
            visitor: &'a mut V,
            broken: Option<V::Break>,
        }

        impl<V: $visitor> $any for $kept<'_, V> {
            $(fn $method(&mut self, node: $node) -> ControlFlow<()> {
                match self.visitor.$method(node) {
                    ControlFlow::Continue(()) => ControlFlow::Continue(()),
                    ControlFlow::Break(broken) => {
                        self.broken = Some(broken);
                        ControlFlow::Break(())
                    }
                }
            })*
        }

        struct $through<'a>(&'a mut dyn $any);

        impl $visitor for $through<'_> {
            type Break = ();
            $(fn $method(&mut self, node: $node) -> ControlFlow<()> {
                self.0.$method(node)
            })*
        }
    };
}

walk!(
    walk, Visit, Visitor, Any, Kept, Through, (),
    pre_visit_query: &Query,
    post_visit_query: &Query,
    pre_visit_select: &Select,
    post_visit_select: &Select,
    pre_visit_relation: &ObjectName,
    post_visit_relation: &ObjectName,
    pre_visit_table_factor: &TableFactor,
    post_visit_table_factor: &TableFactor,
    pre_visit_expr: &Expr,
    post_visit_expr: &Expr,
    pre_visit_statement: &Statement,
    post_visit_statement: &Statement,
    pre_visit_value: &ValueWithSpan,
    post_visit_value: &ValueWithSpan,
);

walk!(
    walk_mut, VisitMut, VisitorMut, AnyMut, KeptMut, ThroughMut, (mut),
    pre_visit_query: &mut Query,
    post_visit_query: &mut Query,
    pre_visit_select: &mut Select,
    post_visit_select: &mut Select,
    pre_visit_relation: &mut ObjectName,
    post_visit_relation: &mut ObjectName,
    pre_visit_table_factor: &mut TableFactor,
    post_visit_table_factor: &mut TableFactor,
    pre_visit_expr: &mut Expr,
    post_visit_expr: &mut Expr,
    pre_visit_statement: &mut Statement,
    post_visit_statement: &mut Statement,
    pre_visit_value: &mut ValueWithSpan,
    post_visit_value: &mut ValueWithSpan,
);
