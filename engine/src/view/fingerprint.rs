//! What must be equal for a state to be read: its columns by position and type, and the aggregates that made them. How
//! the planner came there, and by which version, is not: a view's statement is the same, and a state is no older than it.

use std::fmt::Write;

use datafusion::physical_plan::displayable;

use crate::spec::{Ever, Layout, Reach, Session, State, Unit, ViewShape};

/// Aggregates whose state is a library's own: only the version that wrote it is known to read it.
const OF_ONE_VERSION: [&str; 5] = [
    "approx_distinct(",
    "approx_median(",
    "approx_percentile_cont(",
    "approx_percentile_cont_with_weight(",
    "approx_top_k(",
];

pub fn fingerprint(shape: &ViewShape) -> String {
    let mut text = String::new();
    if let ViewShape::Units { unit, cuts, .. } = shape {
        match unit {
            Unit::Window(window) => match window.layout {
                // As it was written when there were no others.
                Layout::Hop { size, slide, offset: 0 } => {
                    let expanded = window.expanded;
                    line(
                        &mut text,
                        format_args!("Window {{ size: {size}, slide: {slide}, expanded: {expanded} }}"),
                    );
                }
                _ => line(&mut text, format_args!("{window:?}")),
            },
            // When they are cut is seen when they are told.
            Unit::Session(Session { gap, .. }) => {
                line(&mut text, format_args!("Session(Session {{ gap: {gap} }})"))
            }
            // What is kept longer, or told to the lake, is the same state.
            Unit::Ever(Ever { keep: None, .. }) => line(&mut text, format_args!("Ever")),
            Unit::Ever(Ever { keep: Some(keep), .. }) => {
                line(&mut text, format_args!("Ever, kept for {keep}"))
            }
        }
        for cut in cuts {
            line(&mut text, format_args!("cut {:?}", (cut.window_start, cut.window_end)));
            if !cut.keys.is_empty() {
                line(&mut text, format_args!("keys {:?}", cut.keys));
            }
            if cut.reach != Reach::default() {
                line(&mut text, format_args!("{:?}", cut.reach));
            }
            for field in cut.state_schema().fields() {
                let null = if field.is_nullable() { " null" } else { "" };
                line(&mut text, format_args!("{}{null}", field.data_type()));
            }
            // The legs of a cut make one and the same state.
            if let (State::Aggregate(_), Some(lower)) = (&cut.state, cut.lowers.first()) {
                let plan = displayable(lower.plan.as_ref()).indent(false).to_string();
                line(&mut text, format_args!("{}", plan.lines().next().unwrap_or_default()));
            }
        }
    }
    versioned(&without_places(&text), datafusion::DATAFUSION_VERSION)
}

/// Whether a view can read a state that was written under another fingerprint, of this form or of the first: that had
/// the version always, the whole plan of each cut, and the places of columns in it.
pub fn reads(now: &str, written: &str) -> bool {
    now == written || written.strip_prefix("datafusion ").is_some_and(|first| now == of_first_form(first))
}

fn of_first_form(text: &str) -> String {
    let (version, rest) = text.split_once('\n').unwrap_or((text, ""));
    let kept = rest.lines().filter(|line| !line.starts_with(' '));
    let text: String = kept.flat_map(|line| [line, "\n"]).collect();
    versioned(&without_places(&text), version)
}

fn versioned(text: &str, version: &str) -> String {
    match OF_ONE_VERSION.iter().any(|aggregate| text.contains(aggregate)) {
        true => format!("{text}datafusion {version}\n"),
        false => text.to_string(),
    }
}

/// A column's place in its batch, as in `k@1`, follows from what the planner leaves out below.
fn without_places(text: &str) -> String {
    let mut pieces = text.split('@');
    let mut kept = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let after = piece.trim_start_matches(|each: char| each.is_ascii_digit());
        if after.len() == piece.len() {
            kept.push('@');
        }
        kept.push_str(after);
    }
    kept
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes what it is given");
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "datafusion 55.2.0\nWindow { size: 6, slide: 6, expanded: false }\ncut (Some(0), None)\nInt64\n\
        AggregateExec: mode=Partial, gby=[window_start@1 as window_start], aggr=[sum(a@b)]\n  ProjectionExec: expr=[a@1]\n\
        \x20   MicroBatchExec: columns=[a]\n";
    const NOW: &str = "Window { size: 6, slide: 6, expanded: false }\ncut (Some(0), None)\nInt64\n\
        AggregateExec: mode=Partial, gby=[window_start as window_start], aggr=[sum(a@b)]\n";

    #[test]
    fn the_first_form_says_more_than_matters() {
        assert!(reads(NOW, NOW) && reads(NOW, FIRST));
        assert!(reads(NOW, &FIRST.replace("55.2.0", "54.0.0")), "the state of a sum is the same");
        for (matters, other) in
            [("Int64", "Int32"), ("sum(", "max("), ("size: 6", "size: 7"), ("Some(0)", "Some(1)")]
        {
            assert!(!reads(NOW, &FIRST.replace(matters, other)), "{matters}");
        }
    }

    #[test]
    fn some_states_are_of_one_version() {
        let of = |text: &str| text.replace("sum(", "approx_distinct(");
        let now = format!("{}datafusion 55.2.0\n", of(NOW));
        assert!(reads(&now, &of(FIRST)));
        assert!(!reads(&now, &of(FIRST).replace("55.2.0", "54.0.0")));
    }
}
