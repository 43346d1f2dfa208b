//! `EXPLAIN` of a view: both halves of its plan.

use datafusion::physical_plan::displayable;
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{ViewShape, ViewSpec};

pub fn explain(view: &ViewSpec) -> String {
    match &view.shape {
        _ if !view.is_planned() => format!(
            "view {} has no plan: its statement can't be planned any more, and system.views says why",
            view.name
        ),
        ViewShape::Copy { lower } => {
            let lower = displayable(lower.as_ref()).indent(false);
            format!(
                "view {} copies rows of stream {}\n\nper batch:\n{}",
                view.name,
                view.stream,
                indented(&lower.to_string())
            )
        }
        ViewShape::Windowed { window, allowed_lateness, cuts, upper } => {
            let kind = match (window.size == window.slide, window.expanded) {
                (true, _) => format!("TUMBLE of {}", length(window.size)),
                (false, false) => {
                    format!("HOP of {} each {}, by shared panes", length(window.size), length(window.slide))
                }
                (false, true) => {
                    format!("HOP of {} each {}, rows per window", length(window.size), length(window.slide))
                }
            };
            let mut text = format!(
                "view {} over stream {}, {kind}, allowed lateness {}\n",
                view.name,
                view.stream,
                length(*allowed_lateness)
            );
            for (number, cut) in cuts.iter().enumerate() {
                let partials = cut.aggregate.children();
                for partial in partials {
                    let plan = displayable(partial.as_ref()).indent(false).to_string();
                    text.push_str(&format!("\nper batch, cut {number}:\n{}", indented(&plan)));
                }
            }
            text.push_str(&format!(
                "\nwhen a window closes, or somebody reads:\n{}",
                indented(&upper.logical.display_indent().to_string())
            ));
            text
        }
    }
}

fn indented(plan: &str) -> String {
    plan.lines().map(|line| format!("  {line}\n")).collect()
}

fn length(micros: Micros) -> String {
    const UNITS: [(Micros, &str); 5] =
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms")];
    let unit = UNITS.iter().find(|(unit, _)| micros != 0 && micros % unit == 0);
    match unit {
        Some((unit, name)) => format!("{} {name}", micros / unit),
        None if micros == 0 => "0".into(),
        None => format!("{micros} µs"),
    }
}
