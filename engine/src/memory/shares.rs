//! How the budget is shared.
//!
//! What passes through (queues, rows that wait, plans, files) has a bound of its own, so small that what is left is for
//! what views have open. With plenty of memory the bounds are those that are enough for speed.

const MEBIBYTE: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// What the sources of all streams may fetch ahead.
    pub queues: usize,
    /// Records of one micro-batch.
    pub batch: usize,
    /// Records that wait for the lower halves, of one worker.
    pub waiting: usize,
    /// What views have open; what is more of it lies on disk.
    pub open: usize,
    /// Parts that wait for their manifest.
    pub filed: usize,
    /// What tables close and encode at a time.
    pub closing: usize,
    /// What one plan above the cut is given at a time.
    pub piece: usize,
    /// Closed rows that wait for Parquet, of all tables.
    pub tails: usize,
}

impl Shares {
    pub fn of(budget: usize) -> Shares {
        Shares {
            queues: budget / 8,
            batch: (budget / 32).clamp(MEBIBYTE / 4, 8 * MEBIBYTE),
            waiting: (budget / 64).clamp(MEBIBYTE / 4, 4 * MEBIBYTE),
            open: budget / 4,
            filed: (budget / 8).min(256 * MEBIBYTE),
            closing: budget / 4,
            piece: (budget / 32).clamp(MEBIBYTE, 128 * MEBIBYTE),
            tails: budget / 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_is_left_for_what_is_open() {
        for budget in [64, 256, 1024, 65_536].map(|mebibytes| mebibytes * MEBIBYTE) {
            let shares = Shares::of(budget);
            // Two workers of one stream.
            let passing = shares.queues + 2 * (shares.batch + shares.waiting) + shares.tails;
            assert!(passing <= budget * 3 / 8, "{shares:?}");
            assert!(4 * shares.piece <= shares.closing, "{shares:?}");
        }
    }
}
