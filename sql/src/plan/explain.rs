//! `EXPLAIN` of a view: both halves of its plan.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, displayable};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{Input, Unit, ViewInput, ViewShape, ViewSpec, Window};

pub fn explain(view: &ViewSpec) -> String {
    if !view.is_planned() {
        return format!(
            "view {} has no plan: its statement can't be planned any more, and system.views says why",
            view.name
        );
    }
    let mut inputs: Vec<String> = vec![];
    for leg in &view.legs {
        let text = input_text(&leg.input);
        if !inputs.contains(&text) {
            inputs.push(text);
        }
    }
    let inputs = inputs.join(", ");
    match &view.shape {
        ViewShape::Copy { lowers } => {
            let mut text = format!("view {} copies rows of {inputs}\n", view.name);
            for (leg, lower) in lowers.iter().enumerate() {
                text.push_str(&format!("\nper batch{}:\n{}", of_leg(view, leg), plan_text(lower)));
            }
            text
        }
        ViewShape::Units { unit, allowed_lateness, cuts, upper } => {
            let mut text = match unit {
                Unit::Session(session) => format!(
                    "view {} over {inputs}, SESSION with a gap of {}, allowed lateness {}\n",
                    view.name,
                    length(session.gap),
                    length(*allowed_lateness)
                ),
                Unit::Ever => format!("view {} over {inputs}, all there ever was\n", view.name),
                Unit::Window(window) => format!(
                    "view {} over {inputs}, {}, allowed lateness {}\n",
                    view.name,
                    window_text(*window),
                    length(*allowed_lateness)
                ),
            };
            for (number, cut) in cuts.iter().enumerate() {
                for lower in &cut.lowers {
                    let of_leg = of_leg(view, lower.leg);
                    let plan = plan_text(&lower.plan);
                    text.push_str(&format!("\nper batch{of_leg}, cut {number}:\n{plan}"));
                }
            }
            let when = match unit {
                Unit::Ever => "when somebody reads",
                Unit::Window(_) => "when a window closes, or somebody reads",
                Unit::Session(_) => "when a session ends, or somebody reads",
            };
            let upper = upper.logical.display_indent().to_string();
            text.push_str(&format!("\n{when}:\n{}", indented(&upper)));
            text
        }
    }
}

/// Which place of several it is that reads an input.
fn of_leg(view: &ViewSpec, leg: usize) -> String {
    match view.legs.len() {
        1 => String::new(),
        _ => format!(" of leg {leg}, {}", input_text(&view.legs[leg].input)),
    }
}

fn input_text(input: &Input) -> String {
    match input {
        Input::Stream(name) => format!("stream {name}"),
        Input::View(ViewInput { name, .. }) => format!("view {name}"),
    }
}

fn window_text(window: Window) -> String {
    let (size, slide) = (length(window.size), length(window.slide));
    match (window.size == window.slide, window.expanded) {
        (true, _) => format!("TUMBLE of {size}"),
        (false, false) => format!("HOP of {size} each {slide}, by shared panes"),
        (false, true) => format!("HOP of {size} each {slide}, rows per window"),
    }
}

fn plan_text(plan: &Arc<dyn ExecutionPlan>) -> String {
    indented(&displayable(plan.as_ref()).indent(false).to_string())
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
