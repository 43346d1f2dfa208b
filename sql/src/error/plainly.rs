//! What DataFusion says of its own insides, said of the statement. Of most of its errors nothing is known but the text.

use super::Error;

/// `None` of a text that is plain by itself, or is not known.
pub(crate) fn told_plainly(text: &str) -> Option<Error> {
    const UNPLANNED: &str = "Physical plan does not support logical expression ";
    if let Some((before, after)) = text.split_once("' failed to match any signature") {
        let (_, function) = before.rsplit_once('\'')?;
        let received = after.split_once("but received ").and_then(|(_, rest)| rest.split_once(" (DataType"));
        let received =
            received.map_or_else(String::new, |(name, _)| format!(" of type {}", name.to_uppercase()));
        // Where there is but one signature, it says which type it is.
        let mut required = after.match_indices("' requires ").map(|(at, before)| &after[at + before.len()..]);
        let kind = match (required.next(), required.next()) {
            (Some(kind), None) if kind.starts_with("Int") => "BIGINT",
            (Some(kind), None) if kind.starts_with("String") => "STRING",
            (Some(kind), None) if kind.starts_with("Timestamp") => "TIMESTAMP",
            _ => "DOUBLE",
        };
        return Some(
            Error::invalid(format!("{function}() does not take a value{received}"))
                .hint(format!("CAST what it is given, such as CAST(x AS {kind})")),
        );
    }
    if let Some((told, candidates)) = text.split_once(" No function matches the given name") {
        let error = Error::invalid(lower_first(without_prefix(told)));
        let candidate = candidates.split_once("Candidate functions:").map(|(_, lines)| lines.trim());
        return Some(match candidate.and_then(|lines| lines.lines().next()) {
            Some(known) => error.hint(format!("it is {known}")),
            None => error,
        });
    }
    if let Some((_, types)) = text.split_once("annot infer common argument type for comparison operation ") {
        let mut words = types.split_whitespace();
        let (left, right) = (words.next().map(plain_type)?, words.next_back().map(plain_type)?);
        return Some(
            Error::invalid(format!("a value of type {left} is not compared with one of type {right}"))
                .hint(format!("CAST one of them, such as CAST(x AS {left})")),
        );
    }
    if text.contains("COUNT DISTINCT with multiple arguments") {
        return Some(
            Error::invalid("count(DISTINCT …) counts the values of one expression")
                .hint("count the rows of a subquery: SELECT count(*) FROM (SELECT DISTINCT a, b FROM …)"),
        );
    }
    if text.contains("onflicting ordering requirements in aggregate functions") {
        return Some(
            Error::invalid("two aggregates of one SELECT want its rows in different orders").hint(
                "array_agg orders for itself: array_to_string(array_agg(x ORDER BY x), ','); or aggregate in two subqueries, and join",
            ),
        );
    }
    if ["Arithmetic Overflow in AvgAccumulator", "Arithmetic overflow in avg"]
        .iter()
        .any(|it| text.contains(it))
    {
        return Some(
            Error::invalid("avg() of a DECIMAL has more digits than a DECIMAL can hold")
                .hint("CAST what it is given to DOUBLE, or to a DECIMAL of fewer digits"),
        );
    }
    if text.contains(" must be an INTEGER or NULL, got ") {
        return Some(
            Error::invalid(
                "a series begins, ends and steps by whole numbers that are written in the statement",
            )
            .hint("write an end that is far enough, and of the rows: WHERE value <= $n"),
        );
    }
    if text.contains("only support Literal types for field at idx") {
        return Some(
            Error::invalid("how many rows, or which, a function OVER is told by a constant")
                .hint("write a number, such as lag(x, 1)"),
        );
    }
    if text.contains("annot access field at argument 1") {
        return Some(Error::invalid("only a STRUCT has fields, and this is none").hint(
            "an element of a list is l[1], the first; a column of a relation is written after its alias",
        ));
    }
    if text.contains("subquery can only be used in Projection, Filter") {
        return Some(
            Error::invalid("IN, EXISTS, ANY and ALL of a query can't stand here")
                .hint("ask them in WHERE, or name the answer in a subquery, and use that name"),
        );
    }
    if text.contains("annot cast timezone to different timezone") {
        return Some(
            Error::invalid(
                "the clocks of that zone skip this time, or show it twice: it is no certain moment",
            )
            .hint("write the moment, with what it is ahead of UTC: TIMESTAMPTZ '2025-03-30 01:30:00+00:00'"),
        );
    }
    if text.contains("ot access not supported for non-string expr") {
        return Some(
            Error::invalid("a field is named behind the dot, and this is no name")
                .hint("write s.name or s['name'] of a STRUCT; an element of a list is l[1], the first"),
        );
    }
    if text.contains("DISTINCT ON expressions must match initial ORDER BY expressions") {
        return Some(
            Error::invalid(
                "DISTINCT ON takes the first row of each group, and ORDER BY does not begin with the groups",
            )
            .hint("write ORDER BY the columns of DISTINCT ON, and then what comes first"),
        );
    }
    if let Some((_, named)) =
        text.split_once("rojections require unique expression names but the expression \"")
    {
        let (name, _) = named.split_once('"')?;
        return Some(called_alike(name));
    }
    if let Some((_, function)) = text.split_once("ecimal overflow while applying ") {
        return Some(
            Error::invalid(format!("what {function}() gives has a digit more than its DECIMAL has room for"))
                .hint(format!("CAST what it is given, such as {function}(CAST(x AS DECIMAL(38, 2)))")),
        );
    }
    if let Some((_, call)) = text.split_once("`retract_batch` is not implemented: ") {
        let (function, _) = call.split_once('(')?;
        return Some(
            Error::invalid(format!("{function}() does not go with a frame that moves"))
                .hint("take another aggregate, such as min(CAST(x AS INT)) for bool_and(x); or join the rows by how far apart they are"),
        );
    }
    if text.contains("ggregate ORDER BY is not implemented for window functions") {
        return Some(
            Error::invalid("an aggregate with an ORDER BY of its own does not go with OVER")
                .hint("leave it out, or aggregate in a subquery and join"),
        );
    }
    if let Some((_, kind)) = text.split_once("annot run range queries on datatype: ") {
        let kind = kind.split('(').next().unwrap_or(kind).to_uppercase();
        return Some(
            Error::invalid(format!("a window's rows have no order by a value of type {kind}"))
                .hint("ORDER BY what it is made of, such as its fields: s.a, s.b"),
        );
    }
    // Told once, before there is a row.
    if text.contains("but input schema only has 0 columns") {
        return Some(
            Error::invalid("what an aggregate is told once has to be a constant, and this is a column")
                .hint("write a number, such as percentile_cont(0.9) WITHIN GROUP (ORDER BY x)"),
        );
    }
    let (_, expression) = text.split_once(UNPLANNED)?;
    Some(match expression {
        beside if beside.starts_with("OuterReferenceColumn") => Error::invalid(
            "a subquery in FROM can't look at the rows that stand beside it",
        )
        .hint("JOIN it ON what it compares; for the first of each, row_number() OVER (PARTITION BY …) = 1"),
        exists if exists.starts_with("Exists") => {
            Error::invalid("EXISTS is a condition of WHERE and HAVING, and no value")
                .hint("LEFT JOIN the query, and ask whether a column of it IS NOT NULL")
        }
        _ => Error::invalid("a subquery that looks at the row outside can compare with it by equality alone")
            .hint("JOIN what it reads instead: … LEFT JOIN b ON b.x > a.x GROUP BY …"),
    })
}

/// As a statement would have it.
fn plain_type(name: &str) -> String {
    match name {
        "Int64" => "BIGINT".to_owned(),
        "Int32" => "INT".to_owned(),
        "Float64" => "DOUBLE".to_owned(),
        "Utf8" | "Utf8View" => "STRING".to_owned(),
        _ => name.split('(').next().unwrap_or(name).to_uppercase(),
    }
}

/// Casts have no part in the name of what is cast.
pub(super) fn called_alike(name: &str) -> Error {
    Error::invalid(format!("two columns are called \"{name}\"")).hint(
        "name one of them with AS; where calls or keys differ by a CAST alone, in a subquery: \
         SELECT sum(x), sum(y) FROM (SELECT *, CAST(x AS BIGINT) AS y FROM …)",
    )
}

pub(super) fn without_prefix(text: &str) -> &str {
    const PREFIXES: [&str; 7] = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Arrow error: ",
        "SQL error: ",
        "Schema error: ",
        "External error: ",
    ];
    // It asks for a report to others.
    let mut text = text.split("\nThis issue was likely caused by a bug in DataFusion").next().unwrap_or(text);
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    text
}

/// `Expected …` becomes `expected …`; a name in capitals (`TUMBLE …`) stays.
pub(super) fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_planner_says_of_itself_is_said_of_the_statement() {
        let text = "Internal error: Function 'sum' failed to match any signature, errors: Error during planning: \
                    Function 'sum' requires Int64, but received String (DataType: Utf8).,";
        let told = told_plainly(text).map(|error| error.to_string());
        let plain = "sum() does not take a value of type STRING\nhint: CAST what it is given, such as CAST(x AS BIGINT)";
        assert_eq!(told.as_deref(), Some(plain));
        assert!(told_plainly("Internal error: else").is_none());
        let series = "Error during planning: Argument #2 must be an INTEGER or NULL, got Cast(Cast { expr: Placeholder(";
        let told = told_plainly(series).map(|error| error.to_string()).unwrap_or_default();
        assert!(told.starts_with("a series begins, ends and steps by whole numbers"), "{told}");
    }
}
