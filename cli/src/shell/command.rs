//! What starts with a backslash: commands to the shell itself.

use std::time::Duration;

use super::client::Table;
use super::runner::{Ended, Runner, say};

pub const HELP: &str = r"  \d             tables, by schema
  \d NAME        the columns of a table
  \l             schemas
  \watch [SECS]  the last query again and again, until Ctrl-C (every second)
  \x             one value a line, on and off
  \timing        times, on and off
  \q             leave; Ctrl-D too
Statements end in ;   Tab completes names   Ctrl-C cancels a query   Ctrl-R searches the history
v: every row of a view   live.v: its open windows   history.v: its closed ones   system.*: how things are";

/// Whether the prompt goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Prompt,
    Leave,
}

/// Obeys one command. `last` is the query that `\watch` repeats.
pub async fn obey(line: &str, runner: &mut Runner, last: Option<&str>) -> Next {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    match name {
        "\\q" | "quit" | "exit" => return Next::Leave,
        "\\?" | "\\h" | "\\help" => say(HELP),
        "\\x" => {
            runner.expanded = !runner.expanded;
            say(if runner.expanded { "one value a line" } else { "one row a line" });
        }
        "\\timing" => {
            runner.timing = !runner.timing;
            say(if runner.timing { "times are shown" } else { "times are not shown" });
        }
        "\\watch" => watch(argument, runner, last).await,
        "\\d" | "\\dt" | "\\l" => match runner.client.tables().await {
            Err(reason) => eprintln!("error: {reason}"),
            Ok(tables) if name == "\\l" => say(&schemas(&tables)),
            Ok(tables) => match described(&tables, argument) {
                Ok(text) => say(&text),
                Err(reason) => eprintln!("error: {reason}"),
            },
        },
        other => eprintln!("no command {other}; \\? lists them"),
    }
    Next::Prompt
}

async fn watch(argument: &str, runner: &mut Runner, last: Option<&str>) {
    let Some(sql) = last else {
        return eprintln!("nothing to watch yet: run a query first, then \\watch");
    };
    let seconds: f64 = match argument {
        "" => 1.0,
        number => match number.parse() {
            Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => seconds,
            _ => return eprintln!("\\watch takes seconds, from 0.1 to 86400; not {number}"),
        },
    };
    loop {
        // The screen is cleared from the top, so that the table stays in its place.
        say(&format!("\x1b[2J\x1b[H{}   (every {seconds} s; Ctrl-C ends)\n", first_line(sql)));
        if runner.statement(sql, None).await != Ended::Fine {
            return;
        }
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return,
            () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => {}
        }
    }
}

fn first_line(sql: &str) -> String {
    let mut lines = sql.lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

fn schemas(tables: &[Table]) -> String {
    let mut names: Vec<_> = tables.iter().map(|table| table.schema.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "no schema has a table yet".to_owned() } else { names.join("\n") }
}

/// All tables by schema, or the columns of the one that is named.
fn described(tables: &[Table], name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Ok(listed(tables));
    }
    let (schema, bare) = name.split_once('.').map_or((None, name), |(schema, bare)| (Some(schema), bare));
    let table = tables
        .iter()
        .filter(|table| table.name == bare && schema.is_none_or(|schema| table.schema == schema))
        // A bare name means the public one.
        .min_by_key(|table| table.schema != "public")
        .ok_or_else(|| format!("no table {name}; \\d lists them"))?;
    let width = table.columns.fields().iter().map(|field| field.name().len()).max().unwrap_or(0);
    let mut lines = vec![format!("{}.{} ({})", table.schema, table.name, table.kind.to_lowercase())];
    lines.extend(table.columns.fields().iter().map(|field| {
        let null = if field.is_nullable() { "" } else { " not null" };
        format!("  {:width$}  {}{null}", field.name(), sql_type(field.data_type()))
    }));
    Ok(lines.join("\n"))
}

fn listed(tables: &[Table]) -> String {
    let mut tables: Vec<_> = tables.iter().collect();
    tables.sort_by_key(|table| (&table.schema, &table.name));
    if tables.is_empty() {
        return "no tables yet".to_owned();
    }
    let names = tables.iter().map(|table| table.schema.len() + table.name.len() + 1).max().unwrap_or(0);
    let lines = tables.iter().map(|table| {
        let name = format!("{}.{}", table.schema, table.name);
        format!("  {name:names$}  {:12}  {} columns", table.kind.to_lowercase(), table.columns.fields().len())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A type as SQL would write it, where it has a common name.
fn sql_type(data_type: &arrow::datatypes::DataType) -> String {
    use arrow::datatypes::DataType;
    match data_type {
        DataType::Utf8 => "STRING".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Timestamp(_, Some(zone)) => format!("TIMESTAMP ({zone})"),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::List(item) => format!("{} ARRAY", sql_type(item.data_type())),
        DataType::Struct(fields) => {
            let fields =
                fields.iter().map(|field| format!("{} {}", field.name(), sql_type(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn table(schema: &str, name: &str) -> Table {
        let tags = DataType::new_list(DataType::Utf8, true);
        let columns =
            Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("tags", tags, true)]);
        Table { schema: schema.to_owned(), name: name.to_owned(), kind: "VIEW".to_owned(), columns }
    }

    #[test]
    fn a_bare_name_means_the_public_table() {
        let tables = [table("live", "v"), table("public", "v"), table("live", "w")];
        let expected = "public.v (view)\n  id    BIGINT not null\n  tags  STRING ARRAY";
        assert_eq!(described(&tables, "v").unwrap(), expected);
        assert!(described(&tables, "live.v").unwrap().starts_with("live.v (view)\n"));
        assert!(described(&tables, "w").unwrap().starts_with("live.w (view)\n"));
        assert_eq!(described(&tables, "x").unwrap_err(), "no table x; \\d lists them");
        assert_eq!(listed(&tables).lines().next().unwrap(), "  live.v    view          2 columns");
        assert_eq!(schemas(&tables), "live\npublic");
    }
}
