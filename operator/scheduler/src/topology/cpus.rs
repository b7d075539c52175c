//! Sets of CPU numbers, written as Linux, libvirt and Nova write them: `0-3,8,^2`.

use std::fmt;
use std::str::FromStr;

/// The largest CPU number that is taken: what text says is bounded by it.
const LARGEST: u32 = 4095;

/// A set of CPU numbers.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CpuSet {
    /// Never ends in a zero.
    words: Vec<u64>,
}

/// Why text is no set of CPU numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    /// Not a number, a range or an exclusion.
    #[error("reading the CPUs: {0:?} is no number such as 2, range such as 0-3, or exclusion such as ^2")]
    Part(String),
    /// A range that ends before it begins.
    #[error("reading the CPUs: the range {0:?} ends before it begins")]
    Backwards(String),
    /// Too large.
    #[error("reading the CPUs: {0:?} has a number above {LARGEST}")]
    TooLarge(String),
}

impl CpuSet {
    /// No CPUs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a CPU; numbers above 4095 are left out.
    pub fn insert(&mut self, cpu: u32) {
        if cpu > LARGEST {
            return;
        }
        let (word, bit) = (cpu as usize / 64, cpu % 64);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << bit;
    }

    /// Takes a CPU out.
    pub fn remove(&mut self, cpu: u32) {
        if let Some(word) = self.words.get_mut(cpu as usize / 64) {
            *word &= !(1 << (cpu % 64));
        }
        self.trim();
    }

    /// Whether a CPU is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        let word = self.words.get(cpu as usize / 64);
        word.is_some_and(|word| word & (1 << (cpu % 64)) != 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The numbers, the least first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.words).flat_map(|(at, &word): (u32, &u64)| {
            let mut left = word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros();
                    left &= left - 1;
                    at * 64 + bit
                })
            })
        })
    }

    /// Those of both.
    pub fn union(&self, other: &Self) -> Self {
        let (mut long, short) = if self.words.len() < other.words.len() {
            (other.clone(), self)
        } else {
            (self.clone(), other)
        };
        for (word, other) in long.words.iter_mut().zip(&short.words) {
            *word |= other;
        }
        long
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(one, other)| one & other);
        Self { words: words.collect() }.trimmed()
    }

    /// How many are in both.
    pub fn shared_with(&self, other: &Self) -> usize {
        let words = self.words.iter().zip(&other.words);
        words.map(|(one, other)| (one & other).count_ones() as usize).sum()
    }

    /// Those that the other doesn't have.
    pub fn difference(&self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        let words = self.words.iter().zip(others).map(|(one, other)| one & !other);
        Self { words: words.collect() }.trimmed()
    }

    /// Whether the other has all of these.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    fn trimmed(mut self) -> Self {
        self.trim();
        self
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(cpus: T) -> Self {
        let mut set = Self::new();
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    /// Exclusions hold wherever they stand. Empty text is an empty set.
    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let short = |part: &str| part.chars().take(64).collect::<String>();
        let number = |text: &str, part: &str| -> Result<u32, CpuSetError> {
            let text = text.trim();
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(CpuSetError::Part(short(part)));
            }
            let cpu = text.parse().ok().filter(|&cpu| cpu <= LARGEST);
            cpu.ok_or_else(|| CpuSetError::TooLarge(short(part)))
        };
        let (mut set, mut without) = (Self::new(), Self::new());
        for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            if let Some(excluded) = part.strip_prefix('^') {
                without.insert(number(excluded, part)?);
            } else if let Some((first, last)) = part.split_once('-') {
                let (first, last) = (number(first, part)?, number(last, part)?);
                if last < first {
                    return Err(CpuSetError::Backwards(short(part)));
                }
                (first..=last).for_each(|cpu| set.insert(cpu));
            } else {
                set.insert(number(part, part)?);
            }
        }
        Ok(set.difference(&without))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn a_set_is_read_and_written_as_linux_does() {
        for (text, written) in [
            ("", ""),
            ("3", "3"),
            ("0-3,8", "0-3,8"),
            ("8,0,1, 2", "0-2,8"),
            ("^2,0-3", "0,1,3"),
            ("63-65,128", "63-65,128"),
            ("5,^5", ""),
        ] {
            assert_eq!(set(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused_with_the_part_that_is_wrong() {
        for text in [",", "0-", "-3", "a", "1;2", "+1", "0--2", "^"] {
            assert!(matches!(text.parse::<CpuSet>(), Err(CpuSetError::Part(_))), "{text}");
        }
        assert_eq!("0,7-3".parse::<CpuSet>(), Err(CpuSetError::Backwards("7-3".to_owned())));
        for text in ["4096", "0-99999999999999999999"] {
            assert!(
                matches!(text.parse::<CpuSet>(), Err(CpuSetError::TooLarge(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn sets_are_equal_whatever_was_in_them_before() {
        let mut was_larger = set("0,200");
        was_larger.remove(200);
        assert_eq!(was_larger, set("0"));
        assert_eq!(set("0-70").intersection(&set("0-3")), set("0-3"));
        assert_eq!(set("0-70").difference(&set("4-70")), set("0-3"));
        assert_eq!(set("1").union(&set("70")), set("1,70"));
        assert!(set("1,2").is_subset(&set("0-3")) && !set("1,9").is_subset(&set("0-3")));
        assert_eq!((set("0-3,64").len(), set("").len()), (5, 0));
    }
}
