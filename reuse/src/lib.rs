//! Input-similarity reuse as MERCURY (HPCA 2023) proposes it: input vectors are cut from a layer's
//! operand ([`VectorView`]), projected and quantised to signatures ([`Projection`]), and looked up in
//! a cache, MCACHE; [`Outcomes`] holds the outcome of every vector, the Hitmap.
//!
//! No files and no tensors library here: the analyzer that predicts and the tracer that trains with
//! reuse decide a HIT by this same code.
//!
//! ```
//! use mercury_reuse::{Outcomes, Planes, VectorView, config::*, signatures};
//! use mercury_trace::geometry::{Conv2d, Pass};
//!
//! let conv = Conv2d {
//!     in_channels: 1, out_channels: 8, input: [4, 4], kernel: [3, 3],
//!     stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1,
//! };
//! // A plane whose rows are all alike: the two windows in a column see the same vector.
//! let values: Vec<f32> = (0..16).map(|i| [1.0, -2.0, 3.0, 0.5][i % 4]).collect();
//! let planes = Planes { values: &values, samples: 1, channels: 1, height: 4, width: 4 };
//! let scheme = Scheme::default();
//! let view = VectorView::new(planes, conv.windows(Pass::Forward)[0], 1, scheme.rpq.granularity);
//! let signatures = signatures(&view, &scheme.rpq);
//! let outcomes = Outcomes::look_up(view.layout(), &signatures, &scheme.mcache, scheme.mcache.scope);
//! assert_eq!(outcomes.counts()[0].hit, 2);
//! assert_eq!(outcomes.representative(2), 0);
//! ```

pub mod bounds;
mod caching;
pub mod config;
pub mod cpu;
mod growth;
mod signing;
mod simd;
mod substitution;
mod vectors;

pub use bounds::analytic;
pub use caching::{Counts, FirstArrivals, Outcome, Outcomes, Ranks};
pub use growth::{Growth, grow};
pub use signing::{Projection, compute_signature, signatures};
pub use simd::{Loops, simd_dispatch};
pub use substitution::{
    Buffers, Deviation, Match, MatchOptions, MatchQuality, PRODUCT_LANES, Quantiles, Substitutes, add_outer_products,
    add_products, add_scaled_rows, list_scales, match_quality,
};
pub use vectors::operand::{
    check_channels, count_sample_vectors, cuts, list_vector_lengths, simplify_granularity, views,
};
pub use vectors::padded::PaddedPlanes;
pub use vectors::peers::{draw, shuffle};
pub use vectors::{Cut, Layout, Planes, SampleRange, Stream, VectorView};

#[doc(hidden)] // For tests and benches.
pub use caching::Isa;
#[doc(hidden)] // For tests and benches.
pub use signing::{Kernel, signatures_with};
