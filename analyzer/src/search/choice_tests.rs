//! Tests of [`super`]: choices compared with trying everything.

use super::*;
use proptest::prelude::*;

fn problem() -> impl Strategy<Value = (Vec<Vec<Choice>>, Vec<f64>)> {
    (0usize..3).prop_flat_map(|limits| {
        let choice = (0u32..50, prop::collection::vec(0u32..20, limits)).prop_map(|(cost, weights)| Choice {
            cost: cost.into(),
            weights: weights.into_iter().map(f64::from).collect(),
        });
        let group = prop::collection::vec(choice, 1..5);
        let limit = prop::collection::vec((0u32..40).prop_map(f64::from), limits);
        (prop::collection::vec(group, 0..6), limit)
    })
}

/// The least cost by trying everything.
fn try_all(groups: &[Vec<Choice>], limits: &[f64]) -> Option<f64> {
    let Some((group, rest)) = groups.split_last() else {
        return limits.iter().all(|&limit| limit >= 0.0).then_some(0.0);
    };
    let costs = group.iter().filter_map(|choice| {
        let left: Vec<f64> = limits.iter().zip(&choice.weights).map(|(limit, weight)| limit - weight).collect();
        Some(choice.cost + try_all(rest, &left)?)
    });
    costs.reduce(f64::min)
}

proptest! {
    #[test]
    fn the_product_is_the_least_of_all(
        costs in prop::collection::vec(prop::collection::vec((1u32..50, 1u32..50, 0u32..9), 1..5), 1..5),
        limit in 0u32..20,
    ) {
        let number = |value: u32| f64::from(value);
        let mut weights: Vec<Vec<Vec<f64>>> =
            costs.iter().map(|group| group.iter().map(|option| vec![number(option.2)]).collect()).collect();
        for group in &mut weights {
            group[0][0] = 0.0;
        }
        let pairs: Vec<Vec<Vec<f64>>> =
            costs.iter().map(|group| group.iter().map(|option| vec![number(option.0), number(option.1)]).collect()).collect();
        let found = choose_product(&pairs, &weights, &[number(limit)]);
        let mut sums = vec![[0.0; 3]];
        for (group, weights) in pairs.iter().zip(&weights) {
            let options = || group.iter().zip(weights);
            let add = |sum: &[f64; 3]| options().map(|(cost, weight)| [sum[0] + cost[0], sum[1] + cost[1], sum[2] + weight[0]]).collect::<Vec<_>>();
            sums = sums.iter().flat_map(add).collect();
        }
        let within = sums.iter().filter(|sum| sum[2] <= number(limit));
        let least = within.map(|sum| sum[0] * sum[1]).fold(f64::INFINITY, f64::min);
        prop_assert!((found.cost - least).abs() < 1e-9, "{} {least}", found.cost);
    }

    #[test]
    fn the_choice_is_the_cheapest_of_all((groups, limits) in problem()) {
        let found = choose(&groups, &limits);
        let least = try_all(&groups, &limits);
        prop_assert_eq!(found.as_ref().map(|found| found.cost), least);
        if let Some(found) = found {
            prop_assert!(found.gap() <= 0.0);
            for (number, limit) in limits.iter().enumerate() {
                let sum: f64 = groups.iter().zip(&found.picks).map(|(group, &pick)| group[pick].weights[number]).sum();
                prop_assert!(sum <= *limit);
            }
        }
    }
}
