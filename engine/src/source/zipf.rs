//! Draws ranks by Zipf's law in constant time, by the alias method.
//!
//! The table is made of additions, multiplications, divisions and square roots alone, which IEEE 754 rounds alike
//! everywhere; `powf` differs between C libraries, and the same seed must give the same bytes on every machine.

/// Ranks `0..n` with weights `1 / (rank + 1)^1.05`.
pub(super) struct Zipf {
    cells: Vec<Cell>,
}

/// A draw that falls into a cell is the cell's own rank below `threshold`, else the alias.
#[derive(Clone, Copy)]
struct Cell {
    threshold: u32,
    alias: u32,
}

impl Zipf {
    pub(super) fn new(n: u32) -> Zipf {
        let weights: Vec<f64> = (1..=n).map(|k| 1.0 / to_the_1_05(f64::from(k))).collect();
        let total: f64 = weights.iter().sum();
        // Vose: cells that hold less than their share are filled up from those that hold more.
        let mut share: Vec<f64> = weights.iter().map(|weight| weight / total * f64::from(n)).collect();
        let mut cells: Vec<Cell> = (0..n).map(|alias| Cell { threshold: u32::MAX, alias }).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..n).partition(|&k| share[k as usize] < 1.0);
        while let (Some(&poor), Some(&rich)) = (small.last(), large.last()) {
            small.pop();
            let own = share[poor as usize];
            cells[poor as usize] = Cell { threshold: (own * 4_294_967_296.0) as u32, alias: rich };
            share[rich as usize] -= 1.0 - own;
            if share[rich as usize] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        Zipf { cells }
    }

    /// The rank for 64 evenly distributed bits.
    pub(super) fn rank(&self, bits: u64) -> u32 {
        let cell = ((bits >> 32) * self.cells.len() as u64) >> 32;
        let Cell { threshold, alias } = self.cells[cell as usize];
        if (bits as u32) < threshold { cell as u32 } else { alias }
    }
}

/// `k^1.05` as `k · (k^¼)^⅕`, the fifth root by Newton's method.
fn to_the_1_05(k: f64) -> f64 {
    let fourth_root = k.sqrt().sqrt();
    let mut root = fourth_root;
    for _ in 0..64 {
        let square = root * root;
        root = (4.0 * root + fourth_root / (square * square)) / 5.0;
    }
    k * root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::clicks::mix;

    #[test]
    fn the_power_is_right() {
        for k in [1.0, 2.0, 17.0, 417.0, 10_000.0] {
            let (ours, theirs) = (to_the_1_05(k), f64::powf(k, 1.05));
            assert!((ours / theirs - 1.0).abs() < 1e-12, "{k}: {ours} and {theirs}");
        }
    }

    #[test]
    fn draws_follow_the_law() {
        let zipf = Zipf::new(10_000);
        let mut counts = vec![0u32; 10_000];
        let draws = 1_000_000u64;
        for i in 0..draws {
            counts[zipf.rank(mix(i)) as usize] += 1;
        }
        let total: f64 = (1..=10_000).map(|k| f64::powf(f64::from(k), -1.05)).sum();
        for rank in [0usize, 1, 2, 9, 99] {
            let expected = f64::powf((rank + 1) as f64, -1.05) / total * draws as f64;
            let got = f64::from(counts[rank]);
            assert!(
                (got - expected).abs() < 5.0 * expected.sqrt(),
                "rank {rank}: {got}, expected {expected}"
            );
        }
        let tail: u32 = counts[5_000..].iter().sum();
        let expected =
            (5_001..=10_000).map(|k| f64::powf(f64::from(k), -1.05)).sum::<f64>() / total * draws as f64;
        assert!(
            (f64::from(tail) - expected).abs() < 5.0 * expected.sqrt(),
            "tail {tail}, expected {expected}"
        );
    }
}
