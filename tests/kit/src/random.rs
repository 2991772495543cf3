//! Random choices that a failing test can repeat: the seed is printed, and taken from `SKEP_TEST_SEED`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// Seeds from the environment or the clock, and says so where a failure's output will show it.
    pub fn announced() -> Self {
        let seed = match std::env::var("SKEP_TEST_SEED") {
            Ok(text) => text.parse().expect("SKEP_TEST_SEED is a number"),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
                now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40)
            }
        };
        println!("repeat with SKEP_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn with_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    pub fn duration_up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64 + 1))
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
