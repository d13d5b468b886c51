//! What a HIT costs a PE set.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Largest denominator of a fraction of a cycle: decimals have up to 6 places.
const MAX_DENOMINATOR: u64 = 1_000_000;

/// Most cycles of a HIT.
const MAX_CYCLES: u64 = 1 << 16;

/// The text of [`HitCycles::Column`].
const COLUMN: &str = "column";

/// An exact number of cycles, in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fraction {
    numerator: u64,
    denominator: u64,
}

impl Fraction {
    /// `numerator / denominator`.
    ///
    /// # Panics
    /// If the denominator is 0.
    pub fn new(numerator: u64, denominator: u64) -> Self {
        assert!(denominator > 0, "a fraction's denominator is not 0");
        let divisor = greatest_common_divisor(numerator, denominator);
        Self { numerator: numerator / divisor, denominator: denominator / divisor }
    }

    /// Computes `count` times the fraction, rounded up.
    pub fn multiply_rounding_up(self, count: u64) -> u64 {
        let product = u128::from(count) * u128::from(self.numerator);
        u64::try_from(product.div_ceil(u128::from(self.denominator))).unwrap_or(u64::MAX)
    }

    /// Whether the fraction is less than `1 / divisor`.
    pub fn is_below_part(self, divisor: u64) -> bool {
        u128::from(self.numerator) * u128::from(divisor) < u128::from(self.denominator)
    }

    /// How many times the fraction fits into 1; `None` for 0.
    pub fn per_cycle(self) -> Option<f64> {
        (self.numerator > 0).then(|| self.denominator as f64 / self.numerator as f64)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            denominator => write!(f, "{}/{denominator}", self.numerator),
        }
    }
}

/// Cycles that a HIT takes in its PE set, for each filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HitCycles {
    /// This number, in every set.
    Exact(Fraction),
    /// `1 / k_h` of a cycle: each of the set's `k_h` PEs takes a result per cycle. A result is added to its position's
    /// sum, or multiplied and added, so no set of real PEs takes less.
    Column,
}

impl HitCycles {
    /// None: a bound.
    pub const FREE: Self = Self::Exact(Fraction { numerator: 0, denominator: 1 });

    /// One cycle.
    pub const ONE: Self = Self::Exact(Fraction { numerator: 1, denominator: 1 });

    /// Cycles of a HIT in a set of so many PEs.
    pub fn resolve(self, pes: u64) -> Fraction {
        match self {
            Self::Exact(cycles) => cycles,
            Self::Column => Fraction::new(1, pes),
        }
    }
}

impl fmt::Display for HitCycles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(cycles) => cycles.fmt(f),
            Self::Column => f.write_str(COLUMN),
        }
    }
}

impl FromStr for HitCycles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == COLUMN {
            return Ok(Self::Column);
        }
        let fraction = match text.split_once('/') {
            Some((numerator, denominator)) => parse_quotient(numerator, denominator),
            None => parse_decimal(text),
        };
        let fraction = fraction.filter(|fraction| fraction.numerator <= MAX_CYCLES * fraction.denominator);
        fraction.map(Self::Exact).ok_or_else(|| {
            format!(
                "{text:?} is not cycles of a HIT: a number from 0 to {MAX_CYCLES} such as 1 or 0.25 (up to 6 decimals), \
                 a fraction such as 1/3, or column"
            )
        })
    }
}

fn parse_quotient(numerator: &str, denominator: &str) -> Option<Fraction> {
    let denominator = parse_digits(denominator).filter(|denominator| (1..=MAX_DENOMINATOR).contains(denominator))?;
    Some(Fraction::new(parse_digits(numerator)?, denominator))
}

fn parse_decimal(text: &str) -> Option<Fraction> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let denominator = 10_u64.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    if denominator > MAX_DENOMINATOR {
        return None;
    }
    let numerator = parse_digits(whole)?.checked_mul(denominator)?.checked_add(parse_digits(decimals)?)?;
    Some(Fraction::new(numerator, denominator))
}

/// A number of digits alone: no sign, which `u64::from_str` accepts.
fn parse_digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Serialize for HitCycles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(Fraction { numerator, denominator: 1 }) => serializer.serialize_u64(*numerator),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for HitCycles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// As TOML and JSON write it; a number's shortest text has the decimals that were written.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(i64),
            Decimal(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer) {
            Ok(Written::Whole(number)) => number.to_string(),
            Ok(Written::Decimal(number)) => number.to_string(),
            Ok(Written::Text(text)) => text,
            Err(_) => return Err(de::Error::custom("must be a number, a fraction such as \"1/3\", or \"column\"")),
        };
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HitCycles, String> {
        text.parse()
    }

    #[test]
    fn cycles_are_exact_and_read_back_as_they_print() {
        for (text, printed) in [
            ("1", "1"),
            ("0", "0"),
            ("0.25", "1/4"),
            ("1.0", "1"),
            ("2/6", "1/3"),
            ("1/3", "1/3"),
            ("column", "column"),
        ] {
            let cycles = parse(text).unwrap();
            assert_eq!(cycles.to_string(), printed, "{text}");
            assert_eq!(parse(printed), Ok(cycles), "{text}");
            let json = serde_json::to_string(&cycles).unwrap();
            assert_eq!(serde_json::from_str::<HitCycles>(&json).unwrap(), cycles, "{json}");
        }
        assert_eq!(serde_json::to_string(&HitCycles::ONE).unwrap(), "1");
        assert_eq!(serde_json::from_str::<HitCycles>("0.3").unwrap(), parse("3/10").unwrap());
    }

    #[test]
    fn what_is_no_number_of_cycles_is_refused() {
        let wrong =
            ["", "1/0", "a/b", "1/", "/3", "-1", "+1", "1.-5", "1e3", "0.1234567", "65537", "1/3/5", "Column", "nan"];
        for text in wrong {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("column"), "{error}");
        }
        for json in ["-1", "true", "[1]", "1e-9"] {
            assert!(serde_json::from_str::<HitCycles>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_column_shares_a_cycle_among_its_pes() {
        assert_eq!(HitCycles::Column.resolve(3), Fraction::new(1, 3));
        assert_eq!(Fraction::new(1, 3).multiply_rounding_up(7), 3);
        assert_eq!(Fraction::new(0, 1).multiply_rounding_up(7), 0);
        assert!(Fraction::new(1, 4).is_below_part(3) && !Fraction::new(1, 3).is_below_part(3));
        assert_eq!((Fraction::new(1, 3).per_cycle(), Fraction::new(0, 5).per_cycle()), (Some(3.0), None));
    }
}
