//! Fields that the server fills in: when an event came, from where, by which program, and a number of its own. What a
//! sender says in their place does not count; a number alone is kept if it is there.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use sonic_rs::JsonValueTrait;
use thalweg_sql::session::Fill;
use uuid::Uuid;

/// What is the same for all events of a request.
pub(super) struct Filled {
    /// Names with their values, as JSON.
    fields: Vec<(String, String)>,
    event_id: Option<String>,
}

impl Filled {
    pub fn new(fill: &Fill, address: IpAddr, headers: &HeaderMap) -> Filled {
        let received = || {
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            quoted(&now)
        };
        let agent = || {
            let agent = headers.get(header::USER_AGENT);
            agent
                .map_or_else(|| "null".to_owned(), |agent| quoted(&String::from_utf8_lossy(agent.as_bytes())))
        };
        // What nobody wants is not put together.
        let field = |name: &Option<String>, value: &dyn Fn() -> String| Some((name.clone()?, value()));
        let fields = [
            field(&fill.received_at, &received),
            field(&fill.address, &|| quoted(&address.to_string())),
            field(&fill.user_agent, &agent),
        ];
        Filled { fields: fields.into_iter().flatten().collect(), event_id: fill.event_id.clone() }
    }

    /// The event with what is filled in. One that is no object stays as it is, for its stream to refuse.
    pub fn event(&self, event: &[u8]) -> Vec<u8> {
        if self.fields.is_empty() && self.event_id.is_none() {
            return event.to_vec();
        }
        let mut fields: Vec<(&str, String)> =
            self.fields.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        if let Some(name) = &self.event_id
            && is_missing(event, name)
        {
            fields.push((name, quoted(&Uuid::now_v7().to_string())));
        }
        if fields.is_empty() || event.first() != Some(&b'{') {
            return event.to_vec();
        }
        let rest = match fields.iter().any(|(name, _)| has(event, name)) {
            true => without(event, &fields),
            false => Some(event[1..].to_vec()),
        };
        let Some(rest) = rest else { return event.to_vec() };
        let mut filled = vec![b'{'];
        let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
        for (index, (name, value)) in fields.iter().enumerate() {
            let comma = if index + 1 < fields.len() || !is_empty { "," } else { "" };
            filled.extend_from_slice(format!("{}:{value}{comma}", quoted(name)).as_bytes());
        }
        filled.extend_from_slice(&rest);
        filled
    }
}

/// A place in what an event was filled to, in the event as it came; its beginning, where that is not to be told.
pub(super) fn place_in(event: &[u8], filled: &[u8], at: usize) -> usize {
    match event.get(1..).is_some_and(|rest| filled.ends_with(rest)) {
        true => at.saturating_sub(filled.len() - event.len()),
        false => 0,
    }
}

fn has(event: &[u8], field: &str) -> bool {
    sonic_rs::get(event, [field]).is_ok()
}

/// As a stream reads it: `null` is no value.
fn is_missing(event: &[u8], field: &str) -> bool {
    sonic_rs::get(event, [field]).map_or(true, |value| value.is_null())
}

/// What follows the opening brace, less some fields; nothing of what is no object.
fn without(event: &[u8], fields: &[(&str, String)]) -> Option<Vec<u8>> {
    let mut rest = vec![];
    for pair in sonic_rs::to_object_iter(event) {
        let (name, value) = pair.ok()?;
        if fields.iter().any(|(filled, _)| *filled == name) {
            continue;
        }
        if !rest.is_empty() {
            rest.push(b',');
        }
        rest.extend_from_slice(quoted(&name).as_bytes());
        rest.push(b':');
        rest.extend_from_slice(value.as_raw_str().as_bytes());
    }
    rest.push(b'}');
    Some(rest)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(event: &str) -> String {
        let fill = Fill {
            address: Some("ip".into()),
            user_agent: Some("agent".into()),
            received_at: None,
            event_id: None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "curl \"8\"".parse().unwrap());
        let filled = Filled::new(&fill, "10.0.0.1".parse().unwrap(), &headers);
        String::from_utf8(filled.event(event.as_bytes())).unwrap()
    }

    #[test]
    fn the_servers_word_counts() {
        let own = r#""ip":"10.0.0.1","agent":"curl \"8\"""#;
        assert_eq!(filled(r#"{"a":1}"#), format!("{{{own},\"a\":1}}"));
        assert_eq!(filled("{ }"), format!("{{{own} }}"));
        assert_eq!(filled(r#"{"ip":"1.1.1.1","a":[1, 2],"agent":null}"#), format!("{{{own},\"a\":[1, 2]}}"));
        assert_eq!(filled(r#"{"ip":"1.1.1.1"}"#), format!("{{{own}}}"));
        assert_eq!(filled("17"), "17");
    }

    #[test]
    fn a_place_is_told_in_the_event_that_came() {
        let event = r#"{"a":x}"#;
        let filled = filled(event);
        assert_eq!(place_in(event.as_bytes(), filled.as_bytes(), filled.find('x').unwrap()), 5);
        assert_eq!(place_in(event.as_bytes(), event.as_bytes(), 5), 5);
        assert_eq!(place_in(b"{\"ip\":1,\"a\":x}", filled.as_bytes(), 30), 0);
        assert_eq!(place_in(b"", b"", 0), 0);
    }

    #[test]
    fn a_number_is_made_where_there_is_none() {
        let fill = Fill { event_id: Some("id".into()), ..Fill::default() };
        let filled = Filled::new(&fill, "10.0.0.1".parse().unwrap(), &HeaderMap::new());
        assert_eq!(filled.event(br#"{"id":"mine"}"#), br#"{"id":"mine"}"#);
        let made = [&b"{}"[..], b"{}", br#"{"id":null}"#].map(|event| filled.event(event));
        assert!(made[0] != made[1] && made.iter().all(|it| it.starts_with(br#"{"id":""#)), "{made:?}");
        assert!(made.iter().all(|it| it.len() == made[0].len()), "{made:?}");
    }
}
