//! Why a plan could not run over some rows.

use std::any::Any;
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;

use crate::error::{panic_text, root_text};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub reason: String,
    /// Values cause errors of this kind; another tells of the plan, or of a function.
    pub of_a_value: bool,
}

impl Fault {
    pub fn of_expression(error: &DataFusionError) -> Fault {
        let of_a_value = match error.find_root() {
            DataFusionError::Execution(_) => true,
            DataFusionError::ArrowError(error, _) => matches!(
                error.as_ref(),
                ArrowError::CastError(_)
                    | ArrowError::ParseError(_)
                    | ArrowError::ComputeError(_)
                    | ArrowError::InvalidArgumentError(_)
                    | ArrowError::DivideByZero
                    | ArrowError::ArithmeticOverflow(_)
            ),
            _ => false,
        };
        Fault { reason: format!("an expression fails: {}", root_text(error)), of_a_value }
    }

    /// Says which expression it was, where the error does not: behind the first line, for a hint may follow.
    pub fn at(self, expression: &Arc<dyn PhysicalExpr>) -> Fault {
        let text = fmt_sql(expression.as_ref()).to_string();
        let (told, rest) = self.reason.split_once('\n').unwrap_or((&self.reason, ""));
        if told.contains(", in ") || told.contains(&text) {
            return self;
        }
        let rest = if rest.is_empty() { String::new() } else { format!("\n{rest}") };
        Fault { reason: format!("{told}, in {text}{rest}"), ..self }
    }

    /// Some functions panic over a value instead of refusing it.
    pub fn of_panic(panic: &(dyn Any + Send)) -> Fault {
        Fault { reason: format!("a function panicked: {}", panic_text(panic)), of_a_value: false }
    }

    pub fn of_row(reason: &str) -> Fault {
        Fault { reason: reason.into(), of_a_value: true }
    }
}
