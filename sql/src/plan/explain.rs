//! `EXPLAIN` of a view: both halves of its plan.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, displayable};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{
    Calendar, CalendarLength, Ever, Input, Layout, Reach, Unit, ViewInput, ViewShape, ViewSpec, Window,
};

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
                    "view {} over {inputs}, SESSION with a gap of {}, cut after {}, allowed lateness {}\n",
                    view.name,
                    length(session.gap),
                    length(session.longest),
                    length(*allowed_lateness)
                ),
                Unit::Ever(Ever { keep, snapshot }) => {
                    let kept = keep.map_or("all there ever was".to_owned(), |keep| {
                        format!("groups with rows of the last {}", length(keep))
                    });
                    let told = snapshot.map_or(String::new(), |every| {
                        format!(", all of it in the lake every {}", length(every))
                    });
                    format!("view {} over {inputs}, {kept}{told}\n", view.name)
                }
                Unit::Window(window) => format!(
                    "view {} over {inputs}, {}, allowed lateness {}\n",
                    view.name,
                    match view.shape.looks_around() {
                        true => format!("units of {} that look around", length(window.layout.longest())),
                        false => window_text(*window),
                    },
                    length(*allowed_lateness)
                ),
            };
            for (number, cut) in cuts.iter().enumerate() {
                for lower in &cut.lowers {
                    let of_leg = of_leg(view, lower.leg);
                    let plan = plan_text(&lower.plan);
                    let extent = extent_text(cut.reach);
                    text.push_str(&format!("\nper batch{of_leg}, cut {number}{extent}:\n{plan}"));
                }
            }
            let when = match unit {
                Unit::Ever(_) => "when somebody reads",
                Unit::Window(_) => "when a window closes, or somebody reads",
                Unit::Session(_) => "when a session ends, or somebody reads",
            };
            let upper = upper.logical.display_indent().to_string();
            text.push_str(&format!("\n{when}:\n{}", indented(&upper)));
            text
        }
    }
}

/// Around which units what is kept counts, beside its own.
fn extent_text(reach: Reach) -> String {
    if reach == Reach::default() {
        return String::new();
    }
    let side = |micros: Micros, side: &str, other: &str| match micros {
        0 => format!("its {}", if side == "before" { "start" } else { "end" }),
        micros if micros > 0 => format!("{} {side} it", length(micros)),
        micros => {
            format!("{} {other} its {}", length(-micros), if side == "before" { "start" } else { "end" })
        }
    };
    let (from, to) = (side(reach.before, "before", "after"), side(reach.after, "after", "before"));
    format!(", looked at by units from {from} to {to}")
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
    let how = match (window.layout.tumbles(), window.expanded) {
        (true, _) => "",
        (false, false) => ", by shared panes",
        (false, true) => ", rows per window",
    };
    format!("{}{how}", layout_text(window.layout, length))
}

/// In words; `length` writes a length of time.
pub fn layout_text(layout: Layout, length: fn(Micros) -> String) -> String {
    let (text, offset) = match layout {
        Layout::Hop { size, slide, offset } if size == slide => {
            (format!("TUMBLE of {}", length(size)), offset)
        }
        Layout::Hop { size, slide, offset } => {
            (format!("HOP of {} every {}", length(size), length(slide)), offset)
        }
        Layout::Cumulate { size, step, offset } => {
            (format!("CUMULATE up to {} by {}", length(size), length(step)), offset)
        }
        Layout::Calendar(Calendar { length, zone }) => {
            let (count, unit) = match length {
                CalendarLength::Days(days) if days % 7 == 0 => (days / 7, "week"),
                CalendarLength::Days(days) => (days, "day"),
                CalendarLength::Months(months) if months % 12 == 0 => (months / 12, "year"),
                CalendarLength::Months(months) => (months, "month"),
            };
            let plural = if count == 1 { "" } else { "s" };
            (format!("TUMBLE of {count} {unit}{plural} of {zone}"), 0)
        }
    };
    if offset == 0 { text } else { format!("{text} from {}", length(offset)) }
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
