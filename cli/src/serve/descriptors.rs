//! Descriptors: as many as the system lets us have, and who may use them. The store, the logs and the sources come first,
//! for without one an epoch does not end; connections share what is left.

/// For the store, the files of tables, sources and logs: a quarter, and no more than that.
const RESERVED_MOST: usize = 1024;

/// How many connections each of the two servers may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub flight: usize,
    pub http: usize,
}

impl Connections {
    /// `limit` descriptors are shared; no server takes more than it knows what to do with.
    fn of(limit: usize, flight_most: usize, http_most: usize) -> Connections {
        let reserved = (limit / 4).clamp(1, RESERVED_MOST).max(limit.min(256) / 2);
        let half = (limit.saturating_sub(reserved) / 2).max(1);
        let flight = half.min(flight_most);
        let http = limit.saturating_sub(reserved + flight).max(1).min(http_most);
        Connections { flight, http }
    }
}

/// Raises the limit to what the system allows at most, and deals it out.
pub fn raised(flight_most: usize, http_most: usize) -> Connections {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the one struct that they are given.
    let known = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            let most = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most) == 0 {
                limit = most;
            }
            true
        }
    };
    let descriptors = if known { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) } else { 1024 };
    let connections = Connections::of(descriptors, flight_most, http_most);
    tracing::info!(descriptors, ?connections, "descriptors are dealt out");
    connections
}

#[test]
fn the_store_keeps_its_own() {
    for limit in [64, 256, 1024, 4096, 65_536, 1 << 30] {
        let Connections { flight, http } = Connections::of(limit, 1024, 4096);
        assert!(flight >= 1 && http >= 1, "{limit}");
        assert!(flight + http + (limit / 4).min(1024) <= limit, "{limit}: {flight}, {http}");
    }
    assert_eq!(Connections::of(65_536, 1024, 4096), Connections { flight: 1024, http: 4096 });
}
