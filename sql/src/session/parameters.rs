//! Bind parameters: `$1`, `$2`, … or `?` in the order of the text.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Query, Value, ValueWithSpan, VisitorMut};

use crate::parse::walk_mut;
use crate::plan::type_text;
use crate::{Error, Position, Result};

/// More than a statement of 64 KiB has use for; `$999999999` must not make a list of that length.
const PARAMETERS_MAX: usize = 1000;

/// Numbers each `?`, and says how many parameters there are.
pub(crate) fn number(query: &mut Query) -> Result<usize> {
    let mut numbering = Numbering::default();
    match walk_mut(query, &mut numbering) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(numbering.highest),
    }
}

/// Numbers the parameters that have names, and gives the names in that order.
pub(crate) fn named(query: &mut Query, given: &[(String, String)]) -> Result<Vec<String>> {
    let mut naming = Naming { given, names: vec![] };
    if let ControlFlow::Break(error) = walk_mut(query, &mut naming) {
        return Err(error);
    }
    match given.iter().find(|(name, _)| !naming.names.contains(name)) {
        None => Ok(naming.names),
        Some((name, _)) => Err(Error::invalid(format!("the statement has no parameter \"{name}\""))
            .hint(format!("it names one as ${name}"))),
    }
}

struct Naming<'a> {
    given: &'a [(String, String)],
    names: Vec<String>,
}

impl VisitorMut for Naming<'_> {
    type Break = Error;

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Error> {
        let position = Position::of(value.span.start);
        let Value::Placeholder(placeholder) = &mut value.value else { return ControlFlow::Continue(()) };
        let name = placeholder.trim_start_matches('$').to_owned();
        if !self.given.iter().any(|(given, _)| *given == name) {
            // Those without names are refused by others, with other words.
            if self.given.is_empty() && !name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            {
                return ControlFlow::Continue(());
            }
            let hint = format!(
                "over HTTP it is given as &{name}=…, in a message of /ws as \"parameters\": {{\"{name}\": …}}; elsewhere \
                 write the value itself"
            );
            return ControlFlow::Break(
                Error::invalid(format!("parameter {placeholder} has no value")).at(position).hint(hint),
            );
        }
        let known = self.names.iter().position(|known| *known == name);
        let number = known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        *placeholder = format!("${}", number + 1);
        ControlFlow::Continue(())
    }
}

/// Values for the named parameters of `schema`, whose types the statement tells.
pub(crate) fn values_of_text(
    schema: &SchemaRef,
    names: &[String],
    given: &[(String, String)],
) -> Result<Vec<ScalarValue>> {
    let value = |(field, name): (&Arc<Field>, &String)| {
        let (_, text) = given
            .iter()
            .find(|(given, _)| given == name)
            .ok_or_else(|| Error::internal(format!("parameter {name} was lost")))?;
        let value = ScalarValue::from(text.as_str());
        match field.data_type() {
            DataType::Null => Ok(value),
            kind => value.cast_to(kind).map_err(|_| {
                Error::invalid(format!("parameter \"{name}\" can't be '{text}'"))
                    .hint(format!("its type is {}", type_text(kind)))
            }),
        }
    };
    schema.fields().iter().zip(names).map(value).collect()
}

#[derive(Default)]
struct Numbering {
    marks: usize,
    numbers: bool,
    highest: usize,
}

impl VisitorMut for Numbering {
    type Break = Error;

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Error> {
        let position = Position::of(value.span.start);
        let Value::Placeholder(name) = &mut value.value else { return ControlFlow::Continue(()) };
        if name == "?" {
            self.marks += 1;
            *name = format!("${}", self.marks);
        } else {
            self.numbers = true;
        }
        if self.numbers && self.marks > 0 {
            return ControlFlow::Break(
                Error::invalid("? and $1 cannot be mixed in one statement").at(position),
            );
        }
        match name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()) {
            Some(number @ 1..=PARAMETERS_MAX) => {
                self.highest = self.highest.max(number);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(
                Error::invalid(format!("{name} is no parameter"))
                    .at(position)
                    .hint(format!("parameters are ?, or $1 to ${PARAMETERS_MAX}")),
            ),
        }
    }
}

/// One field per parameter, in order; of type `Null` where the statement does not say.
pub(crate) fn schema(plan: &LogicalPlan, count: usize) -> Result<SchemaRef> {
    let known = plan.get_parameter_fields()?;
    let fields = (1..=count).map(|number| {
        let name = format!("${number}");
        let kind = known.get(&name).and_then(|field| field.as_ref()).map(|field| field.data_type().clone());
        Field::new(name, kind.unwrap_or(DataType::Null), true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// Values for the parameters of `schema`, cast to their types.
pub(crate) fn values(schema: &SchemaRef, given: &[ScalarValue]) -> Result<ParamValues> {
    let expected = schema.fields().len();
    if given.len() != expected {
        return Err(Error::invalid(format!(
            "the statement has {expected} parameters, and {} values were given",
            given.len()
        )));
    }
    let cast = schema.fields().iter().zip(given).map(|(field, value)| match field.data_type() {
        DataType::Null => Ok(value.clone()),
        kind => value.cast_to(kind).ok().filter(|cast| is_exact(value, cast)).ok_or_else(|| {
            let (name, kind) = (field.name(), type_text(kind));
            Error::invalid(format!("parameter {name} cannot be {value}"))
                .hint(format!("its type is {kind}; where it is to be another, write CAST({name} AS DOUBLE)"))
        }),
    });
    Ok(ParamValues::from(cast.collect::<Result<Vec<_>>>()?))
}

/// A number that comes to an integer or a DECIMAL and is none of it would be another one.
fn is_exact(value: &ScalarValue, cast: &ScalarValue) -> bool {
    let (given, kind) = (value.data_type(), cast.data_type());
    let may_differ = given.is_numeric() && (kind.is_integer() || kind.is_decimal()) && !given.is_integer();
    !may_differ || value.is_null() || cast.cast_to(&given).is_ok_and(|back| back == *value)
}

/// The values of a batch of one row, by position.
pub fn of_batch(batch: &RecordBatch) -> Result<Vec<ScalarValue>> {
    if batch.num_rows() != 1 {
        return Err(Error::invalid(format!("parameters come in one row. rows={}", batch.num_rows())));
    }
    Ok(batch
        .columns()
        .iter()
        .map(|column| ScalarValue::try_from_array(column, 0))
        .collect::<Result<_, _>>()?)
}
