//! By which names this server is asked.
//!
//! A page of anybody's can have its own name lead to 127.0.0.1 a moment after it was loaded. To the browser that is still the
//! page's server: it asks with the page's rights, and lets the page read what is answered. The name stands in `Host`, so a
//! server that this machine alone reaches answers to names that nobody else can own: addresses, `localhost`, and those that
//! were listed.
//!
//! A server that listens beyond is reached by names that it can't know, and whoever is in its network may ask it anyway; it
//! looks only where names are listed.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use axum::http::{HeaderMap, StatusCode, header};

use crate::fault::Fault;

/// A name, or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<HostName, String> {
        let is_name = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        match text == "*" || is_name(text) {
            true => Ok(HostName(plain(text))),
            false => Err(format!("{text:?} is no name such as clicks.example.com, without a port")),
        }
    }
}

pub(crate) struct Hosts {
    /// Nothing is refused without it.
    looks: bool,
    listed: Vec<HostName>,
}

impl Hosts {
    pub fn new(listens_on: Option<IpAddr>, listed: Vec<HostName>) -> Hosts {
        let is_near = listens_on.is_some_and(|address| address.is_loopback());
        let looks = (is_near || !listed.is_empty()) && !listed.iter().any(|name| name.0 == "*");
        Hosts { looks, listed }
    }

    /// Whoever names no host is no browser.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Fault> {
        if !self.looks {
            return Ok(());
        }
        for host in headers.get_all(header::HOST) {
            let told = host.to_str().unwrap_or_default();
            if !self.knows(told) {
                let reason = format!("this server is not known as {told:?}");
                return Err(Fault::new(StatusCode::MISDIRECTED_REQUEST, reason)
                    .hint("ask it by its address or as localhost, or start it with --http-host NAME"));
            }
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        let name = without_port(host);
        let is_address = || {
            let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok()) || name.parse::<IpAddr>().is_ok()
        };
        if is_address() {
            return true;
        }
        let name = plain(name);
        // What ends so never leaves the machine (RFC 6761).
        name == "localhost" || name.ends_with(".localhost") || self.listed.iter().any(|it| it.0 == name)
    }
}

/// Names are the same in any case, and with the dot of the root behind them.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listens_on: &str, listed: &[&str], hosts: &[&str]) -> bool {
        let listed = listed.iter().map(|name| name.parse().unwrap()).collect();
        let headers = hosts.iter().map(|host| (header::HOST, host.parse().unwrap())).collect();
        Hosts::new(listens_on.parse().ok(), listed).check(&headers).is_ok()
    }

    #[test]
    fn a_server_of_this_machine_alone_has_names_that_nobody_else_can_own() {
        for near in ["127.0.0.1", "127.0.1.1", "::1"] {
            for own in [
                "127.0.0.1:8080",
                "127.0.0.1",
                "[::1]:8080",
                "[::1]",
                "::1",
                "192.0.2.7:80",
                "localhost:8080",
                "LocalHost",
                "localhost.",
                "shop.localhost:1",
            ] {
                assert!(check(near, &[], &[own]), "{own}");
            }
            for foreign in [
                "evil.example",
                "evil.example:8080",
                "127.0.0.1.evil.example",
                "localhost.evil.example:80",
                "notlocalhost",
                "",
                "[evil.example]:80",
                "127.0.0.1@evil.example",
                "évil",
            ] {
                assert!(!check(near, &[], &[foreign]), "{foreign}");
            }
            assert!(check(near, &[], &[]), "no browser");
            assert!(!check(near, &[], &["localhost", "evil.example"]), "each of two");
        }
    }

    #[test]
    fn names_are_listed_and_a_server_beyond_looks_only_then() {
        let listed = ["Clicks.Example.com", "thalweg"];
        for address in ["127.0.0.1", "0.0.0.0"] {
            assert!(check(address, &listed, &["clicks.example.com:443"]));
            assert!(
                check(address, &listed, &["THALWEG.:8080"]) && check(address, &listed, &["10.0.0.7:8080"])
            );
            assert!(!check(address, &listed, &["evil.example"]) && !check(address, &listed, &["a.thalweg"]));
            assert!(check(address, &["*"], &["evil.example"]));
        }
        for beyond in ["0.0.0.0", "::", "192.0.2.7"] {
            assert!(check(beyond, &[], &["any.example"]), "{beyond}");
        }
    }

    #[test]
    fn a_name_has_no_port_and_no_scheme() {
        for wrong in ["", "http://a", "a:80", "a/b", "*.a", "a b"] {
            assert!(wrong.parse::<HostName>().is_err(), "{wrong}");
        }
    }
}
