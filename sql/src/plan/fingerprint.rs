//! What must not change while a view has state: a partial batch is read by position and type, by the same aggregates.

use std::fmt::Write;

use datafusion::physical_plan::displayable;
use thalweg_engine::spec::ViewShape;

use crate::error::{Error, Result};

pub(super) fn fingerprint(shape: &ViewShape) -> Result<String> {
    let mut text = format!("datafusion {}\n", datafusion::DATAFUSION_VERSION);
    match shape {
        ViewShape::Copy { lower } => {
            write(&mut text, format_args!("copy\n{}", displayable(lower.as_ref()).indent(false)))?;
        }
        ViewShape::Windowed { window, cuts, .. } => {
            write(&mut text, format_args!("{window:?}\n"))?;
            for cut in cuts {
                let bounds = (cut.window_start, cut.window_end);
                write(&mut text, format_args!("cut {bounds:?}\n"))?;
                for partial in cut.aggregate.children() {
                    for field in partial.schema().fields() {
                        let null = if field.is_nullable() { " null" } else { "" };
                        write(&mut text, format_args!("{}{null}\n", field.data_type()))?;
                    }
                    write(&mut text, format_args!("{}", displayable(partial.as_ref()).indent(false)))?;
                }
            }
        }
    }
    Ok(text)
}

fn write(text: &mut String, piece: std::fmt::Arguments<'_>) -> Result<()> {
    text.write_fmt(piece).map_err(|_| Error::internal("a plan can't be displayed"))
}
