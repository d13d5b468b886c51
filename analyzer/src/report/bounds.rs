//! Bounds on reuse and competitors, compared with MERCURY over a model's forward passes.

use super::layers::{Row, read_cosine};
use crate::schema::{ColumnSpec, layers as columns};
use mercury_reuse::bounds::Sampled;
use mercury_trace::geometry::Pass;
use serde::Serialize;

/// A bound or competitor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bound {
    /// Name of the bound.
    pub name: String,
    /// The share of vectors or multiplications that it saves, 0 to 1.
    pub share: f64,
    /// 95 % interval, if the share is an estimate.
    pub interval: Option<[f64; 2]>,
    /// The share of the same quantity that MERCURY saves, 0 to 1.
    pub mercury: f64,
    /// The quantity of which these are shares: `vectors` or `multiplications`.
    pub of: &'static str,
}

/// Lists the bounds; empty if the replay left them out. `least_cosine` is the configuration's
/// `bounds.cosine`, `weight_bits` is `bounds.weight_bits`.
pub fn list_bounds(layers: &[Row], least_cosine: f64, weight_bits: f64) -> Vec<Bound> {
    let measured =
        |row: &&Row| row[columns::PASS.name] == Pass::Forward.name() && !row[columns::UNLIMITED_HIT.name].is_null();
    let rows: Vec<&Row> = layers.iter().filter(measured).collect();
    let sum = |column: ColumnSpec| rows.iter().filter_map(|row| row[column.name].as_f64()).sum::<f64>();
    let share = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
    let (vectors, hit) = (sum(columns::VECTORS), share(sum(columns::HIT), sum(columns::VECTORS)));
    let saved = share(sum(columns::MACS_SAVED_NET), sum(columns::MACS));
    if rows.is_empty() {
        return Vec::new();
    }
    let bound_vectors = |name: &str, column: ColumnSpec| {
        let (name, share) = (name.to_owned(), share(sum(column), vectors));
        Bound { name, share, interval: None, mercury: hit, of: "vectors" }
    };
    let bound_products =
        |name: String, share: f64| Bound { name, share, interval: None, mercury: saved, of: "multiplications" };
    let similar: Sampled = rows.iter().filter_map(|row| read_cosine(row)).sum();
    vec![
        bound_vectors("unlimited MCACHE", columns::UNLIMITED_HIT),
        Bound {
            name: format!("ideal similarity, cosine {least_cosine} or more"),
            share: similar.share().unwrap_or(0.0),
            interval: Some(similar.interval()).filter(|[low, high]| low < high),
            mercury: hit,
            of: "vectors",
        },
        bound_vectors("exact duplicates", columns::EXACT_DUPLICATE),
        bound_vectors("all-zero vectors skipped", columns::ZERO_VECTOR),
        bound_products(
            "every zero operand skipped".to_owned(),
            share(sum(columns::ZERO_OPERANDS), sum(columns::OPERANDS)),
        ),
        bound_products(
            format!("equal weights of {weight_bits} bits multiplied once"),
            share(
                sum(columns::MULTIPLICATIONS) - sum(columns::MULTIPLICATIONS_DISTINCT),
                sum(columns::MULTIPLICATIONS),
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(pass: &str, vectors: u64, hit: u64) -> Row {
        let json = json!({
            "pass": pass, "vectors": vectors, "hit": hit, "unlimited_hit": 2 * hit, "exact_duplicate": 0,
            "zero_vector": hit, "operands": 8, "zero_operands": 2, "cosine_sampled": vectors, "cosine_similar": 1,
            "multiplications": 10, "multiplications_distinct": 9, "macs": 100, "macs_saved_net": hit,
        });
        json.as_object().unwrap().clone()
    }

    #[test]
    fn shares_sum_the_forward_passes_of_all_layers() {
        let found = list_bounds(&[row("forward", 10, 1), row("forward", 30, 7), row("input-grad", 50, 50)], 0.9, 8.0);
        assert_eq!(found.iter().map(|bound| bound.share).collect::<Vec<_>>(), [0.4, 0.05, 0.0, 0.2, 0.25, 0.1]);
        let mercury: Vec<f64> = found.iter().map(|bound| bound.mercury).collect();
        assert_eq!(mercury, [0.2, 0.2, 0.2, 0.2, 0.04, 0.04]);
        assert!(found.iter().enumerate().all(|(place, bound)| (bound.of == "vectors") == (place < 4)));
        assert_eq!(list_bounds(&[], 0.9, 8.0), []);
    }
}
