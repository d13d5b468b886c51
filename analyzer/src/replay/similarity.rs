//! The vectors of a pass, their signatures and Hitmaps.

use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::operand::LayerData;
use mercury_reuse::config::{McacheConfig, Rpq, Scope};
use mercury_reuse::{Hitmap, Kernel, VectorView, signatures_with};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Signatures that a thread shortens at a time, at least.
const PIECE: usize = 1 << 13;

/// What one part of a layer's samples leaves to the next, as it is much alike, and how much they may take.
#[derive(Default)]
pub struct Memory {
    /// For signatures, by view.
    pub signatures: Vec<Vec<u64>>,
    /// For Hitmaps.
    pub hitmaps: Spare,
    /// Bytes that may be taken at a time by what lanes of PE sets do.
    pub lanes: usize,
}

/// Memory of Hitmaps that are not needed any more, for later ones.
#[derive(Default)]
pub struct Spare(Mutex<Vec<Vec<u32>>>);

impl Spare {
    /// Some of it, or none.
    pub fn take(&self) -> Vec<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes Hitmaps' memory back.
    pub fn give_hitmaps(&self, hitmaps: Vec<Hitmap>) {
        hitmaps.into_iter().map(Hitmap::into_memory).for_each(|memory| self.give(memory));
    }

    /// Takes memory back.
    pub fn give(&self, memory: Vec<u32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

/// The vectors that a pass streams and their signatures, one view for each product.
pub struct Signed<'a> {
    /// The vectors.
    pub views: Vec<VectorView<'a>>,
    /// Their signatures; none where they were looked up at once.
    pub signatures: Vec<Vec<u64>>,
    /// Bits of a signature.
    pub bits: u32,
}

impl<'a> Signed<'a> {
    /// Cuts and signs the vectors of a pass, in `memory` of earlier ones.
    pub fn of(data: &'a LayerData, pass: Pass, rpq: &Rpq, mut memory: Vec<Vec<u64>>) -> Result<Self> {
        let views = Self::views(data, pass, rpq)?;
        memory.resize_with(views.len(), Vec::new);
        for (view, signatures) in views.iter().zip(&mut memory) {
            signatures.resize(view.layout().vectors(), 0);
            signatures_with(Kernel::best(), view, rpq, signatures);
        }
        Ok(Self { views, signatures: memory, bits: rpq.signature_bits() })
    }

    /// Cuts the vectors of a pass, signs and looks them up at once, in `memory` of earlier ones.
    pub fn looked_up(
        data: &'a LayerData,
        pass: Pass,
        rpq: &Rpq,
        (mcache, scope): (&McacheConfig, Scope),
        memory: &mut Memory,
    ) -> Result<(Self, Vec<Hitmap>)> {
        let views = Self::views(data, pass, rpq)?;
        let Memory { signatures, hitmaps, .. } = memory;
        signatures.resize_with(views.len(), Vec::new);
        let look_up = |(view, signatures): (&VectorView, &mut Vec<u64>)| {
            Hitmap::of(view, rpq, mcache, scope, hitmaps.take(), signatures)
        };
        let hitmaps = views.iter().zip(signatures).map(look_up).collect();
        Ok((Self { views, signatures: Vec::new(), bits: rpq.signature_bits() }, hitmaps))
    }

    fn views(data: &'a LayerData, pass: Pass, rpq: &Rpq) -> Result<Vec<VectorView<'a>>> {
        let views = data.views(pass, rpq.granularity)?;
        if let Some(view) = views.iter().find(|view| u32::try_from(view.layout().vectors()).is_err()) {
            let reason =
                format!("has {} vectors, more than {}; capture fewer samples", view.layout().vectors(), u32::MAX);
            return Err(AnalyzerError::Layer { layer: data.kept.layer.name.clone(), reason });
        }
        Ok(views)
    }

    /// The signatures' low `bits` bits: what shorter signatures of the same projection are.
    pub fn shortened(&self, bits: u32) -> Vec<Vec<u64>> {
        let mask = u64::MAX >> (u64::BITS - bits);
        let shortened = |signatures: &Vec<u64>| {
            signatures.par_iter().with_min_len(PIECE).map(|signature| signature & mask).collect()
        };
        self.signatures.iter().map(shortened).collect()
    }

    /// Looks signatures of these vectors up in an MCACHE, in `memory` of earlier Hitmaps.
    pub fn look_up(&self, signatures: &[Vec<u64>], mcache: &McacheConfig, scope: Scope, memory: &Spare) -> Vec<Hitmap> {
        let look_up = |(view, signatures): (&VectorView, &Vec<u64>)| {
            Hitmap::with_memory(view.layout(), signatures, mcache, scope, memory.take())
        };
        self.views.iter().zip(signatures).map(look_up).collect()
    }
}

/// The vectors of a pass and their Hitmaps under one configuration.
pub struct Similarity<'a> {
    /// Vectors and signatures.
    pub signed: Signed<'a>,
    /// The outcomes of each view's vectors.
    pub hitmaps: Vec<Hitmap>,
}

impl<'a> Similarity<'a> {
    /// Cuts, signs and looks up the vectors that a pass streams.
    pub fn of(data: &'a LayerData, pass: Pass, config: &Config) -> Result<Self> {
        let signed = Signed::of(data, pass, &config.rpq, Vec::new())?;
        let scope = config.mcache.scope_of(&data.kept.layer.geometry);
        let hitmaps = signed.look_up(&signed.signatures, &config.mcache, scope, &Spare::default());
        Ok(Self { signed, hitmaps })
    }
}
