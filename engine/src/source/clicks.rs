//! What the generator writes: clicks of one shape, each a pure function of (seed, partition, offset).
//!
//! Owns the content and the arrival time of a click; pacing and ends are the generator's. Nothing is remembered from
//! one click to the next, so a reader resumes at any offset for free. Sessions still come out right: a partition is
//! dealt out to [`LANES`] lanes, one click each in turn, and each run of [`GROUP`] clicks of a lane is cut into two
//! sessions of 4 to 20 clicks, 12 in the mean. A session has one user, country, device and campaign; it begins with a
//! page view, puts a product into the cart only after looking at it, and buys only what lies there. A user's clicks
//! are all in one partition, as if the topic were keyed by user.

use super::zipf::Zipf;
use crate::ids::{Micros, PartitionId};

pub const USERS: u32 = 100_000;
pub const PRODUCTS: u32 = 10_000;
/// The arrival of the first click where no start is given: 2025-06-01T00:00:05Z, so that none is dated in May.
pub const START: Micros = 1_748_736_005_000_000;
/// Clicks arrive at this rate, over all partitions, where none is given.
pub const RATE: f64 = 20_000.0;

/// Sessions of a partition that are open at a time. A power of two, so that lanes can be shuffled by an exclusive or.
const LANES: u64 = 1024;
const GROUP: u64 = 24;

const COUNTRIES: [(&str, u8); 8] =
    [("DE", 52), ("US", 103), ("GB", 141), ("FR", 172), ("NL", 198), ("ES", 221), ("PL", 242), ("SE", 255)];
const DEVICES: [(&str, &str, u8); 7] = [
    ("mobile", "android", 82),
    ("mobile", "ios", 141),
    ("desktop", "windows", 192),
    ("desktop", "macos", 228),
    ("desktop", "linux", 238),
    ("tablet", "ios", 249),
    ("tablet", "android", 255),
];
const CAMPAIGNS: [(&str, u8); 6] = [
    ("google", 97),
    ("direct", 161),
    ("newsletter", 192),
    ("facebook", 218),
    ("instagram", 241),
    ("bing", 255),
];

/// A seeded, endless supply of clicks for some number of partitions.
pub struct Clicks {
    seed: u64,
    partitions: u32,
    start: Micros,
    micros_per_click: f64,
    zipf: Zipf,
    products: Vec<Product>,
}

/// What a product looks like in a click, by rank of its popularity.
struct Product {
    sku: [u8; 9],
    price: [u8; 6],
    price_len: u8,
}

struct Session {
    /// Random bits of this session alone.
    bits: u64,
    number: u64,
    user: u32,
    len: u64,
    /// The place of the present click in the session.
    place: u64,
}

impl Clicks {
    /// `rate` counts clicks a second over all partitions, and tells when each arrives; [`RATE`] without one. `start` is
    /// when the first arrives; [`START`] without one.
    pub fn new(seed: u64, partitions: i32, rate: Option<f64>, start: Option<Micros>) -> Clicks {
        assert!(partitions > 0, "clicks need a partition, not {partitions}");
        let rate = rate.unwrap_or(RATE);
        assert!(rate.is_finite() && rate > 0.0, "clicks need a rate above 0, not {rate}");
        Clicks {
            seed,
            partitions: partitions as u32,
            start: start.unwrap_or(START),
            micros_per_click: 1e6 / rate,
            zipf: Zipf::new(PRODUCTS),
            products: (0..PRODUCTS).map(Product::of_rank).collect(),
        }
    }

    /// When a click arrives, which is also its record's timestamp. Never falls within a partition.
    pub fn arrival(&self, partition: PartitionId, offset: i64) -> Micros {
        let before = offset as f64 * f64::from(self.partitions) + f64::from(partition.0);
        self.start + (before * self.micros_per_click) as Micros
    }

    /// The first offset of a partition whose click arrives at `time` or later.
    pub fn first_at(&self, partition: PartitionId, time: Micros) -> i64 {
        // Three centuries are enough, and far from any overflow.
        let time = time.min(self.start.saturating_add(1 << 53));
        let clicks = time.saturating_sub(self.start) as f64 / self.micros_per_click;
        let mut offset = (((clicks - f64::from(partition.0)) / f64::from(self.partitions)) as i64).max(0);
        // The estimate is off by rounding.
        while offset > 0 && self.arrival(partition, offset - 1) >= time {
            offset -= 1;
        }
        while self.arrival(partition, offset) < time {
            offset += 1;
        }
        offset
    }

    /// The key of a click's record: its user.
    pub fn key(&self, partition: PartitionId, offset: i64) -> Vec<u8> {
        let mut key = b"u_".to_vec();
        let session = self.session(self.partition_bits(partition), partition, offset);
        key.extend_from_slice(&digits::<6>(u64::from(session.user)));
        key
    }

    /// Appends the click as JSON.
    pub fn write(&self, partition: PartitionId, offset: i64, out: &mut Vec<u8>) {
        let partition_bits = self.partition_bits(partition);
        let bits = mix(partition_bits ^ mix(offset as u64));
        let session = self.session(partition_bits, partition, offset);
        let (event_type, product, quantity) = session.step(bits, |bits| self.zipf.rank(bits));
        let event_time = self.arrival(partition, offset) - lag(mix(bits ^ 1));
        let product = &self.products[product as usize];
        let (device, os, _) = DEVICES[pick(session.bits, |i| DEVICES[i].2)];

        out.reserve(384);
        out.extend_from_slice(b"{\"event_id\":\"");
        out.extend_from_slice(&uuid(mix(bits ^ 2), mix(bits ^ 3)));
        out.extend_from_slice(b"\",\"event_type\":\"");
        out.extend_from_slice(event_type.as_bytes());
        out.extend_from_slice(b"\",\"event_ts\":\"");
        out.extend_from_slice(&rfc3339_millis(event_time));
        out.extend_from_slice(b"\",\"user_id\":\"u_");
        out.extend_from_slice(&digits::<6>(u64::from(session.user)));
        out.extend_from_slice(b"\",\"session_id\":\"s_");
        if session.number >= 100_000_000 {
            out.extend_from_slice((session.number / 100_000_000).to_string().as_bytes());
        }
        out.extend_from_slice(&digits::<8>(session.number % 100_000_000));
        out.extend_from_slice(b"\",\"product_id\":\"");
        out.extend_from_slice(&product.sku);
        out.extend_from_slice(b"\",\"price\":");
        out.extend_from_slice(&product.price[..usize::from(product.price_len)]);
        out.extend_from_slice(b",\"quantity\":");
        out.push(b'0' + quantity);
        out.extend_from_slice(b",\"country\":\"");
        out.extend_from_slice(COUNTRIES[pick(session.bits >> 8, |i| COUNTRIES[i].1)].0.as_bytes());
        out.extend_from_slice(b"\",\"device\":{\"type\":\"");
        out.extend_from_slice(device.as_bytes());
        out.extend_from_slice(b"\",\"os\":\"");
        out.extend_from_slice(os.as_bytes());
        out.extend_from_slice(b"\"},\"utm\":{\"source\":\"");
        out.extend_from_slice(CAMPAIGNS[pick(session.bits >> 16, |i| CAMPAIGNS[i].1)].0.as_bytes());
        out.extend_from_slice(b"\"}}");
    }

    fn partition_bits(&self, partition: PartitionId) -> u64 {
        mix(self.seed ^ mix(partition.0 as u64 + 1))
    }

    fn session(&self, partition_bits: u64, partition: PartitionId, offset: i64) -> Session {
        let (round, turn) = (offset as u64 / LANES, offset as u64 % LANES);
        // Another order of the lanes in each round: an exclusive or with a constant is a permutation.
        let lane = turn ^ (mix(partition_bits ^ !round) % LANES);
        let (group, step) = (round / GROUP, round % GROUP);
        let cut = 4 + mix(partition_bits ^ mix(!(group * LANES + lane))) % 17;
        let second = step >= cut;
        let (len, place) = if second { (GROUP - cut, step - cut) } else { (cut, step) };
        let nth = (group * 2 + u64::from(second)) * LANES + lane;
        let bits = mix(partition_bits.rotate_left(32) ^ mix(nth));
        let partition = u64::from(partition.0 as u32);
        // The users of this partition are those whose number leaves it as the remainder.
        let partitions = u64::from(self.partitions);
        let residents = (u64::from(USERS).saturating_sub(partition)).div_ceil(partitions).max(1);
        let user = (((bits >> 32) * residents) >> 32) * partitions + partition;
        Session { bits, number: nth * partitions + partition, user: user as u32, len, place }
    }
}

impl Session {
    /// Event type, rank of the product and quantity of the present click.
    fn step(&self, bits: u64, rank: impl Fn(u64) -> u32) -> (&'static str, u32, u8) {
        let plan = mix(self.bits ^ 1);
        let intent = plan % 100;
        // Six sessions in ten fill a cart, 25 in a hundred buy, ten empty it again.
        let cart_at = if intent < 60 { 2 + (plan >> 32) % (self.len - 3) } else { u64::MAX };
        let last = self.place == self.len - 1;
        let from_cart = match self.place {
            place if place == cart_at => Some("add_to_cart"),
            _ if last && intent < 25 => Some("purchase"),
            _ if last && intent < 35 => Some("remove_from_cart"),
            _ => None,
        };
        if let Some(event_type) = from_cart {
            let quantity = [1, 1, 1, 1, 1, 1, 1, 2, 2, 3][(plan >> 16) as usize % 10];
            return (event_type, rank(mix(self.bits ^ (cart_at + 1))), quantity);
        }
        let event_type = match bits % 100 {
            _ if self.place + 1 == cart_at => "product_view",
            _ if self.place == 0 => "page_view",
            0..40 => "page_view",
            40..80 => "product_view",
            80..92 => "search",
            _ => "filter",
        };
        (event_type, rank(mix(self.bits ^ (self.place + 2))), 1)
    }
}

impl Product {
    fn of_rank(rank: u32) -> Product {
        // A permutation, for 7919 is prime to 10,000: popularity does not show in the number.
        let number = (rank * 7919 + 417) % PRODUCTS;
        let mut sku = *b"sku_00000";
        sku[4..].copy_from_slice(&digits::<5>(u64::from(number)));
        // From 1.99 to about 300, the cheap ones more often.
        let draw = mix(u64::from(number)) >> 48;
        let cents = 199 + ((((draw * draw) >> 16) * 30_000) >> 16);
        let text = format!("{}.{:02}", cents / 100, cents % 100);
        let mut price = [0; 6];
        price[..text.len()].copy_from_slice(text.as_bytes());
        Product { sku, price, price_len: text.len() as u8 }
    }
}

/// How long before its arrival a click happened: up to 200 ms (90 %), 2 s (9 %) or 5 s (1 %). A millisecond is kept
/// back from the five seconds, for event times are cut to milliseconds.
fn lag(bits: u64) -> Micros {
    let within = |micros: u64| (((bits >> 32) * micros) >> 32) as Micros;
    match (bits as u32) % 100 {
        0..90 => within(200_000),
        90..99 => 200_000 + within(1_800_000),
        _ => 2_000_000 + within(2_999_000),
    }
}

/// The first entry whose upper bound is not below the lowest byte of `bits`.
fn pick(bits: u64, upper: impl Fn(usize) -> u8) -> usize {
    let draw = bits as u8;
    let mut index = 0;
    while upper(index) < draw {
        index += 1;
    }
    index
}

/// Sixty-four well mixed bits (the finalizer of SplitMix64); a bijection.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The last `N` decimal digits, zeros in front.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

/// A version 4 UUID of random bits.
fn uuid(high: u64, low: u64) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let high = high & !0xF000 | 0x4000;
    let low = low & !(3 << 62) | (2 << 62);
    let mut text = [b'-'; 36];
    let mut place = 0;
    for byte in high.to_be_bytes().into_iter().chain(low.to_be_bytes()) {
        if matches!(place, 8 | 13 | 18 | 23) {
            place += 1;
        }
        text[place] = HEX[usize::from(byte >> 4)];
        text[place + 1] = HEX[usize::from(byte & 15)];
        place += 2;
    }
    text
}

/// `2025-06-01T00:00:04.871Z`
fn rfc3339_millis(time: Micros) -> [u8; 24] {
    let millis = time.div_euclid(1000);
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000) as u64);
    let (year, month, day) = civil_date(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[0..4].copy_from_slice(&digits::<4>(year));
    text[5..7].copy_from_slice(&digits::<2>(month));
    text[8..10].copy_from_slice(&digits::<2>(day));
    text[11..13].copy_from_slice(&digits::<2>(of_day / 3_600_000));
    text[14..16].copy_from_slice(&digits::<2>(of_day / 60_000 % 60));
    text[17..19].copy_from_slice(&digits::<2>(of_day / 1000 % 60));
    text[20..23].copy_from_slice(&digits::<3>(of_day % 1000));
    text
}

/// Year, month and day of a count of days since 1970, in the Gregorian calendar: years are taken to begin in March, so
/// that the leap day is the last.
fn civil_date(days: i64) -> (u64, u64, u64) {
    let days = (days + 719_468) as u64;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
