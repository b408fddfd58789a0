//! The generator behind Python's `random`, for runs that must draw what the artifact drew.
//!
//! Mersenne Twister of period 2^19937-1 (Matsumoto and Nishimura, 1998), seeded and read as CPython
//! does it.

/// Words of state.
const WORDS: usize = 624;
/// Distance of the word that is mixed in.
const MIDDLE: usize = 397;

/// A stream of draws that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Mersenne {
    words: Vec<u32>,
    next: usize,
}

impl Mersenne {
    /// The stream after `random.seed(seed)`.
    pub fn new(seed: u64) -> Self {
        let mut words = vec![0; WORDS];
        words[0] = 19_650_218;
        for at in 1..WORDS {
            words[at] = mixed(&words, at, 1_812_433_253).wrapping_add(at as u32);
        }
        let key = [seed as u32, (seed >> 32) as u32];
        let key = if key[1] == 0 { &key[..1] } else { &key[..] };
        let mut at = 1;
        for round in 0..WORDS {
            let word = words[at] ^ mixed(&words, at, 1_664_525);
            let place = round % key.len();
            words[at] = word.wrapping_add(key[place]).wrapping_add(place as u32);
            at = advance(&mut words, at);
        }
        for _ in 1..WORDS {
            words[at] = (words[at] ^ mixed(&words, at, 1_566_083_941)).wrapping_sub(at as u32);
            at = advance(&mut words, at);
        }
        words[0] = 1 << 31;
        Self { words, next: WORDS }
    }

    /// `random.random()`: from zero to below one, in steps of 2^-53.
    pub fn unit(&mut self) -> f64 {
        let high = f64::from(self.word() >> 5);
        let low = f64::from(self.word() >> 6);
        (high * 67_108_864.0 + low) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// `random.randrange(count)`: a whole number below `count`; zero, and no draw, if `count` is zero.
    pub fn below(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        loop {
            let draw = self.word() >> count.leading_zeros();
            if draw < count {
                return draw;
            }
        }
    }

    /// `random.shuffle(list)`.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = self.below(at as u32 + 1) as usize;
            list.swap(at, other);
        }
    }

    /// `random.sample(list, len(list))`: everything once, in drawn order.
    pub fn sample<T: Copy>(&mut self, list: &[T]) -> Vec<T> {
        let mut pool = list.to_vec();
        let draw = |left: usize| {
            let at = self.below(left as u32) as usize;
            let drawn = pool[at];
            pool[at] = pool[left - 1];
            drawn
        };
        (1..=list.len()).rev().map(draw).collect()
    }

    /// 32 random bits.
    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn refill(&mut self) {
        for at in 0..WORDS {
            let (this, following) = (self.words[at], self.words[(at + 1) % WORDS]);
            let joined = (this & (1 << 31)) | (following & !(1 << 31));
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[at] = self.words[(at + MIDDLE) % WORDS] ^ (joined >> 1) ^ twist;
        }
        self.next = 0;
    }
}

/// The word before, mixed and multiplied.
fn mixed(words: &[u32], at: usize, factor: u32) -> u32 {
    let before = words[at - 1];
    (before ^ (before >> 30)).wrapping_mul(factor)
}

/// The next place to mix; past the end the last word carries over to the front.
fn advance(words: &mut [u32], at: usize) -> usize {
    if at + 1 < WORDS {
        return at + 1;
    }
    words[0] = words[WORDS - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_cpython() {
        let words = |seed: u64, count: usize| {
            let mut draws = Mersenne::new(seed);
            (0..count).map(|_| draws.word()).collect::<Vec<_>>()
        };
        assert_eq!(words(0, 4), [3_626_764_237, 1_654_615_998, 3_255_389_356, 3_823_568_514]);
        assert_eq!(words(5489, 2), [3_382_763_572, 956_215_839]);
        assert_eq!(words(12_345_678_901_234_567_890, 2), [2_199_100_970, 3_695_432_519]);
        // Past the first refill.
        assert_eq!(words(1, 700)[699], 3_348_972_608);
    }

    #[test]
    fn draws_are_those_of_cpython() {
        let mut draws = Mersenne::new(0);
        let units: Vec<f64> = (0..3).map(|_| draws.unit()).collect();
        assert_eq!(
            units,
            [0.844_421_851_525_048_1, 0.757_954_402_940_302_5, 0.420_571_580_830_845]
        );
        let mut draws = Mersenne::new(0);
        let below: Vec<u32> = (0..6).map(|_| draws.below(16_657)).collect();
        assert_eq!(below, [12_623, 13_781, 1_326, 8_484, 15_922, 13_268]);
        let mut list: Vec<u32> = (0..10).collect();
        Mersenne::new(0).shuffle(&mut list);
        assert_eq!(list, [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]);
        let sample = Mersenne::new(0).sample(&(0..10).collect::<Vec<u32>>());
        assert_eq!(sample, [6, 9, 0, 2, 4, 3, 5, 1, 8, 7]);
    }

    #[test]
    fn lists_without_a_choice_cost_no_draw() {
        let mut draws = Mersenne::new(42);
        draws.shuffle(&mut [1]);
        draws.shuffle::<u32>(&mut []);
        assert_eq!(draws.below(0), 0);
        let mut list = [0, 1, 2, 3, 4];
        draws.shuffle(&mut list);
        assert_eq!(list, [3, 1, 2, 4, 0]);
        assert_eq!(draws.unit(), 0.244_891_853_803_476_22);
    }
}
