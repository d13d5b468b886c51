//! What stands for a vector that hits, and how far the result is from the exact one.

mod centroids;
mod columns;
mod deviation;
mod quality;
pub(crate) mod substitute;
mod sums;

pub use columns::list_scales;
pub use deviation::Deviation;
pub use quality::{Match, MatchOptions, MatchQuality, Quantiles, match_quality};
pub use substitute::{Buffers, Substitutes};
pub use sums::{PRODUCT_LANES, add_outer_products, add_products, add_scaled_rows};
