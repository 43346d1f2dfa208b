//! The prompt: a greeting, lines edited until they can be run, a history kept between visits.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use reedline::{
    ColumnarMenu, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode,
    PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal, ValidationResult, Validator,
    default_emacs_keybindings,
};

use super::client::Table;
use super::command::{self, Next};
use super::complete::{NameCompleter, Names};
use super::runner::{Ended, Runner, say};
use super::text;

const HISTORY_LINES: usize = 10_000;
const MENU: &str = "completion";

/// Reads and runs until the user leaves.
pub async fn talk(runner: &mut Runner, address: &str) -> io::Result<()> {
    runner.interactive = true;
    let names = Names::default();
    let tables = runner.client.tables().await.unwrap_or_default();
    names.learn(&tables);
    greet(runner, address, &tables).await;
    let mut editor = editor(&names)?;
    let mut last: Option<String> = None;
    loop {
        match tokio::task::block_in_place(|| editor.read_line(&Indicator))? {
            Signal::Success(typed) => {
                if run(&typed, runner, &mut last).await == Next::Leave {
                    return Ok(());
                }
                // What was created, here or elsewhere, is offered from now on.
                if let Ok(tables) = runner.client.tables().await {
                    names.learn(&tables);
                }
            }
            Signal::CtrlC => {}
            _ => return Ok(()),
        }
    }
}

async fn run(typed: &str, runner: &mut Runner, last: &mut Option<String>) -> Next {
    let line = typed.trim();
    if line.starts_with('\\') || ["quit", "exit"].contains(&line.trim_end_matches(';')) {
        return command::obey(line, runner, last.as_deref()).await;
    }
    for statement in text::split(typed).0 {
        *last = Some(statement.text.to_owned());
        if runner.statement(statement.text, None).await != Ended::Fine {
            break;
        }
    }
    Next::Prompt
}

/// Says what there is, and what to type.
async fn greet(runner: &mut Runner, address: &str, tables: &[Table]) {
    let streams = runner.client.names("SHOW STREAMS").await;
    let views: Vec<_> = tables
        .iter()
        .filter(|table| table.schema == "public" && !streams.contains(&table.name))
        .map(|table| table.name.clone())
        .collect();
    say(&format!("Thalweg {} at {address}", env!("CARGO_PKG_VERSION")));
    for (title, names) in [("streams", &streams), ("views", &views)] {
        if !names.is_empty() {
            say(&format!("  {title:7}  {}", names.join(", ")));
        }
    }
    match views.first() {
        Some(view) => say(&format!("Try  SELECT * FROM {view} LIMIT 10;  then  \\watch  to see it change.")),
        None => {
            say("There are no views yet:  CREATE STREAM …;  then  CREATE MATERIALIZED VIEW … AS SELECT …;")
        }
    }
    say("\\? for help, \\d for tables, \\q to leave.");
}

fn editor(names: &Names) -> io::Result<Reedline> {
    let mut keys = default_emacs_keybindings();
    let offer =
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, offer);
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let menu = ColumnarMenu::default().with_name(MENU);
    let editor = Reedline::create()
        .with_completer(Box::new(NameCompleter(names.clone())))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_partial_completions(true)
        .with_quick_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(UntilSemicolon));
    let Some(path) = history_path() else { return Ok(editor) };
    // A history that cannot be kept is no reason not to talk.
    Ok(match FileBackedHistory::with_file(HISTORY_LINES, path) {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(_) => editor,
    })
}

fn history_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("thalweg/history"))
}

struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, line: &str) -> ValidationResult {
        if text::is_complete(line) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

struct Indicator;

impl Prompt for Indicator {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "thalweg".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "      -> ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!(" (search: {}) ", search.term).into()
    }
}
