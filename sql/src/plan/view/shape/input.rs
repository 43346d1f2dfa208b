//! The rows that a view begins with: those of a stream or of another view, and the windows that are laid over them.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{LogicalPlan, TableScan};
use thalweg_engine::spec::{Layout, Reach, RowTime, ViewInput, Window};

use super::{BoundKeys, Checker, Meaning, RowsOf, Shape, Stage, Unit, column_of};
use crate::error::{Error, Result};
use crate::plan::view::inputs::Known;
use crate::plan::view::syntax;
use crate::plan::window::{WINDOW_END, WINDOW_START, WindowNode};

impl Checker<'_> {
    pub(super) fn of_input(&self, scan: &TableScan) -> Result<Shape> {
        let name = scan.table_name.table();
        if self.inputs.table(name).is_some() {
            return Err(Error::invalid(format!(
                "table {name} has no event time: it is looked up for rows of others"
            ))
            .at(syntax::place_of_relation(self.query, name))
            .hint(format!(
                "JOIN it by its primary key to a stream or a view: … FROM s JOIN {name} t ON s.k = t.k"
            )));
        }
        let known = self.inputs.find(name).ok_or_else(|| Error::internal(format!("{name} is unknown")))?;
        let place = syntax::place_of_relation(self.query, name);
        if known.is_ever() {
            return Err(Error::invalid(format!("the rows of {name} are never final, for it has no window"))
                .at(place)
                .hint("read what it reads, or a view with windows"));
        }
        let schema = known.schema();
        let event_time = known.event_time().map(|column| schema.field(column).name().as_str());
        let meaning = |column: &str| match known.row_time(column) {
            Some(RowTime::Start) if known.is_session() => Meaning::Other,
            Some(time @ (RowTime::End | RowTime::Last)) if known.is_session() => Meaning::Final(time),
            Some(RowTime::Start) => start_of(known.window()),
            Some(RowTime::End) => Meaning::End,
            Some(RowTime::Last) => Meaning::Last,
            Some(RowTime::Own) => Meaning::Final(RowTime::Own),
            None if event_time == Some(column) => Meaning::EventTime,
            None => Meaning::Other,
        };
        let columns: Vec<_> =
            scan.projected_schema.fields().iter().map(|field| meaning(field.name())).collect();
        let window = known.window();
        if let Known::View(view) = known
            && view.times.iter().all(Option::is_none)
        {
            let bound = if known.is_session() { "window_end" } else { "window_start" };
            return Err(Error::invalid(format!("{name} does not tell the windows of its rows"))
                .at(place)
                .hint(format!("have {name} SELECT {bound} too, as it is")));
        }
        Ok(Shape {
            stage: Stage::Rows,
            unit: window.map_or(Unit::None, |it| Unit::Window(it.layout)),
            // Each of a view's rows is of one window.
            looks_at_window: window.is_some(),
            keys: BoundKeys::default(),
            reach: Reach::default(),
            sides: 0,
            inputs: vec![RowsOf {
                view: matches!(known, Known::View(_)).then(|| ViewInput {
                    name: name.to_owned(),
                    window: None,
                    time: RowTime::End,
                }),
                is_windowed: false,
            }],
            columns,
        })
    }

    pub(super) fn windowed(&self, node: &WindowNode) -> Result<Shape> {
        let mut shape = self.shape(&node.input)?;
        let refuse = |text: String| Error::invalid(text).at(node.position);
        let schema = node.input.schema();
        let time = shape.meaning(&node.time, schema);
        if shape.stage == Stage::Finished && !matches!(shape.unit, Unit::Session { .. } | Unit::Ever) {
            return Err(refuse(
                "a window takes the rows of a stream or a view, not those of a query over many".into(),
            )
            .hint("make the inner query a view, and read that view here"));
        }
        if shape.unit != Unit::None && !shape.has_windows_of_views() {
            return Err(refuse("a window over a window is not supported".into())
                .hint("make the inner one a view of finer windows, and read that view here"));
        }
        if shape.inputs.iter().any(|input| input.view.is_none()) {
            if shape.inputs.iter().any(|input| input.view.is_some()) {
                return Err(refuse("a window over streams and views has no one time".into())
                    .hint("lay it over each of them: … FROM TUMBLE(s, …) UNION ALL … FROM TUMBLE(v, …)"));
            }
            self.check_event_time(node, time)?;
        }
        for input in &mut shape.inputs {
            input.is_windowed = true;
            let Some(view) = &mut input.view else { continue };
            let known = self.inputs.find(&view.name);
            let has_windows = known.is_some_and(|known| known.window().is_some());
            view.time = time_of(&view.name, has_windows, node, time)?;
            view.window = known.and_then(|known| known.slices());
        }
        if shape.unit != Unit::None {
            // The views' own bounds are ordinary columns from here on.
            shape.looks_at_window = false;
            shape.columns.iter_mut().for_each(|it| *it = Meaning::Other);
        }
        shape.unit = Unit::Window(node.layout);
        if let Some(keys) = &node.session {
            for (number, key) in keys.iter().enumerate() {
                if let Some(column) = column_of(key).and_then(|column| schema.maybe_index_of_column(column)) {
                    shape.columns[column] = Meaning::Key(number);
                }
            }
            shape.unit = Unit::Session { gap: node.layout.longest(), keys: keys.len() };
        }
        let kept = node.kept_columns();
        shape.columns = kept.iter().map(|index| shape.columns[*index]).collect();
        let window = Window { layout: node.layout, expanded: false };
        shape.columns.extend([start_of(Some(window)), Meaning::End]);
        if node.with_last {
            shape.columns.push(Meaning::Last);
        }
        Ok(shape)
    }

    /// The time of a window over streams is the event time of each.
    fn check_event_time(&self, node: &WindowNode, time: Meaning) -> Result<()> {
        let refuse = |text: String| Error::invalid(text).at(node.position);
        let mut streams = vec![];
        node.input.apply(|each| {
            if let LogicalPlan::TableScan(scan) = each
                && let Some(Known::Stream(stream)) = self.inputs.find(scan.table_name.table())
            {
                streams.push(stream);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for stream in &streams {
            let Some(event_time) = stream.event_time else {
                return Err(refuse(format!(
                    "stream {} has no event time, so it has no windows",
                    stream.name
                ))
                .hint("declare WATERMARK FOR column AS column - INTERVAL '5' SECOND in its CREATE STREAM"));
            };
            if time != Meaning::EventTime {
                let declared = stream.schema.field(event_time.column).name();
                return Err(refuse(format!("{} is not the event time of stream {}", node.time, stream.name))
                    .hint(format!("the watermark is declared for {declared}: write {declared}")));
            }
        }
        for name in [WINDOW_START, WINDOW_END] {
            if node.input.schema().has_column_with_unqualified_name(name) {
                return Err(refuse(format!("the rows already have a column {name}"))
                    .hint(format!("give it another name: WITH renamed AS (SELECT {name} AS …)")));
            }
        }
        Ok(())
    }
}

/// What a window over the rows of a view goes by.
fn time_of(view: &str, has_windows: bool, node: &WindowNode, time: Meaning) -> Result<RowTime> {
    let (what, hint) = match (has_windows, time) {
        (false, Meaning::Final(time)) => return Ok(time),
        (true, Meaning::Start | Meaning::Opening) => return Ok(RowTime::Start),
        (true, Meaning::End) => return Ok(RowTime::End),
        (true, Meaning::Last) => return Ok(RowTime::Last),
        (false, _) => (
            format!("{} does not tell when a row of {} was final", node.time, view),
            "the rows of sessions are windowed by window_end, or window_time".to_owned(),
        ),
        (true, _) => (
            format!("{} does not tell the window of a row of {}", node.time, view),
            format!("write the bound that {} selects, such as DESCRIPTOR(window_start)", view),
        ),
    };
    Err(Error::invalid(what).at(node.position).hint(hint))
}

/// What the start of a window tells of it.
fn start_of(window: Option<Window>) -> Meaning {
    match window {
        Some(Window { layout: Layout::Cumulate { .. }, .. }) => Meaning::Opening,
        _ => Meaning::Start,
    }
}
