//! Centroids: the means of the vectors that share an MCACHE entry.

use crate::caching::mcache::Outcome;
use crate::caching::outcomes::Outcomes;
use crate::vectors::VectorView;
use rayon::prelude::*;

/// Centroids of the entries that at least two vectors share, in order of the inserting vectors.
#[derive(Debug, Clone)]
pub(crate) struct Centroids {
    shared: Marks,
    positions: usize,
    /// For each run, the number of centroids in earlier runs, and the start of its own in `values`.
    runs: Vec<(u32, usize)>,
    values: Vec<f32>,
}

impl Centroids {
    pub fn new(view: &VectorView, outcomes: &Outcomes) -> Self {
        let layout = view.layout();
        let hits = || {
            outcomes.iter().zip(0u32..).filter_map(|(outcome, vector)| match outcome {
                Outcome::Hit(inserting) => Some((inserting as usize, vector)),
                Outcome::Mau | Outcome::Mnu => None,
            })
        };
        let shared = Marks::new(layout.vectors(), hits().map(|(inserting, _)| inserting));
        let groups = Groups::new(&shared, hits);

        let mut runs = Vec::with_capacity(layout.runs());
        let mut place = 0;
        for run in 0..layout.runs() {
            let first = shared.before(run * layout.positions);
            runs.push((first, place));
            let count = (shared.before((run + 1) * layout.positions) - first) as usize;
            place += count * view.streams()[run % layout.streams].length;
        }
        let mut values = vec![0.0; place];
        let mut rest = &mut values[..];
        let mut tasks = Vec::with_capacity(runs.len());
        for (run, &(first, start)) in runs.iter().enumerate() {
            let end = runs.get(run + 1).map_or(place, |next| next.1);
            let (own, others) = rest.split_at_mut(end - start);
            rest = others;
            tasks.push((view.streams()[run % layout.streams].length, first as usize, own));
        }
        tasks.into_par_iter().for_each(|(length, first, centroids)| {
            let buffers = || (vec![0.0f64; length], vec![0.0f32; length]);
            centroids.par_chunks_mut(length).enumerate().with_min_len(64).for_each_init(
                buffers,
                |(sums, buffer), (number, centroid)| {
                    average_group(view, groups.members(first + number), sums, buffer, centroid);
                },
            );
        });
        Self { shared, positions: layout.positions, runs, values }
    }

    /// The centroid of the entry that a vector inserted; `None` if no other vector shares the
    /// entry. `length` is the length of the vector.
    pub fn get(&self, inserting: usize, length: usize) -> Option<&[f32]> {
        self.shared.contains(inserting).then(|| {
            let (first, start) = self.runs[inserting / self.positions];
            let number = (self.shared.before(inserting) - first) as usize;
            &self.values[start + number * length..][..length]
        })
    }
}

/// Computes the mean of an inserting vector and its HITs. `sums` and `buffer` are buffers of the
/// vectors' length.
fn average_group(
    view: &VectorView,
    (inserting, hits): (u32, &[u32]),
    sums: &mut [f64],
    buffer: &mut [f32],
    centroid: &mut [f32],
) {
    sums.fill(0.0);
    for &vector in std::iter::once(&inserting).chain(hits) {
        let (sample, stream, position) = view.layout().locate(vector as usize);
        let vector = view.gather(sample, stream, position, buffer);
        for (sum, &x) in sums.iter_mut().zip(&*vector) {
            *sum += f64::from(x);
        }
    }
    let members = (hits.len() + 1) as f64;
    for (mean, sum) in centroid.iter_mut().zip(sums) {
        *mean = (*sum / members) as f32;
    }
}

/// A set of vectors that numbers its members in order.
#[derive(Debug, Clone)]
struct Marks {
    words: Vec<u64>,
    /// Members before each word.
    before: Vec<u32>,
}

impl Marks {
    fn new(vectors: usize, members: impl Iterator<Item = usize>) -> Self {
        // One more word, so that `before` may be asked for the number after the last vector.
        let mut words = vec![0u64; vectors / 64 + 1];
        for member in members {
            words[member / 64] |= 1 << (member % 64);
        }
        let mut sum = 0;
        let before = words.iter().map(|word| {
            sum += word.count_ones();
            sum - word.count_ones()
        });
        let before = before.collect();
        Self { words, before }
    }

    fn contains(&self, vector: usize) -> bool {
        self.words[vector / 64] >> (vector % 64) & 1 == 1
    }

    /// Number of members before a vector.
    fn before(&self, vector: usize) -> u32 {
        let word = self.words[vector / 64] & ((1 << (vector % 64)) - 1);
        self.before[vector / 64] + word.count_ones()
    }
}

/// The vectors of each shared entry.
struct Groups {
    inserting: Vec<u32>,
    /// The start of each group's HITs in `hits`; the last element is the end of the last group.
    starts: Vec<u32>,
    hits: Vec<u32>,
}

impl Groups {
    /// Groups the HITs by their inserting vector. `hits` yields pairs (inserting vector, vector),
    /// in order of arrival.
    fn new<I: Iterator<Item = (usize, u32)>>(shared: &Marks, hits: impl Fn() -> I) -> Self {
        let number = |inserting| shared.before(inserting) as usize;
        let count = shared.before.last().map_or(0, |&before| before as usize)
            + shared.words.last().map_or(0, |word| word.count_ones() as usize);
        let (mut inserting, mut starts) = (vec![0; count], vec![0u32; count + 1]);
        for (first, _) in hits() {
            inserting[number(first)] = first as u32;
            starts[number(first) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut sorted = vec![0; starts[count] as usize];
        // Each start advances to the end of its group, which is the start of the next group. So the
        // starts end up one place too far left.
        for (first, vector) in hits() {
            let at = &mut starts[number(first)];
            sorted[*at as usize] = vector;
            *at += 1;
        }
        starts.rotate_right(1);
        starts[0] = 0;
        Self { inserting, starts, hits: sorted }
    }

    /// The inserting vector of a group and its HITs.
    fn members(&self, group: usize) -> (u32, &[u32]) {
        let [start, end] = [self.starts[group], self.starts[group + 1]];
        (self.inserting[group], &self.hits[start as usize..end as usize])
    }
}
