//! The vectors of a pass and their signatures.

use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::operand::LayerData;
use mercury_reuse::config::{McacheConfig, Rpq, Scope};
use mercury_reuse::{Outcomes, VectorView, signatures};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;

/// Bytes of a vector: its signature, and a shorter copy of it.
pub const BYTES_PER_VECTOR: u64 = 16;

/// Signatures that a thread shortens at a time, at least.
const PIECE: usize = 1 << 13;

/// The vectors that a pass streams and their signatures, by product.
pub struct Signed<'a> {
    /// The vectors.
    pub views: Vec<VectorView<'a>>,
    /// Their signatures; none where they were looked up at once.
    pub signatures: Vec<Vec<u64>>,
}

impl<'a> Signed<'a> {
    /// Cuts and signs the vectors of a pass.
    pub fn new(data: &'a LayerData, pass: Pass, rpq: &Rpq) -> Result<Self> {
        let views = cut(data, pass, rpq)?;
        let signatures = views.iter().map(|view| signatures(view, rpq)).collect();
        Ok(Self { views, signatures })
    }

    /// Cuts the vectors of a pass, signs and looks them up at once, as nothing else needs the signatures.
    pub fn look_up(
        data: &'a LayerData,
        pass: Pass,
        rpq: &Rpq,
        mcache: &McacheConfig,
        scope: Scope,
    ) -> Result<(Self, Vec<Outcomes>)> {
        let views = cut(data, pass, rpq)?;
        let outcomes = views.iter().map(|view| Outcomes::sign_and_look_up(view, rpq, mcache, scope)).collect();
        Ok((Self { views, signatures: Vec::new() }, outcomes))
    }

    /// The low `bits` bits of the signatures, by product: shorter signatures by the same projection.
    pub fn shorten(&self, bits: u32) -> Vec<Vec<u64>> {
        let mask = u64::MAX >> (u64::BITS - bits);
        let products = self.signatures.iter();
        products
            .map(|signatures| signatures.par_iter().with_min_len(PIECE).map(|signature| signature & mask).collect())
            .collect()
    }
}

fn cut<'a>(data: &'a LayerData, pass: Pass, rpq: &Rpq) -> Result<Vec<VectorView<'a>>> {
    let views = data.views(pass, rpq.granularity)?;
    if let Some(view) = views.iter().find(|view| u32::try_from(view.layout().vectors()).is_err()) {
        let reason = format!("has {} vectors, more than {}; capture fewer samples", view.layout().vectors(), u32::MAX);
        return Err(AnalyzerError::Layer { layer: data.kept.layer.name.clone(), reason });
    }
    Ok(views)
}

/// The vectors of a pass, their signatures and outcomes under one configuration.
pub struct Similarity<'a> {
    /// Vectors and signatures.
    pub signed: Signed<'a>,
    /// The outcomes, by product.
    pub outcomes: Vec<Outcomes>,
}

impl<'a> Similarity<'a> {
    /// Cuts, signs and looks up the vectors that a pass streams.
    pub fn find(data: &'a LayerData, pass: Pass, config: &Config) -> Result<Self> {
        let signed = Signed::new(data, pass, &config.rpq)?;
        let scope = config.mcache.effective_scope(&data.kept.layer.geometry);
        let products = signed.views.iter().zip(&signed.signatures);
        let outcomes = products
            .map(|(view, signatures)| Outcomes::look_up(view.layout(), signatures, &config.mcache, scope))
            .collect();
        Ok(Self { signed, outcomes })
    }
}
