//! Look-ups per second on one core, compared with two plain implementations of the same cache: sets
//! in a `HashMap`, and a linear search for the tag in each set. Prints a line of JSON for each
//! case: `cargo bench -p mercury-reuse --bench hitmap [part of the names]`.

use mercury_reuse::config::{McacheConfig, Replacement, Scope, SetIndex};
use mercury_reuse::{Isa, Layout, Outcomes};
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

/// Vectors of a case.
const VECTORS: usize = 1 << 21;
/// Rounds, in which all implementations alternate. The best time counts.
const ROUNDS: usize = 5;

fn main() {
    // `cargo bench` adds an option of its own.
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    pool.install(|| {
        for positions in [1024, 50176] {
            for stream in ["random", "skewed", "equal", "repeats"] {
                let layout = Layout { samples: 1, streams: VECTORS / positions, positions };
                let signatures = signatures(stream, layout);
                for (name, replacement, entries) in [
                    ("none", Replacement::None, 1024),
                    ("lru", Replacement::Lru, 1024),
                    ("fifo", Replacement::Fifo, 1024),
                    ("unlimited", Replacement::None, 0),
                ] {
                    let config = McacheConfig { entries, replacement, ..McacheConfig::default() };
                    let name = format!("{stream}/{positions}/{name}");
                    if name.contains(&part) {
                        time_case(&name, layout, &signatures, &config);
                    }
                }
            }
        }
    });
}

/// An implementation: its name, and a function that looks up all vectors.
type Implementation<'a> = (&'static str, Box<dyn FnMut() -> Vec<u32> + 'a>);

fn time_case(name: &str, layout: Layout, signatures: &[u64], config: &McacheConfig) {
    let ours = |isa| {
        move || {
            let outcomes = black_box(Outcomes::look_up_with(layout, signatures, config, Scope::Channel, isa));
            vec![outcomes.representative(layout.vectors() - 1) as u32]
        }
    };
    let best = *Isa::available().last().expect("scalar code runs everywhere");
    let mut implementations: Vec<Implementation> = vec![("ours", Box::new(ours(best)))];
    if config.entries > 0 && best != Isa::Scalar {
        for isa in Isa::available().into_iter().filter(|&isa| isa != best) {
            let name = if isa == Isa::Scalar { "ours, scalar" } else { "ours, AVX2" };
            implementations.push((name, Box::new(ours(isa))));
        }
    }
    implementations.push(("HashMap of sets", Box::new(|| look_up_in_hash_map(layout, signatures, config))));
    if config.entries > 0 {
        implementations.push(("plain scan", Box::new(|| look_up_by_scan(layout, signatures, config))));
    }
    let mut times = vec![f64::INFINITY; implementations.len()];
    for _ in 0..ROUNDS {
        for ((_, look_up), time) in implementations.iter_mut().zip(&mut times) {
            let start = Instant::now();
            black_box(look_up());
            *time = time.min(start.elapsed().as_secs_f64());
        }
    }
    let rate = |time: f64| layout.vectors() as f64 / time / 1e6;
    let hitmap = Outcomes::look_up(layout, signatures, config, Scope::Channel);
    let hits: u64 = hitmap.counts().iter().map(|counts| counts.hit).sum();
    for ((peer, _), &time) in implementations.iter().zip(&times).skip(1) {
        println!(
            r#"{{"what": "{name}, {peer}", "hits": {:.3}, "ours": {:.1}, "peer": {:.1}, "unit": "M look-ups/s", "ratio": {:.2}}}"#,
            hits as f64 / layout.vectors() as f64,
            rate(times[0]),
            rate(time),
            time / times[0],
        );
    }
}

/// Makes a stream of signatures by its name.
fn signatures(stream: &str, layout: Layout) -> Vec<u64> {
    let mut state = 0x9E37_79B9_7F4A_7C15;
    let mut random = move || {
        // SplitMix64 (Steele and others 2014), public domain.
        state = u64::wrapping_add(state, 0x9E37_79B9_7F4A_7C15);
        let mut word: u64 = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    };
    let spread = |number: u64| number.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let octaves = if layout.positions > 1024 { 13.0 } else { 9.5 };
    let mut previous = 0;
    let mut one = |_| {
        let word = random();
        let fresh = spread(word >> 44);
        let unit = (word >> 11) as f64 / (1u64 << 53) as f64;
        previous = match stream {
            "random" => fresh,
            // The n-th most common signature has a probability proportional to 1 / n. About 65 %
            // hit.
            "skewed" => spread((octaves * unit).exp2() as u64),
            "equal" => 7,
            _ if random() % 10 < 4 => previous,
            _ => fresh,
        };
        previous
    };
    (0..layout.vectors()).map(&mut one).collect()
}

fn find_set(signature: u64, config: &McacheConfig) -> u64 {
    let key = match config.index {
        SetIndex::LowBits => signature,
        SetIndex::Mixed => {
            let mut key = signature;
            key ^= key >> 33;
            key = key.wrapping_mul(0xff51_afd7_ed55_8ccd);
            key ^= key >> 33;
            key = key.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            key ^ (key >> 33)
        }
    };
    key % u64::from(config.entries / config.ways)
}

/// Looks a signature up in a set, whose entries are in order of age, the oldest first. Returns its
/// code.
fn look_up_in_set(set: &mut Vec<(u64, u32)>, signature: u64, vector: u32, config: &McacheConfig) -> u32 {
    if let Some(at) = set.iter().position(|entry| entry.0 == signature) {
        let entry = set[at];
        if config.replacement == Replacement::Lru {
            set.remove(at);
            set.push(entry);
        }
        return entry.1;
    }
    if set.len() == config.ways as usize {
        if config.replacement == Replacement::None {
            return u32::MAX;
        }
        set.remove(0);
    }
    set.push((signature, vector));
    vector
}

/// Looks up all vectors with a `HashMap` of the sets with entries; without a limit, of the
/// signatures.
fn look_up_in_hash_map(layout: Layout, signatures: &[u64], config: &McacheConfig) -> Vec<u32> {
    let mut codes = Vec::with_capacity(signatures.len());
    let (mut sets, mut seen) = (HashMap::<u64, Vec<(u64, u32)>>::new(), HashMap::new());
    for (vector, &signature) in (0..).zip(signatures) {
        if (vector as usize).is_multiple_of(layout.positions) {
            sets.clear();
            seen.clear();
        }
        codes.push(if config.entries == 0 {
            *seen.entry(signature).or_insert(vector)
        } else {
            look_up_in_set(sets.entry(find_set(signature, config)).or_default(), signature, vector, config)
        });
    }
    codes
}

/// Looks up all vectors in an array of sets, each with a linear search.
fn look_up_by_scan(layout: Layout, signatures: &[u64], config: &McacheConfig) -> Vec<u32> {
    let mut codes = Vec::with_capacity(signatures.len());
    let mut sets = vec![Vec::with_capacity(config.ways as usize); (config.entries / config.ways) as usize];
    for (vector, &signature) in (0..).zip(signatures) {
        if (vector as usize).is_multiple_of(layout.positions) {
            sets.iter_mut().for_each(Vec::clear);
        }
        let set = &mut sets[find_set(signature, config) as usize];
        codes.push(look_up_in_set(set, signature, vector, config));
    }
    codes
}
