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

pub mod analytic;
pub mod bounds;
mod centroids;
mod columns;
pub mod config;
mod cosine;
mod counts;
pub mod cpu;
mod deviation;
mod dots;
mod drawn;
mod equality;
mod growth;
mod kernel;
mod mcache;
mod operand;
mod outcomes;
mod peers;
mod pool;
mod projection;
mod quality;
mod repeated;
mod scan;
mod signatures;
mod strips;
mod substitute;
mod sums;
mod vectors;
mod widest;

pub use counts::Counts;
pub use deviation::Deviation;
pub use growth::Growth;
#[doc(hidden)] // For tests and benches.
pub use kernel::Kernel;
#[doc(hidden)] // For tests and benches.
pub use mcache::Isa;
pub use mcache::Outcome;
pub use operand::{cuts, vectors_of_sample, views};
pub use outcomes::{FirstArrivals, Outcomes, Ranks};
pub use peers::{draw, shuffle};
pub use projection::Projection;
pub use quality::{Match, MatchOptions, MatchQuality, Quantiles, match_quality};
#[doc(hidden)] // For tests and benches.
pub use signatures::signatures_with;
pub use signatures::{signature_of, signatures};
pub use substitute::{Buffers, Substitutes};
pub use sums::{PRODUCT_LANES, add_products, add_scaled_rows};
pub use vectors::{Cut, Layout, Planes, SampleRange, Stream, VectorView};
pub use widest::{Loops, simd_dispatch};
