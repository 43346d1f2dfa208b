//! What this server counts itself: connections, requests, and how long they took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Page, names};

/// Upper bounds in seconds; everything is below the last, which has no bound.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];

#[derive(Default)]
pub(crate) struct Counts {
    connections: Arc<AtomicU64>,
    routes: Mutex<BTreeMap<String, RouteCounts>>,
    /// Taken and refused, by the endpoint that they came to.
    events: Mutex<BTreeMap<String, (u64, u64)>>,
}

#[derive(Default, Clone)]
struct RouteCounts {
    by_code: BTreeMap<u16, u64>,
    /// How many took no longer than each bound.
    within: [u64; BOUNDS.len()],
    seconds: f64,
}

/// An open connection; dropped, it is one less.
pub(crate) struct Connection(Arc<AtomicU64>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    pub fn connection(&self) -> Connection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connection(Arc::clone(&self.connections))
    }

    /// `route` is one of a known set of names.
    pub fn request(&self, route: String, code: u16, took: Duration) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = routes.entry(route).or_default();
        *counts.by_code.entry(code).or_default() += 1;
        let seconds = took.as_secs_f64();
        counts.seconds += seconds;
        for (within, bound) in counts.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(seconds <= bound);
        }
    }

    /// `endpoint` is one of those that are declared.
    pub fn events(&self, endpoint: &str, taken: usize, refused: usize) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if !events.contains_key(endpoint) {
            events.insert(endpoint.to_owned(), (0, 0));
        }
        let Some(counts) = events.get_mut(endpoint) else { return };
        (counts.0, counts.1) = (counts.0 + taken as u64, counts.1 + refused as u64);
    }

    pub(super) fn tell(&self, page: &mut Page) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let events: Vec<_> = events
            .iter()
            .flat_map(|(endpoint, counts)| [(endpoint, "taken", counts.0), (endpoint, "refused", counts.1)])
            .collect();
        let labels =
            |(endpoint, outcome, _): &(&String, &str, u64)| [(*endpoint).clone(), (*outcome).to_owned()];
        page.each(&names::COLLECT_EVENTS, &events, labels, |(_, _, count)| Some(*count as f64));

        page.one(&names::HTTP_CONNECTIONS, self.connections.load(Ordering::Relaxed) as f64);
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let by_code: Vec<_> = routes
            .iter()
            .flat_map(|(route, counts)| counts.by_code.iter().map(move |(code, count)| (route, code, *count)))
            .collect();
        let labels = |(route, code, _): &(&String, &u16, u64)| [(*route).clone(), code.to_string()];
        page.each(&names::HTTP_REQUESTS, &by_code, labels, |(_, _, count)| Some(*count as f64));
        page.head(&names::HTTP_DURATION);
        let name = names::HTTP_DURATION.name;
        for (route, counts) in &routes {
            let total: u64 = counts.by_code.values().sum();
            let label = ("route", route.clone());
            for (within, bound) in counts.within.iter().zip(BOUNDS) {
                let bound = ("le", bound.to_string());
                page.line(&format!("{name}_bucket"), &[label.clone(), bound], *within as f64);
            }
            page.line(&format!("{name}_bucket"), &[label.clone(), ("le", "+Inf".to_owned())], total as f64);
            page.line(&format!("{name}_sum"), std::slice::from_ref(&label), counts.seconds);
            page.line(&format!("{name}_count"), &[label], total as f64);
        }
    }
}
