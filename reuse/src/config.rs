//! The scheme's configuration. Every value has a default; TOML keys are the field names.

/// Reads and writes a type as the text of its `FromStr` and `Display`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

mod granularity;
mod matrix;
mod training;

pub use granularity::{Channels, Granularity};
pub use matrix::{GivenProjection, Matrix};
pub use training::{BitsConfig, ReuseConfig, StopConfig};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Most multiply-accumulates per cycle of a unit for signatures.
pub const MAX_UNIT_MACS: u32 = 1 << 20;

/// Longest signature, bits.
pub const MAX_BITS: u32 = 64;

/// A value that the scheme cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct ConfigError {
    /// The key as it stands in the configuration file, such as `rpq.bits`.
    pub key: &'static str,
    /// What is wrong with its value, and what would be right.
    pub reason: String,
}

serde_as_text!(Variant);

/// What a signature says of a vector, and so what a HIT reuses. `sign` is the scheme's own form, the
/// others are ours to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The signs of the projection.
    Sign,
    /// The signs; a HIT multiplies the reused result by |x| / |representative|.
    SignRescale,
    /// The signs and, in so many low bits before them, the exponent of |x|.
    SignMagnitude(u32),
    /// The signs of the projection of x less its mean; the mean's share of a result is added exactly.
    Centred,
}

/// Most bits of a magnitude: from squares of f32 come exponents of |x| from -63 to 63.
pub const MAX_MAGNITUDE_BITS: u32 = 7;

impl Variant {
    /// Bits that hold the magnitude.
    pub fn magnitude_bits(self) -> u32 {
        if let Variant::SignMagnitude(bits) = self { bits } else { 0 }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variant::Sign => f.write_str("sign"),
            Variant::SignRescale => f.write_str("sign+rescale"),
            Variant::SignMagnitude(bits) => write!(f, "sign+magnitude({bits})"),
            Variant::Centred => f.write_str("centred"),
        }
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = text.strip_prefix("sign+magnitude(").and_then(|rest| rest.strip_suffix(')'));
        match (text, bits.map(str::parse)) {
            ("sign", _) => Ok(Variant::Sign),
            ("sign+rescale", _) => Ok(Variant::SignRescale),
            ("centred", _) => Ok(Variant::Centred),
            (_, Some(Ok(bits))) if (1..=MAX_MAGNITUDE_BITS).contains(&bits) => Ok(Variant::SignMagnitude(bits)),
            _ => Err(format!(
                "{text:?} is not one of sign, sign+rescale, sign+magnitude(m) with m of 1 to {MAX_MAGNITUDE_BITS}, centred"
            )),
        }
    }
}

/// What computes signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureUnit {
    /// The array, with the projection's rows as filters.
    Array,
    /// A unit beside the array, which signs the vectors of the next scope while the array computes this one.
    Dedicated,
    /// Nothing, in no time: a bound, no hardware.
    Free,
}

/// Random projection with quantisation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rpq {
    /// Signature length, 1 to 64 bits; those of a magnitude come on top.
    pub bits: u32,
    /// Seed of the projection matrix, if it is drawn.
    pub seed: u64,
    /// How vectors are cut.
    pub granularity: Granularity,
    /// What the signature says.
    pub variant: Variant,
    /// The projection matrix.
    pub projection: Matrix,
    /// What computes signatures.
    pub unit: SignatureUnit,
    /// Multiply-accumulates per cycle of a dedicated unit; default: one for each processing element of the array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs_per_cycle: Option<u32>,
}

impl Rpq {
    /// The part that decides signatures of up to 64 bits: without their length and their cost.
    #[must_use]
    pub fn projection_key(&self) -> Self {
        Self { bits: 1, unit: SignatureUnit::Array, macs_per_cycle: None, ..self.clone() }
    }

    /// Checks every value; the error names the key.
    fn validate(&self) -> Result<(), ConfigError> {
        let fail = |key, reason| Err(ConfigError { key, reason });
        let bits = self.bits;
        if !(1..=MAX_BITS).contains(&bits) {
            return fail("rpq.bits", format!("is {bits}, but a signature has 1 to {MAX_BITS} bits"));
        }
        if self.signature_bits() > MAX_BITS {
            let variant = self.variant;
            let reason = format!("is {variant}, but with {bits} bits of rpq.bits a signature has more than {MAX_BITS}");
            return fail("rpq.variant", reason);
        }
        if let Matrix::Given(given) = &self.projection {
            given.check_bits(bits).map_err(|reason| ConfigError { key: "rpq.bits", reason })?;
        }
        match (self.unit, self.macs_per_cycle) {
            (_, None) | (SignatureUnit::Dedicated, Some(1..=MAX_UNIT_MACS)) => Ok(()),
            (SignatureUnit::Dedicated, Some(macs)) => {
                let reason = format!(
                    "is {macs}, but a unit has 1 to {MAX_UNIT_MACS} multiply-accumulates per cycle; without a unit the array \
                     computes signatures (rpq.unit = \"array\")"
                );
                fail("rpq.macs_per_cycle", reason)
            }
            (_, Some(macs)) => {
                let reason = format!("is {macs}, but only a dedicated unit has it; set rpq.unit to dedicated");
                fail("rpq.macs_per_cycle", reason)
            }
        }
    }

    /// Bits of a whole signature.
    pub fn signature_bits(&self) -> u32 {
        self.bits + self.variant.magnitude_bits()
    }
}

impl Default for Rpq {
    fn default() -> Self {
        Self {
            bits: 20,
            seed: 1,
            granularity: Granularity::CHANNEL_PATCH,
            variant: Variant::Sign,
            projection: Matrix::Gaussian,
            unit: SignatureUnit::Array,
            macs_per_cycle: None,
        }
    }
}

/// How a signature chooses its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetIndex {
    /// The signature's bits are mixed first, so that alike signatures spread over the sets.
    Mixed,
    /// The signature as it is.
    LowBits,
}

impl SetIndex {
    /// What chooses a signature's set: the set's number is this modulo the number of sets.
    pub(crate) fn key(self, signature: u64) -> u64 {
        match self {
            SetIndex::Mixed => mix(signature),
            SetIndex::LowBits => signature,
        }
    }
}

/// Finaliser of `MurmurHash3` (Appleby, public domain), 64 bits: a bijection in which every input
/// bit reaches every output bit.
pub(crate) fn mix(mut key: u64) -> u64 {
    key ^= key >> 33;
    key = key.wrapping_mul(0xff51_afd7_ed55_8ccd);
    key ^= key >> 33;
    key = key.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

/// Over which stream of vectors MCACHE lives before it is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One sample and one set of weights: a channel, or a sub-vector's place in the row.
    Channel,
    /// One sample.
    Sample,
    /// The whole batch.
    Batch,
}

/// What becomes of a full set that a signature misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replacement {
    /// Nothing: the signature is not inserted (MNU).
    None,
    /// The entry that was found or inserted longest ago makes way.
    Lru,
    /// The entry that was inserted longest ago makes way.
    Fifo,
}

/// What stands for the vectors that share an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Representative {
    /// The vector that inserted it.
    First,
    /// Their mean, as in TREC and Deep Reuse; it takes a pass over the vectors before the products.
    Centroid,
}

/// The signature cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McacheConfig {
    /// Entries in all; 0: as many as it takes, in one set.
    pub entries: u32,
    /// Entries of a set; `entries` is a multiple.
    pub ways: u32,
    /// How a signature chooses its set.
    pub index: SetIndex,
    /// What becomes of a full set that a signature misses.
    pub replacement: Replacement,
    /// What stands for the vectors that share an entry.
    pub representative: Representative,
    /// Scope in convolutions.
    pub scope: Scope,
    /// Scope in fully connected layers, where a sample may be a single row. A product of two activations's
    /// right operand changes with the sample, so there it is never wider than one sample.
    pub scope_linear: Scope,
    /// Results that can be read in a cycle, in units of one array row's width.
    pub read_ports: u32,
    /// Results that MCACHE delivers in a cycle to a row-stationary array; 0: as many as it takes.
    pub results_per_cycle: u32,
    /// V: results that an entry holds, one for each filter in flight. A PE set of a row-stationary
    /// array may be V - 1 filters ahead of the slowest.
    pub versions: u32,
    /// Banks: with 2, PE sets may begin the next scope while others end the last.
    pub banks: u32,
}

impl Default for McacheConfig {
    fn default() -> Self {
        Self {
            entries: 1024,
            ways: 16,
            index: SetIndex::Mixed,
            replacement: Replacement::None,
            representative: Representative::First,
            scope: Scope::Channel,
            scope_linear: Scope::Batch,
            read_ports: 1,
            results_per_cycle: 0,
            versions: 4,
            banks: 2,
        }
    }
}

/// Signatures and their cache: what decides a HIT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheme {
    /// Signatures.
    pub rpq: Rpq,
    /// The cache.
    pub mcache: McacheConfig,
}

impl Scheme {
    /// Checks every value; the error names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |key, reason| Err(ConfigError { key, reason });
        let McacheConfig { entries, ways, read_ports, results_per_cycle, versions, banks, .. } = self.mcache;
        self.rpq.validate()?;
        if entries > 1 << 20 {
            return fail(
                "mcache.entries",
                format!("is {entries}, but must be between 1 and {}, or 0: unlimited", 1 << 20),
            );
        }
        if ways == 0 || (entries > 0 && ways > entries) {
            return fail("mcache.ways", format!("is {ways}, but must be between 1 and mcache.entries ({entries})"));
        }
        if entries % ways != 0 {
            let reason = format!("is {entries}, which is not a multiple of mcache.ways ({ways})");
            return fail("mcache.entries", reason);
        }
        if self.mcache.scope_linear == Scope::Channel {
            let reason = "is channel, but rows of a matrix product have no channels; set it to batch or sample";
            return fail("mcache.scope_linear", reason.to_owned());
        }
        if results_per_cycle > 1 << 20 {
            let reason = format!("is {results_per_cycle}, but must be between 1 and {}, or 0: no limit", 1 << 20);
            return fail("mcache.results_per_cycle", reason);
        }
        for (key, value) in [("mcache.read_ports", read_ports), ("mcache.versions", versions), ("mcache.banks", banks)]
        {
            if !(1..=1 << 16).contains(&value) {
                return fail(key, format!("is {value}, but must be between 1 and {}", 1 << 16));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_print() {
        for variant in [Variant::Sign, Variant::SignRescale, Variant::SignMagnitude(3), Variant::Centred] {
            assert_eq!(variant.to_string().parse(), Ok(variant));
        }
        for wrong in ["", "Sign", "sign+magnitude", "sign+magnitude(0)", "sign+magnitude(8)", "centered"] {
            assert!(wrong.parse::<Variant>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        let key = |change: fn(&mut Scheme)| {
            let mut scheme = Scheme::default();
            change(&mut scheme);
            scheme.validate().map_err(|error| error.key)
        };
        assert_eq!(key(|_| ()), Ok(()));
        assert_eq!(key(|s| s.rpq.bits = 0), Err("rpq.bits"));
        assert_eq!(key(|s| s.rpq.bits = 65), Err("rpq.bits"));
        assert_eq!(key(|s| (s.rpq.bits, s.rpq.variant) = (60, Variant::SignMagnitude(4))), Ok(()));
        assert_eq!(key(|s| (s.rpq.bits, s.rpq.variant) = (60, Variant::SignMagnitude(5))), Err("rpq.variant"));
        assert_eq!(key(|s| s.rpq.unit = SignatureUnit::Dedicated), Ok(()));
        assert_eq!(key(|s| s.rpq.macs_per_cycle = Some(84)), Err("rpq.macs_per_cycle"));
        let without_macs = |s: &mut Scheme| (s.rpq.unit, s.rpq.macs_per_cycle) = (SignatureUnit::Dedicated, Some(0));
        assert_eq!(key(without_macs), Err("rpq.macs_per_cycle"));
        assert_eq!(key(|s| s.mcache.results_per_cycle = u32::MAX), Err("mcache.results_per_cycle"));
        assert_eq!(key(|s| s.mcache.entries = 0), Ok(()));
        assert_eq!(key(|s| s.mcache.entries = 1000), Err("mcache.entries"));
        assert_eq!(key(|s| s.mcache.ways = 0), Err("mcache.ways"));
        assert_eq!(key(|s| s.mcache.ways = 2048), Err("mcache.ways"));
        assert_eq!(key(|s| s.mcache.read_ports = 0), Err("mcache.read_ports"));
        assert_eq!(key(|s| s.mcache.scope_linear = Scope::Channel), Err("mcache.scope_linear"));
    }
}
