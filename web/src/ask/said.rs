//! What a client says over `/ws`, read. What is wrong with one name is told under that name, and the others begin.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::changes::Wanted;
use crate::fault::Fault;

pub(super) const SHAPE: &str = r#"{"watch": {"name": "/api/…, or SELECT …"}, "subscribe": {"name": "SUBSCRIBE TO …"}, "forget": ["name"]}"#;
const WATCHED: &str = r#"write "/api/…", "SELECT …", or {"what": …, "known": "ID"}"#;
const SUBSCRIBED: &str =
    r#"write "SUBSCRIBE TO …", or {"what": "SUBSCRIBE TO …", "after": "TOKEN", "parameters": {"name": …}}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    #[serde(default)]
    pub watch: BTreeMap<String, Value>,
    #[serde(default)]
    pub subscribe: BTreeMap<String, Value>,
    #[serde(default)]
    pub forget: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    what: String,
    known: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    what: String,
    after: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
}

pub(super) fn of(text: &str) -> Result<Said, Fault> {
    serde_json::from_str(text)
        .map_err(|error| Fault::invalid(format!("the message is not as it should be: {error}")).hint(SHAPE))
}

/// What is watched, and the id of the answer that the client has.
pub(super) fn watched(what: Value) -> Result<(String, Option<String>), Fault> {
    match what {
        Value::String(what) => Ok((what, None)),
        what => {
            let Known { what, known } = read(what, WATCHED)?;
            Ok((what, known))
        }
    }
}

pub(super) fn wanted(what: Value) -> Result<Wanted, Fault> {
    let After { what: sql, after, parameters } = match what {
        Value::String(what) => After { what, after: None, parameters: BTreeMap::new() },
        what => read(what, SUBSCRIBED)?,
    };
    let parameters = parameters.into_iter().map(|(name, value)| Ok((name.clone(), text(&name, value)?)));
    Ok(Wanted { sql, after, parameters: parameters.collect::<Result<_, Fault>>()? })
}

fn read<T: for<'a> Deserialize<'a>>(what: Value, shape: &str) -> Result<T, Fault> {
    serde_json::from_value(what)
        .map_err(|error| Fault::invalid(format!("this is not as it should be: {error}")).hint(shape))
}

/// As an address would bring it: the statement knows the type.
fn text(name: &str, value: Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(Fault::invalid(format!("parameter \"{name}\" is a text, a number, true or false")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_a_text_a_number_or_a_flag() {
        let given = json!({ "what": "s", "parameters": { "a": 100, "b": -1.5, "c": "x'", "d": true } });
        let told: Vec<_> =
            wanted(given).unwrap().parameters.into_iter().map(|(name, text)| name + "=" + &text).collect();
        assert_eq!(told, ["a=100", "b=-1.5", "c=x'", "d=true"]);
        let Wanted { sql, after, parameters } = wanted(json!("s")).unwrap();
        assert_eq!((sql.as_str(), after, parameters.len()), ("s", None, 0));
    }

    #[test]
    fn what_is_wrong_names_the_fault() {
        let reason = |fault: Fault| fault.text();
        for (wrong, expected) in [
            (json!({ "what": "s", "parameters": { "a": [1] } }), "parameter \\\"a\\\" is a text"),
            (json!({ "what": "s", "parameters": { "a": null } }), "parameter \\\"a\\\" is a text"),
            (json!({ "what": "s", "parameter": {} }), "unknown field `parameter`"),
            (json!({ "after": "t" }), "missing field `what`"),
            (json!(17), "invalid type: integer `17`"),
        ] {
            let told = reason(wanted(wrong).err().unwrap());
            assert!(told.contains(expected), "{told}");
        }
        assert!(
            reason(watched(json!({ "what": "s", "knows": "x" })).err().unwrap())
                .contains("unknown field `knows`")
        );
        assert!(reason(of(r#"{"watsch": {}}"#).err().unwrap()).contains("unknown field `watsch`"));
    }
}
