//! Chance from a seed (splitmix64: Steele, Lea, Flood, 2014).

/// A stream of chance.
#[derive(Clone, Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Noise(seed)
    }

    /// Even between 0 and 1.
    pub(crate) fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal, with mean 0 and deviation 1 (the sum of twelve even ones).
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }

    /// Moves a number that wanders around 0 with this deviation; `alike` is the correlation of neighbours in time.
    pub(crate) fn drift(&mut self, value: &mut f64, deviation: f64, alike: f64) {
        *value = alike * *value + deviation * (1.0 - alike * alike).sqrt() * self.normal();
    }
}
