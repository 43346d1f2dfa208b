//! Reads statements: ours (`CREATE STREAM`, `SHOW STREAMS`, …) with the pieces of the same parser that reads queries.
//!
//! Leaves to others: what names mean. Every name and option keeps its place in the text, and every statement its
//! exact text, which is what the manifest remembers.

mod dialect;
mod endpoint;
mod interval;
mod plain_view;
mod sink;
mod source_text;
mod statement;
mod stream;
mod subscribe;
mod table;
mod tokens;
mod walk;
mod window_argument;

pub use dialect::ThalwegDialect;
pub use endpoint::{CreateEndpoint, DropEndpoint, EndpointWork, ParameterDeclaration};
pub(crate) use interval::has_months;
pub use interval::{Length, interval, interval_micros};
pub use plain_view::{CreatePlainView, PlainViews};
pub use sink::{AlterSink, CreateSink, DropSink, Order, Target};
pub use statement::{
    CreateView, Drop, Explain, Explained, Parsed, Relation, Restart, Set, SetWatermark, Shown, Statement,
};
pub use stream::{ColumnDeclaration, CreateStream, Watermark};
pub use subscribe::Subscribe;
pub use table::CreateTable;
pub use tokens::{Name, OptionEntry};
pub(crate) use walk::{walk, walk_mut};
pub(crate) use window_argument::{WINDOW_FUNCTIONS, partition_keys};

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Error, Position, Result};
use source_text::SourceText;

/// The dialect of every statement, for whoever reads SQL without us.
pub fn dialect() -> ThalwegDialect {
    ThalwegDialect
}

/// All statements of a text, separated by semicolons.
pub fn statements(text: &str) -> Result<Vec<Parsed>> {
    let dialect = dialect();
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location()?;
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let source = SourceText::new(text);
    let mut found = vec![];
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        let start = parser.peek_token().span.start;
        if parser.peek_token_ref().token == Token::EOF {
            return Ok(found);
        }
        let mut statement = statement::statement(&mut parser).map_err(|error| error.at(source.end()))?;
        let next = parser.peek_token();
        if !matches!(next.token, Token::SemiColon | Token::EOF) {
            return Err(Error::invalid(format!("expected the end of the statement, found {}", next.token))
                .at(Position::of(next.span.start)));
        }
        let text = source.slice(start, tokens::last_span(&parser).end).to_owned();
        statement.set_text(&text);
        let position = Position { line: start.line, column: start.column };
        found.push(Parsed { statement, text, position });
    }
}

/// The only statement of a text.
pub fn statement(text: &str) -> Result<Parsed> {
    let mut found = statements(text)?;
    match (found.pop(), found.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(Error::invalid("there is no statement in the text")),
        (Some(second), _) => Err(Error::invalid("expected one statement, found more").at(second.position)),
    }
}

#[cfg(test)]
mod tests;
