//! What a vector is replaced by, so that a result with reuse is the exact product of the substituted
//! operand.

use crate::caching::mcache::Outcome;
use crate::caching::outcomes::Outcomes;
use crate::config::{Representative, Variant};
use crate::signing::dots::dot;
use crate::signing::signatures::mean;
use crate::substitution::centroids::Centroids;
use crate::vectors::VectorView;
use std::ops::Range;

/// The substitutes of an operand's vectors, made as they are asked for.
///
/// r stands for a vector x: of an MNU, which no entry holds, x itself; with
/// [`Representative::First`] the vector that inserted the entry (of a MAU, x itself), with
/// [`Representative::Centroid`] the mean of the inserting vector and all its HITs, for the inserting
/// one, too. Sums are in f64, in order of arrival, rounded to f32. The variant makes x' of it:
///
/// - `sign`, `sign+magnitude(m)`: x' = r.
/// - `sign+rescale`: x' = r |x| / |r|. Norms are in f64, element order; their ratio is rounded to f32
///   and multiplies each element in f32. A ratio that is not finite, as with |r| = 0, is taken for 1.
/// - `centred`: x' = r - mean(r) + mean(x), as the mean's share of a result is computed exactly. Means
///   are those that signatures are made with: the f32 sum of the elements in ascending order, times
///   1 / d rounded to f32. Their difference is added in f64 and each element rounded once, so that an
///   equal vector's substitute is that vector, bit for bit.
///
/// What stands for itself is not touched by the variant.
///
/// Without centroids nothing is held. Centroids take 4 bytes for each element of those entries that
/// more than one vector shares, 1.5 bits a vector and 16 bytes a run; while they are computed, 4
/// bytes a HIT and 8 an entry more.
#[derive(Debug, Clone)]
pub struct Substitutes<'v, 'a> {
    view: &'v VectorView<'a>,
    outcomes: &'v Outcomes,
    variant: Variant,
    representative: Representative,
    centroids: Option<Centroids>,
}

/// Room for a vector and its substitute; each thread has its own.
#[derive(Debug, Clone)]
pub struct Buffers {
    vector: Vec<f32>,
    substitute: Vec<f32>,
}

impl<'v, 'a> Substitutes<'v, 'a> {
    /// Prepares the substitutes; computes the centroids, in parallel, if they are asked for. The
    /// result does not depend on the number of threads.
    ///
    /// # Panics
    /// If the outcomes are not of the view's layout.
    pub fn new(
        view: &'v VectorView<'a>,
        outcomes: &'v Outcomes,
        variant: Variant,
        representative: Representative,
    ) -> Self {
        assert_eq!(view.layout(), outcomes.layout(), "outcomes of the view");
        let centroids = (representative == Representative::Centroid).then(|| Centroids::new(view, outcomes));
        Self { view, outcomes, variant, representative, centroids }
    }

    /// The vectors.
    pub fn view(&self) -> &'v VectorView<'a> {
        self.view
    }

    /// The outcomes of the vectors.
    pub fn outcomes(&self) -> &'v Outcomes {
        self.outcomes
    }

    /// What is reused.
    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    /// What stands for the vectors of an entry.
    pub(crate) fn representative(&self) -> Representative {
        self.representative
    }

    /// Room for what [`Substitutes::cut`] returns.
    pub fn buffers(&self) -> Buffers {
        let buffer = vec![0.0; self.view.max_length()];
        Buffers { vector: buffer.clone(), substitute: buffer }
    }

    /// A vector, and its substitute unless it stands for itself.
    ///
    /// # Panics
    /// If the buffers are of a view with shorter vectors.
    pub fn cut<'o>(
        &self,
        sample: usize,
        stream: usize,
        position: usize,
        buffers: &'o mut Buffers,
    ) -> (&'o [f32], Option<&'o [f32]>) {
        let (vector, found) = self.cut_representative(sample, stream, position, buffers);
        let substitute = found.map(|substitute| {
            self.vary(vector, substitute);
            &*substitute
        });
        (vector, substitute)
    }

    /// Calls `each` for these elements of a vector, with an element's number among them, its value and that of the
    /// substitute, as [`Substitutes::cut`] has them, but read where they lie if it can be. Whether there is a
    /// substitute: otherwise both values are the same.
    ///
    /// # Panics
    /// If the buffers are of a view with shorter vectors, or the vector has no such elements.
    #[inline]
    pub fn each_element(
        &self,
        (sample, stream, position): (usize, usize, usize),
        elements: &[usize],
        buffers: &mut Buffers,
        mut each: impl FnMut(usize, f32, f32),
    ) -> bool {
        let layout = self.view.layout();
        let index = (sample * layout.streams + stream) * layout.positions + position;
        let representative = self.outcomes.representative(index);
        let stands_for_itself = self.centroids.is_none() && representative == index;
        let plain = self.centroids.is_none() && matches!(self.variant, Variant::Sign | Variant::SignMagnitude(_));
        // Where they lie, if nothing is made of them.
        let in_place = (plain || stands_for_itself).then(|| self.view.in_place(sample, stream, position)).flatten();
        if let Some((values, places)) = in_place {
            let (sample, stream, position) = self.locate(representative, (sample, stream));
            if let Some((replaced, others)) = self.view.in_place(sample, stream, position) {
                for (number, &element) in elements.iter().enumerate() {
                    each(number, values[places[element]], replaced[others[element]]);
                }
                return !stands_for_itself;
            }
        }
        let (vector, substitute) = self.cut(sample, stream, position, buffers);
        let replaced = substitute.unwrap_or(vector);
        elements.iter().enumerate().for_each(|(number, &element)| each(number, vector[element], replaced[element]));
        substitute.is_some()
    }

    /// Cuts the vectors at consecutive positions of a run, and the differences of their substitutes
    /// from them, `[positions][elements]`: values and differences of f32. Returns whether any vector
    /// has a substitute.
    ///
    /// # Panics
    /// If the buffers are of a view with shorter vectors, or `exact` and `change` are not as long.
    pub fn cut_block(
        &self,
        (sample, stream): (usize, usize),
        positions: Range<usize>,
        buffers: &mut Buffers,
        exact: &mut [f64],
        change: &mut [f64],
    ) -> bool {
        let length = self.view.streams()[stream].length;
        assert_eq!(exact.len(), positions.len() * length, "elements of the vectors");
        assert_eq!(change.len(), exact.len(), "a difference for each element");
        let is_plain = self.centroids.is_none() && matches!(self.variant, Variant::Sign | Variant::SignMagnitude(_));
        let rows = if is_plain { self.view.patch_rows(stream) } else { None };
        let mut has_substitutes = false;
        let places = exact.chunks_exact_mut(length).zip(change.chunks_exact_mut(length));
        for (position, (exact, change)) in positions.zip(places) {
            let place = (sample, stream, position);
            let found = match rows {
                Some(1) => self.cut_patch::<1>(place, exact, change),
                Some(3) => self.cut_patch::<3>(place, exact, change),
                Some(5) => self.cut_patch::<5>(place, exact, change),
                Some(7) => self.cut_patch::<7>(place, exact, change),
                _ => None,
            };
            has_substitutes |= found.unwrap_or_else(|| {
                let (vector, substitute) = self.cut(sample, stream, position, buffers);
                let replaced = substitute.unwrap_or(vector);
                for (element, (value, replaced)) in vector.iter().zip(replaced).enumerate() {
                    exact[element] = f64::from(*value);
                    change[element] = f64::from(replaced - value);
                }
                substitute.is_some()
            });
        }
        has_substitutes
    }

    /// The same of one patch whose rows are `T` neighbours in a plane. None unless it and its
    /// representative lie inside one plane.
    #[inline]
    fn cut_patch<const T: usize>(
        &self,
        (sample, stream, position): (usize, usize, usize),
        exact: &mut [f64],
        change: &mut [f64],
    ) -> Option<bool> {
        let layout = self.view.layout();
        let first = (sample * layout.streams + stream) * layout.positions;
        let representative = self.outcomes.representative(first + position).wrapping_sub(first);
        if representative >= layout.positions {
            return None;
        }
        let (plane, down) = self.view.plane(sample, stream);
        let [own, other] = [self.view.start(position)?, self.view.start(representative)?];
        let (exact, _) = exact.as_chunks_mut::<T>();
        let (change, _) = change.as_chunks_mut::<T>();
        for (row, (exact, change)) in exact.iter_mut().zip(change).enumerate() {
            let values = plane[own + row * down..].first_chunk::<T>()?;
            let others = plane[other + row * down..].first_chunk::<T>()?;
            *exact = values.map(f64::from);
            *change = std::array::from_fn(|tap| f64::from(others[tap] - values[tap]));
        }
        Some(representative != position)
    }

    /// Where a vector is, which mostly is one of this run.
    fn locate(&self, vector: usize, (sample, stream): (usize, usize)) -> (usize, usize, usize) {
        let layout = self.view.layout();
        let first = (sample * layout.streams + stream) * layout.positions;
        match vector.checked_sub(first) {
            Some(position) if position < layout.positions => (sample, stream, position),
            // Takes divisions.
            _ => layout.locate(vector),
        }
    }

    /// A vector, and what stands for it before the variant, unless itself.
    pub(crate) fn cut_representative<'o>(
        &self,
        sample: usize,
        stream: usize,
        position: usize,
        buffers: &'o mut Buffers,
    ) -> (&'o [f32], Option<&'o mut [f32]>) {
        let layout = self.view.layout();
        let index = (sample * layout.streams + stream) * layout.positions + position;
        let vector = self.view.gather(sample, stream, position, &mut buffers.vector);
        let inserting = match self.outcomes.outcome(index) {
            Outcome::Mnu => return (vector, None),
            Outcome::Mau => index,
            Outcome::Hit(inserting) => inserting as usize,
        };
        let out = &mut buffers.substitute;
        let found = match &self.centroids {
            Some(centroids) => centroids.get(inserting, vector.len()).map(|centroid| {
                let out = &mut out[..centroid.len()];
                out.copy_from_slice(centroid);
                out
            }),
            None if inserting == index => None,
            None => {
                let (sample, stream, position) = self.locate(inserting, (sample, stream));
                Some(self.view.gather(sample, stream, position, out))
            }
        };
        (vector, found)
    }

    /// Makes the substitute of what stands for a vector.
    pub(crate) fn vary(&self, vector: &[f32], substitute: &mut [f32]) {
        match self.variant {
            Variant::Sign | Variant::SignMagnitude(_) => {}
            Variant::SignRescale => {
                let scale = (dot(vector, vector).sqrt() / dot(substitute, substitute).sqrt()) as f32;
                if scale.is_finite() {
                    for x in substitute {
                        *x *= scale;
                    }
                }
            }
            Variant::Centred => {
                let shift = f64::from(mean(vector)) - f64::from(mean(substitute));
                for x in substitute {
                    *x = (f64::from(*x) + shift) as f32;
                }
            }
        }
    }
}
