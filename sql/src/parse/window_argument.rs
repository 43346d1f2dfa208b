//! The short form `TUMBLE(clicks, …)` gives the stream as a bare name, where an expression stands. Such a name is made
//! the subquery `(SELECT * FROM clicks)`, as `TABLE clicks` is, so that names are resolved in both forms alike.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SetExpr, Spanned,
    TableFactor, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::dialect::select_all;
use super::walk::walk_mut;

/// The window functions that we plan.
pub(crate) const WINDOW_FUNCTIONS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

pub(super) fn resolve_names(query: &mut Query) -> Result<(), ParserError> {
    match walk_mut(query, &mut BareNames) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct BareNames;

impl VisitorMut for BareNames {
    type Break = ParserError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<ParserError> {
        let Some(arguments) = window_arguments_mut(factor) else { return ControlFlow::Continue(()) };
        let relation = arguments.iter_mut().enumerate().find_map(|(position, argument)| match argument {
            FunctionArg::Named { name, arg, .. } if name.value.eq_ignore_ascii_case("data") => Some(arg),
            FunctionArg::Unnamed(arg) if position == 0 => Some(arg),
            _ => None,
        });
        if let Some(FunctionArgExpr::Expr(expr)) = relation
            && let Err(error) = name_to_subquery(expr)
        {
            return ControlFlow::Break(error);
        }
        ControlFlow::Continue(())
    }
}

/// Where the keys stand that a window's table is partitioned by.
pub(crate) fn partition_keys(factor: &TableFactor) -> Vec<Span> {
    let arguments = match factor {
        TableFactor::Table { name, args: Some(args), .. } if is_window_function(&name.to_string()) => {
            &args.args
        }
        TableFactor::TableFunction { expr: Expr::Function(function), .. } => match &function.args {
            FunctionArguments::List(list) if is_window_function(&function.name.to_string()) => &list.args,
            _ => return vec![],
        },
        _ => return vec![],
    };
    let table = arguments.iter().filter_map(|argument| match argument {
        FunctionArg::Named { arg: FunctionArgExpr::Expr(Expr::Subquery(query)), .. }
        | FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query))) => Some(query.body.as_ref()),
        _ => None,
    });
    let keys = table.flat_map(|body| match body {
        SetExpr::Select(select) => &select.distribute_by[..],
        _ => &[],
    });
    keys.map(Spanned::span).collect()
}

fn is_window_function(name: &str) -> bool {
    WINDOW_FUNCTIONS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn window_arguments_mut(factor: &mut TableFactor) -> Option<&mut Vec<FunctionArg>> {
    match factor {
        TableFactor::Table { name, args: Some(args), .. } if is_window_function(&name.to_string()) => {
            Some(&mut args.args)
        }
        TableFactor::TableFunction { expr: Expr::Function(function), .. } => arguments_of(function),
        _ => None,
    }
}

fn arguments_of(function: &mut Function) -> Option<&mut Vec<FunctionArg>> {
    match &mut function.args {
        FunctionArguments::List(list) if is_window_function(&function.name.to_string()) => {
            Some(&mut list.args)
        }
        _ => None,
    }
}

pub(super) fn name_to_subquery(expr: &mut Expr) -> Result<(), ParserError> {
    let parts = match expr {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(idents) => idents.as_slice(),
        _ => return Ok(()),
    };
    let Some(first) = parts.first() else { return Ok(()) };
    let span = first.span;
    let mut name = vec![];
    for part in parts {
        if !name.is_empty() {
            name.push(TokenWithSpan { token: Token::Period, span: part.span });
        }
        name.push(word(part));
    }
    *expr = Expr::Subquery(Box::new(select_all(name, span)?));
    Ok(())
}

fn word(ident: &Ident) -> TokenWithSpan {
    let word =
        Word { value: ident.value.clone(), quote_style: ident.quote_style, keyword: Keyword::NoKeyword };
    TokenWithSpan { token: Token::Word(word), span: ident.span }
}
